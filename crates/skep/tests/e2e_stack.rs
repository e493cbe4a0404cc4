//! Stacks: deployed and waited for, refused with the reason, and gone from every node.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use skep_testkit::home::{Home, Said, fetch, finish};
use skep_testkit::host::can_run_machines;
use skep_testkit::schema::assert_described;
use skep_testkit::traces::Traces;

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

const SHOP: &str = r#"
version: "3.8"
services:
  web:
    image: "${IMAGE}"
    command: [/bin/busybox, httpd, -f, -p, "80", -h, /www]
    stop_grace_period: 1s
    ports: ["${PORT}:80"]
    configs: [{source: page, target: /www/index.html}]
    secrets: [{source: key, mode: 0400}]
    deploy: {replicas: 2}
  data:
    image: "${IMAGE}"
    command: [/bin/busybox, sh, -c, "while echo tick $$(/bin/busybox date); do /bin/busybox sleep 1; done"]
    stop_grace_period: 1s
    # What stacks take for granted of a host: its time zone, mounts that are seen later, names of logs.
    volumes: ["/etc/localtime:/etc/localtime:ro", "/etc/timezone:/etc/timezone:ro", "/var/log/audit:/audit", "/mnt:/mnt:rslave"]
    logging: {options: {tag: "{{.Name}}"}}
    deploy: {placement: {constraints: ["node.labels.tier==data"]}}
configs:
  page: {file: ./page.html}
secrets:
  key: {file: ./key}
"#;

const MORE: &str = r#"
version: "3.8"
services:
  data: {environment: {GREETING: "${GREETING}"}}
"#;

/// What will never run.
const ODD: &str = r#"
version: "3.8"
services:
  nowhere:
    image: "${IMAGE}"
    deploy: {placement: {constraints: ["node.labels.tier==gpu"]}}
"#;

/// What will never run either; that shows later.
const UNKNOWN: &str = r#"
version: "3.8"
services:
  unknown:
    image: no-such-registry.invalid/nothing:1
    deploy: {restart_policy: {delay: 1s}}
"#;

/// What comes to its end, and what cannot start until somebody makes a directory.
const ONCE: &str = r#"
version: "3.9"
services:
  job:
    image: "${IMAGE}"
    command: [/bin/busybox, "true"]
    deploy: {mode: replicated-job, replicas: 1}
  init:
    image: "${IMAGE}"
    command: [/bin/busybox, "true"]
    deploy: {restart_policy: {condition: on-failure}}
  mend:
    image: "${IMAGE}"
    command: [/bin/busybox, sleep, "100000"]
    stop_grace_period: 1s
    volumes: ["/srv/mend:/mend"]
    deploy: {restart_policy: {condition: none}, placement: {constraints: ["node.role==manager"]}}
"#;

/// What is wanted on a node that loses its power while it is deployed.
const DYING: &str = r#"
version: "3.8"
services:
  data:
    image: "${IMAGE}"
    command: [/bin/busybox, sleep, "100000"]
    stop_grace_period: 1s
    deploy: {placement: {constraints: ["node.labels.tier==data"]}}
"#;

const CRASHING: &str = r#"
version: "3.8"
services:
  api:
    image: "${IMAGE}"
    command: [/bin/busybox, sh, -c, "echo cannot reach the database; exit 7"]
    deploy: {restart_policy: {delay: 1s}}
"#;

