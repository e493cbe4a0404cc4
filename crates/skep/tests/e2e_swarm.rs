//! The main job, as the README tells it: a swarm from one command, a service on it that every node
//! answers for, everything that its user does with it, and nothing left after.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use skep_testkit::home::{Home, eventually, fetch, finish};
use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;

const SKEP: &str = env!("CARGO_BIN_EXE_skep");
const LIMIT: Duration = Duration::from_secs(120);
const NAME: &str = "web.skep-test.example";

#[test]
fn a_newcomer_gets_a_swarm_uses_it_and_leaves_no_trace() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let home = Home::new(SKEP);

    // The first of the README's two commands: a service answers through every node.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/quickstart");
    let mut quickstart = Command::new(script);
    home.set_env(&mut quickstart);
    let said = finish(&mut quickstart);
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    let addresses = home.each_node("quickstart", "address");
    let pages: Vec<_> = addresses.iter().map(|it| format!("http://{it}:8080/  Hello")).collect();
    assert_eq!(pages.len(), 2);
    assert!(pages.iter().all(|page| said.stdout.contains(page)), "{}", said.stdout);

    // Doing it again changes nothing.
    let again = home.try_run("up quickstart -n 2");
    assert_eq!(
        (again.code, again.stderr.contains("start machine")),
        (0, false),
        "{}",
        again.stderr
    );
    assert_eq!(home.run("up quickstart --dry-run"), "nothing to do\n");

    a_way_in_for_every_habit(&home);
    a_name_answers_for_all(&home);
    logs_can_be_read(&home);
    only_who_has_a_certificate_gets_an_answer(&home, &addresses[0]);
    an_engine_that_crashes_comes_back(&home);
    stop_and_start_bring_back_the_same(&home, &addresses);
    nodes_come_and_go(&home);

    home.run("down quickstart -y");
    assert!(!home.cluster("quickstart").exists());
    assert_eq!(home.try_run("down quickstart -y").code, 0, "there is nothing to remove any more");
    host.assert_unchanged();
}

fn a_way_in_for_every_habit(home: &Home) {
    let said = home.try_run("ssh quickstart/node1 -- hostname; exit 7");
    assert_eq!((said.code, &*said.stdout), (7, "node1\n"), "{}", said.stderr);
    assert_eq!(home.run("ssh node1 sudo id -u"), "0\n");

    let file = home.path().join("there and back");
    std::fs::write(&file, "round trip").unwrap();
    home.run_args(["scp", file.to_str().unwrap(), "node1:/tmp/over here"]);
    home.run_args(["scp", "node1:/tmp/over here", "node0:/tmp/second"]);
    home.run_args(["scp", "quickstart/node0:/tmp/second", file.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "round trip");

    let nodes = home.run_args(["docker", "--", "node", "ls", "--format", "{{.Hostname}}"]);
    assert_eq!(nodes, "node0\nnode1\n");
    let said = home.try_run("docker -- service inspect no-such-service");
    assert_eq!(said.code, 1, "docker's own exit code is handed on");
    let env = home.run("env quickstart --shell bash");
    assert!(env.contains("export DOCKER_TLS_VERIFY=\"1\"\n"), "{env}");
}

fn a_name_answers_for_all(home: &Home) {
    home.run(&format!("hosts add {NAME} --node node1"));
    assert!(fetch(NAME, 8080).unwrap().starts_with("Hello from node"));
    assert!(home.run("hosts ls").contains(NAME));
    home.run(&format!("hosts rm {NAME}"));
    assert_eq!(fetch(NAME, 8080), None);
    // What is not removed by hand is removed with the cluster.
    home.run(&format!("hosts add {NAME}"));
}

fn logs_can_be_read(home: &Home) {
    assert!(home.run("logs node0").contains("services start"));
    assert!(home.run("logs node1 --service docker").contains("module=node"));
}

fn only_who_has_a_certificate_gets_an_answer(home: &Home, address: &str) {
    let certs = home.cluster("quickstart").join("certs");
    let url = format!("https://{address}:2376/_ping");
    let curl = |own: bool| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "20", "--cacert"]).arg(certs.join("ca.pem")).arg(&url);
        if own {
            curl.arg("--cert").arg(certs.join("cert.pem")).arg("--key").arg(certs.join("key.pem"));
        }
        finish(&mut curl)
    };
    assert_eq!(curl(true).stdout, "OK");
    let without = curl(false);
    assert!(without.code != 0 && without.stdout.is_empty(), "{without:?}");
}

fn an_engine_that_crashes_comes_back(home: &Home) {
    let pid = home.run("ssh node1 pidof dockerd");
    home.run(&format!("ssh node1 sudo kill -9 {pid}"));
    eventually("a new engine on node1", LIMIT, || {
        let said = home.try_run("docker --node node1 -- info --format {{.Swarm.LocalNodeState}}");
        let new = home.try_run("ssh node1 pidof dockerd").stdout;
        (said.stdout == "active\n" && new != pid).then_some(())
    });
}

fn stop_and_start_bring_back_the_same(home: &Home, addresses: &[String]) {
    let before = home.status("quickstart");
    home.run("docker -- volume create kept");
    home.run("stop quickstart");
    assert_eq!(home.each_node("quickstart", "machine"), ["stopped", "stopped"]);
    let said = home.try_run("logs node0 --service docker");
    assert!(said.code == 1 && said.stderr.contains("node0 does not run"), "{said:?}");
    home.run("start quickstart");
    assert_eq!(home.status("quickstart")["swarm_id"], before["swarm_id"]);
    assert_eq!(home.each_node("quickstart", "address"), addresses);
    assert!(home.run("docker -- volume ls -q").contains("kept"));
    for address in addresses {
        let page = eventually("the service after the start", LIMIT, || fetch(address, 8080));
        assert!(page.starts_with("Hello"), "{page}");
    }
}

fn nodes_come_and_go(home: &Home) {
    let added = home.run("node add --cold --label disk=fast --memory 768MiB");
    assert_eq!(added, "node2\n");
    let labels = "{{.Spec.Labels.disk}}";
    assert_eq!(home.run_args(["docker", "--", "node", "inspect", "node2", "-f", labels]), "fast\n");
    home.run("node kill node2");
    home.run("up quickstart");
    assert_eq!(home.each_node("quickstart", "swarm"), ["ready", "ready", "ready"]);
    home.run("node rm node2 -y");
    assert_eq!(home.run("docker -- node ls -q").lines().count(), 2);
    let said = home.try_run("node rm node0 -y");
    assert!(said.code == 1 && said.stderr.contains("no manager would stay"), "{}", said.stderr);
}