#[test]
fn a_stack_is_deployed_or_refused_with_the_reason_and_removed_whole() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let home = Home::new(SKEP);
    home.run("up shop -n 2 --label tier=data@node1 --no-verify");
    let addresses = home.each_node("shop", "address");
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).unwrap();
    let image = put_image(&home, files.path());
    write("shop.yml", SHOP);
    write("more.yml", MORE);
    write("odd.yml", ODD);
    write("unknown.yml", UNKNOWN);
    write("crashing.yml", CRASHING);
    write("dying.yml", DYING);
    write("once.yml", ONCE);
    write(".env", &format!("IMAGE={image}\nPORT=8080\nGREETING=good day # to all\n"));
    write("page.html", "Hello from the shop");
    let stack = |line: &str| {
        let mut command = home.command(["stack"].into_iter().chain(line.split_whitespace()));
        finish(command.current_dir(files.path()))
    };
    let deploy =
        |rest: &str| stack(&format!("deploy --resolve-image never --env-file .env {rest}"));

    // What is wrong is told before anything is made.
    write("wrong.yml", "version: \"3.8\"\nservices:\n  web: {imagge: x}\n");
    let said = deploy("-c wrong.yml shop");
    assert_eq!(
        (said.code, &*said.stdout, &*said.stderr),
        (1, "", "services.web Additional property imagge is not allowed\n")
    );
    let said = deploy("-c shop.yml shop");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.stderr.contains("secret key: cannot read") && said.stderr.contains("/key: No such")
    );
    assert!(!home.run("docker -- network ls").contains("shop_"), "something was made");

    write("key", "secret");
    let said = deploy("-v -c shop.yml -c more.yml shop");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("shop_web: ok 2/2 on node0, node1"), "{}", said.stderr);
    assert!(said.stderr.contains("stack shop: 2 services have converged"), "{}", said.stderr);
    for address in &addresses {
        assert_eq!(fetch(address, 8080).as_deref(), Some("Hello from the shop"));
    }
    let env = "{{.Spec.TaskTemplate.ContainerSpec.Env}}";
    let env = home.run_args(["docker", "--", "service", "inspect", "shop_data", "-f", env]);
    assert_eq!(env, "[GREETING=good day]\n");
    lists_tell_of_it(&home);
    logs_and_events_tell_of_it(&home);
    refusals_tell_why(&deploy, &home);

    // Swarm changes no config. No registry is asked for what was loaded, so docker does not warn either.
    write("page.html", "The shop has moved");
    let again = |number: u32| {
        import(&home, files.path(), number);
        let mut deploy = home.command(["stack", "deploy", "-v", "--env-file", ".env"]);
        deploy.args(["-c", "shop.yml", "-c", "more.yml", "shop"]).env("IMAGE", "app:1");
        let said = finish(deploy.current_dir(files.path()));
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert_eq!(numbers(&home), [format!("NUMBER={number}")].into());
        said
    };
    let said = again(1);
    assert!(said.stderr.contains("config shop_page has changed"), "{}", said.stderr);
    assert!(!said.stderr.contains("registry"), "{}", said.stderr);
    assert!(!said.stderr.contains("as it was loaded last"), "{}", said.stderr);
    for address in &addresses {
        assert_eq!(fetch(address, 8080).as_deref(), Some("The shop has moved"));
    }
    // The same name is another image now, of which neither the file nor the swarm knows.
    let said = again(2);
    let started = said.stderr.lines().filter(|line| line.contains("as it was loaded last"));
    assert_eq!(started.count(), 2, "{}", said.stderr);

    for (stacks, left) in [("rm odd strange crashing once", "shop"), ("rm shop", "")] {
        let said = stack(stacks);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert_eq!(home.run("stack ls -o json").contains("\"shop\""), !left.is_empty());
    }
    for node in ["node0", "node1"] {
        for what in ["ps -aq", "network ls -q"] {
            let filter = "--filter label=com.docker.stack.namespace";
            let left = home.run(&format!("docker --node {node} -- {what} {filter}"));
            assert_eq!(left, "", "{what} on {node}");
        }
    }
    let said = stack("rm shop");
    assert_eq!((said.code, said.stderr.contains("has no stack shop")), (2, true), "{said:?}");
    let mut deploying = home.command(["stack", "deploy", "-v", "--resolve-image", "never"]);
    deploying.args(["--env-file", ".env", "-c", "dying.yml"]);
    deploying.args(["--timeout", "45s", "dying"]).current_dir(files.path());
    a_node_that_dies_meanwhile_is_named(&home, deploying);
    assert_eq!(deploy("-c dying.yml dying").code, 0, "the same command goes on");
    home.run("down shop -y");
    host.assert_unchanged();
}

fn a_node_that_dies_meanwhile_is_named(home: &Home, mut deploying: Command) {
    let mut deploying = deploying.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(deploying.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Creating service dying_data") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    home.cut_power("shop", "node1");
    stderr.read_to_string(&mut said).unwrap();
    let status = deploying.wait().unwrap();
    assert_eq!(status.code(), Some(4), "{said}");
    for words in ["node1 is down", "dying_data: 0/1", "try: skep status  # skep up starts"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    home.run("up shop --no-verify");
}

fn lists_tell_of_it(home: &Home) {
    assert_eq!(home.run("stack ls"), "STACK   SERVICES   CONVERGED\nshop    2          2\n");
    let tasks: serde_json::Value =
        serde_json::from_str(&home.run("stack ps shop -o json")).unwrap();
    let tasks = tasks["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 3);
    assert_eq!((&tasks[0]["name"], &tasks[0]["node"]), (&"shop_data.1".into(), &"node1".into()));
    assert!(home.run("stack ps shop -o yaml").contains("    state: \"running\"\n"));
    assert!(home.run("stack ps shop").contains("8080->80/tcp"));
}

fn logs_and_events_tell_of_it(home: &Home) {
    let log = home.run("stack logs shop data -n 5 --no-task-ids");
    let all = log.lines().all(|line| line.starts_with("shop_data.1@node1 | tick "));
    assert!(all && (1..=5).contains(&log.lines().count()), "{log}");
    let said = home.try_run("stack logs shop nothing");
    assert!(said.code == 2 && said.stderr.contains("it has"), "{said:?}");
    let events = home.run("events --since 1h --until now -o json");
    let events: Vec<_> =
        events.lines().map(|line| assert_described("cluster-event", line)).collect();
    let happened = |kind: &str, action: &str| {
        events.iter().any(|it| it["type"] == kind && it["action"] == action)
    };
    for (kind, action) in
        [("service", "create"), ("task", "running"), ("container", "start"), ("node", "update")]
    {
        assert!(happened(kind, action), "{kind} {action} is not in {events:#?}");
    }
}

fn refusals_tell_why(deploy: &dyn Fn(&str) -> Said, home: &Home) {
    let said = deploy("-c odd.yml odd");
    assert_eq!(said.code, 1, "{}", said.stderr);
    for words in [
        "odd_nowhere: 0/1; odd_nowhere.1: no node meets node.labels.tier==gpu: \
         node.labels.tier is data on node1",
        "skep node label KEY=VALUE@NODE",
    ] {
        assert!(said.stderr.contains(words), "{words} is not in {}", said.stderr);
    }
    let said = deploy("-c unknown.yml strange");
    assert_eq!(said.code, 1, "{}", said.stderr);
    let words = "there is no image no-such-registry.invalid/nothing:1 on the node";
    assert!(said.stderr.contains(words), "{words} is not in {}", said.stderr);

    let said = deploy("-c once.yml once");
    assert_eq!(said.code, 1, "{}", said.stderr);
    for words in ["bind source path does not exist: /srv/mend", "service update --force once_mend"]
    {
        assert!(said.stderr.contains(words), "{words} is not in {}", said.stderr);
    }
    assert!(!said.stderr.contains("\n  once_init"), "it is done: {}", said.stderr);
    home.run_args(["ssh", "node0", "--", "sudo", "mkdir", "/srv/mend"]);
    // What was given up is started again, and the job comes to its end a second time.
    let said = deploy("-v -c once.yml once");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("once_job: ok 1/1"), "{}", said.stderr);

    let said = deploy("-c crashing.yml --timeout 45s crashing");
    assert_eq!(said.code, 4, "{}", said.stderr);
    for words in ["api.1 on node", "its container ended with code 7", "cannot reach the database"] {
        assert!(said.stderr.contains(words), "{words} is not in {}", said.stderr);
    }

    let said = deploy("-c shop.yml other");
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert!(said.stderr.contains("port '8080' is already in use by service 'shop_web'"));
    assert_eq!(home.try_run("stack rm other").code, 0);
}

/// Gives all nodes an image of the name app:1 that has a number.
fn import(home: &Home, dir: &Path, number: u32) {
    for node in ["node0", "node1"] {
        let change = format!("ENV NUMBER={number}");
        let mut import = home.command(["docker", "--node", node, "--", "import"]);
        import.args(["--change", &change, "-", "app:1"]);
        let archive = std::fs::File::open(dir.join("image.tar")).unwrap();
        assert_eq!(finish(import.stdin(Stdio::from(archive))).code, 0);
    }
}

/// Returns the numbers of the images that the shop's containers run.
fn numbers(home: &Home) -> BTreeSet<String> {
    let inspect = "docker ps -q --filter label=com.docker.stack.namespace=shop | \
        xargs docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' | grep ^NUMBER";
    let nodes = ["node0", "node1"].map(|node| home.run_args(["ssh", node, inspect]));
    nodes.concat().lines().map(str::to_owned).collect()
}

/// Puts an image of a static busybox on all nodes and returns its ID: there is no registry.
fn put_image(home: &Home, dir: &Path) -> String {
    let root = dir.join("root");
    for folder in ["bin", "www", "tmp"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let mut copy = home.command(["ssh", "node0", "cat $(command -v busybox)"]);
    let busybox = copy.output().unwrap().stdout;
    std::fs::write(root.join("bin/busybox"), busybox).unwrap();
    let chmod = Command::new("chmod").arg("755").arg(root.join("bin/busybox")).status();
    assert!(chmod.unwrap().success());
    let archive = dir.join("image.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&root).args(["--owner=0", "--group=0", "-cf"]).arg(&archive).arg(".");
    assert!(tar.status().unwrap().success());
    let input = |path: &Path| Stdio::from(std::fs::File::open(path).unwrap());
    let mut import = home.command(["docker", "--", "import", "-", "busybox"]);
    let said = finish(import.stdin(input(&archive)));
    assert_eq!(said.code, 0, "{}", said.stderr);
    let saved = dir.join("saved.tar");
    let mut save = home.command(["docker", "--", "save", "busybox"]);
    std::fs::write(&saved, save.output().unwrap().stdout).unwrap();
    let mut load = home.command(["docker", "--node", "node1", "--", "load"]);
    assert_eq!(finish(load.stdin(input(&saved))).code, 0);
    said.stdout.trim().to_owned()
}
