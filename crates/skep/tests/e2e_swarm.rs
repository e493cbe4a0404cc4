//! The main job, as the README tells it: a swarm from one command, a service on it that every node
//! answers for, everything that its user does with it, and nothing left after.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use skep_testkit::home::{Home, Said, eventually, fetch, finish};
use skep_testkit::host::can_run_machines;
use skep_testkit::schema::assert_described;
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
    let made = ["boot", "fork template", "create disk"];
    let made = made.iter().any(|words| again.stderr.contains(words));
    assert_eq!((again.code, made), (0, false), "{}", again.stderr);
    assert_eq!(home.run("up quickstart --dry-run"), "nothing to do\n");

    what_programs_read_fits_its_schema(&home);
    machines_have_no_rights(&home);
    no_engine_is_started_for_a_hook(&home);
    a_way_in_for_every_habit(&home);
    a_name_answers_for_all(&home);
    logs_can_be_read(&home);
    who_drops_a_packet_is_named(&home);
    only_who_has_a_certificate_gets_an_answer(&home, &addresses[0]);
    what_is_handed_on_has_no_secrets(&home);
    an_engine_that_crashes_comes_back(&home);
    stop_and_start_bring_back_the_same(&home, &addresses);
    nodes_come_and_go(&home);

    home.run("down quickstart -y");
    assert!(!home.cluster("quickstart").exists());
    assert_eq!(home.try_run("down quickstart -y").code, 0, "there is nothing to remove any more");
    host.assert_unchanged();
}

/// Each JSON output of a swarm that runs, with what only an engine can tell.
fn what_programs_read_fits_its_schema(home: &Home) {
    for (schema, line) in [
        ("ls", "ls -o json"),
        ("status", "status quickstart --verify -o json"),
        ("image-ls", "image ls quickstart -o json"),
        ("certs-show", "certs show quickstart -o json"),
        ("stack-ls", "stack ls -c quickstart -o json"),
        ("firewall-check", "firewall check quickstart --format json"),
        ("dry-run", "node add -c quickstart --dry-run -o json"),
        ("dry-run", "node rm -c quickstart node1 --dry-run -o json"),
    ] {
        assert_described(schema, &home.run(line));
    }
    let config = home.path().join("config.yaml");
    std::fs::write(&config, home.run("config quickstart")).unwrap();
    let same = home.run(&format!("up quickstart -f {} --dry-run", config.display()));
    assert_eq!(same, "nothing to do\n", "what config prints is not what runs");
}

/// The program that tells the engine of a container's network is the small one, in the bundle of every task.
fn no_engine_is_started_for_a_hook(home: &Home) {
    let hooks = "sudo sh -c 'cd /run/containerd/io.containerd.runtime.v2.task/moby && \
                 grep -oh \"prestart.:[^,]*\" */config.json || true'";
    let said = |node| finish(&mut home.command(["ssh", node, "--", hooks])).stdout;
    let hooks = said("node0") + &said("node1");
    assert!(!hooks.is_empty(), "the service runs");
    for hook in hooks.lines() {
        assert_eq!(hook, r#"prestart":[{"path":"/run/skep/emulated/runtime""#);
    }
}

/// What runs guests is not root and not the other machine, starts nothing, and has no descriptor beside
/// those of its devices.
fn machines_have_no_rights(home: &Home) {
    let mut users = Vec::new();
    for node in ["node0", "node1"] {
        let machine = home.cluster("quickstart").join("machines").join(node);
        let note = std::fs::read_to_string(machine.join("process.json")).unwrap();
        let note: serde_json::Value = serde_json::from_str(&note).unwrap();
        let proc = Path::new("/proc").join(note["pid"].to_string());
        let status = std::fs::read_to_string(proc.join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
            line.unwrap_or_default().trim().to_owned()
        };
        for (name, value) in [("CapEff", "0000000000000000"), ("NoNewPrivs", "1"), ("Seccomp", "2")]
        {
            assert_eq!(field(name), value, "{name} of {node}");
        }
        users.push(field("Uid"));
        let others = std::fs::read_dir(proc.join("fd")).unwrap().flatten().filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            (target.starts_with("pipe:") || target.starts_with("/dev/pts")).then_some(target)
        });
        assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new(), "descriptors of {node}");
    }
    assert!(users[0] != users[1] && users.iter().all(|user| !user.starts_with('0')), "{users:?}");
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
    let last = home.run("logs --service docker -n 1 --since 24h");
    let nodes: Vec<_> = last.lines().filter_map(|line| line.split_once(" | ")).collect();
    assert_eq!(nodes.iter().map(|(node, _)| *node).collect::<Vec<_>>(), ["node0", "node1"]);
}

fn who_drops_a_packet_is_named(home: &Home) {
    let seen = home.run("status quickstart --verify");
    assert!(seen.contains(" resolves and reaches "), "{seen}");
    let said = home.try_run("firewall check quickstart");
    assert!(said.code == 0 && said.stdout.contains(" paths are open"), "{said:?}");
    let rule = "INPUT -p udp -m udp --dport 7946 -j DROP";
    home.run(&format!("ssh node1 sudo iptables -I {rule}"));
    let said = home.try_run("firewall check quickstart");
    home.run(&format!("ssh node1 sudo iptables -D {rule}"));
    let named = format!("node0 to node1, udp 7946: dropped on node1 by iptables -A {rule}\n");
    assert!(said.code == 1 && said.stdout.contains(&named), "{said:?}");
}

/// The engine's port answers clients of the cluster's authority and nobody else, seen from the host and
/// from a node; another authority in its place leaves a stolen certificate worth nothing.
fn only_who_has_a_certificate_gets_an_answer(home: &Home, address: &str) {
    let certs = home.cluster("quickstart").join("certs");
    let others = home.path().join("others");
    std::fs::create_dir(&others).unwrap();
    // A foreign one, by an authority that calls itself the same, and one of ours that has ended.
    make_client(&others, "foreign", &certs, Signed::ByAnother);
    make_client(&others, "ended", &certs, Signed::AndEnded);
    std::fs::copy(certs.join("ca.pem"), others.join("ca.pem")).unwrap();
    for file in ["cert.pem", "key.pem"] {
        std::fs::copy(certs.join(file), others.join(format!("stolen-{file}"))).unwrap();
    }
    let ask = |whose: Option<(&Path, &str)>| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "20", "-k"]).arg(format!("https://{address}:2376/_ping"));
        if let Some((dir, name)) = whose {
            curl.arg("--cert").arg(dir.join(format!("{name}cert.pem")));
            curl.arg("--key").arg(dir.join(format!("{name}key.pem")));
        }
        finish(&mut curl)
    };
    let refused = |who: &str, said: Said| {
        assert!(said.code != 0 && !said.stdout.contains("OK"), "{who}: {said:?}");
    };
    assert_eq!(ask(Some((&certs, ""))).stdout, "OK");
    refused("nobody", ask(None));
    refused("a foreign one", ask(Some((&others, "foreign-"))));
    refused("one that has ended", ask(Some((&others, "ended-"))));

    // From another node: docker is what every node has to ask with.
    home.run_args(["scp", "-r", others.to_str().unwrap(), "node1:/tmp/others"]);
    let from_node = |tls: &str| {
        let ask = format!(
            "docker -H tcp://{address}:2376 {tls} --tlscacert=/tmp/others/ca.pem ps && echo OK"
        );
        finish(&mut home.command(["ssh", "node1", "--", &ask]))
    };
    let with = |name: &str| {
        let file = |what: &str| format!("/tmp/others/{name}-{what}.pem");
        format!("--tls --tlscert={} --tlskey={}", file("cert"), file("key"))
    };
    assert!(from_node(&with("stolen")).stdout.contains("OK"), "it can be asked from there");
    refused("a foreign one, from a node", from_node(&with("foreign")));
    refused("one that has ended, from a node", from_node(&with("ended")));
    refused("nobody, from a node", from_node("--tls"));

    let running = || home.run("ssh node0 sudo docker ps --no-trunc --format {{.ID}}{{.State}}");
    let (before, pid) = (running(), home.run("ssh node0 pidof dockerd"));
    home.run("certs renew quickstart");
    assert_eq!(ask(Some((&others, "stolen-"))).stdout, "OK", "the authority is the same");
    home.run("certs rotate quickstart");
    refused("a stolen one", ask(Some((&others, "stolen-"))));
    refused("a stolen one, from a node", from_node(&with("stolen")));
    assert_eq!(ask(Some((&certs, ""))).stdout, "OK");
    assert_eq!(home.run("docker -- node ls -q").lines().count(), 2);
    assert_eq!((running(), home.run("ssh node0 pidof dockerd")), (before, pid), "all went on");
    assert_eq!(home.run("up quickstart --dry-run"), "nothing to do\n");
}

/// What is wrong with a client's certificate.
enum Signed {
    /// Its authority has the cluster's name and another key.
    ByAnother,
    /// Its time is over.
    AndEnded,
}

/// Makes a client's certificate in the name of a cluster's authority.
fn make_client(dir: &Path, name: &str, certs: &Path, signed: Signed) {
    use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};
    let text = |name: &str| std::fs::read_to_string(certs.join(name)).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut client = CertificateParams::default();
    let signer = match signed {
        Signed::ByAnother => KeyPair::generate().unwrap(),
        Signed::AndEnded => {
            client.not_before = date_time_ymd(2020, 1, 1);
            client.not_after = date_time_ymd(2021, 1, 1);
            KeyPair::from_pem(&text("ca-key.pem")).unwrap()
        }
    };
    let issuer = Issuer::from_ca_cert_pem(&text("ca.pem"), signer).unwrap();
    let cert = client.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join(format!("{name}-cert.pem")), cert.pem()).unwrap();
    std::fs::write(dir.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
}

/// What is packed for somebody who is to help has no key, token or password in it.
fn what_is_handed_on_has_no_secrets(home: &Home) {
    let token = home.run("docker -- swarm join-token -q worker");
    let known = "hunter2-of-the-test";
    let say = format!("echo POSTGRES_PASSWORD={known} {} | sudo tee /dev/console", token.trim());
    home.run_args(["ssh", "node0", "--", &say]);
    eventually("the console's log", LIMIT, || home.run("logs node0").contains(known).then_some(()));
    let file = home.path().join("bundle.tar.gz");
    home.run_args(["support-bundle", "quickstart", "-o", file.to_str().unwrap()]);
    let all = finish(Command::new("tar").arg("-xzOf").arg(&file)).stdout;
    for part in ["\"checks\"", "services start", "module=node", "nothing to do", "node0"] {
        assert!(all.contains(part), "{part} is missing");
    }
    for secret in [known, token.trim(), "PRIVATE KEY"] {
        assert!(!all.contains(secret), "{secret} is in it");
    }
    let certs = home.cluster("quickstart").join("certs");
    for key in ["ca-key.pem", "key.pem", "id_rsa"] {
        let text = std::fs::read_to_string(certs.join(key)).unwrap();
        let lines = text.lines().filter(|line| line.len() > 15 && !line.starts_with('-'));
        assert!(lines.clone().count() > 0);
        lines.for_each(|line| assert!(!all.contains(line), "{key} is in it"));
    }
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
    assert!(said.code == 1 && said.stderr.contains("node0 is not running"), "{said:?}");
    home.run("start quickstart --no-verify");
    assert_eq!(home.status("quickstart")["swarm_id"], before["swarm_id"]);
    assert_eq!(home.each_node("quickstart", "address"), addresses);
    assert!(home.run("docker -- volume ls -q").contains("kept"));
    for address in addresses {
        let page = eventually("the service after the start", LIMIT, || fetch(address, 8080));
        assert!(page.starts_with("Hello"), "{page}");
    }
}

fn nodes_come_and_go(home: &Home) {
    let added = home.run("node add --cold --label disk=fast --memory 768MiB --no-verify");
    assert_eq!(added, "node2\n");
    let labels = "{{.Spec.Labels.disk}}";
    assert_eq!(home.run_args(["docker", "--", "node", "inspect", "node2", "-f", labels]), "fast\n");
    home.run("node kill node2");
    home.run("up quickstart --no-verify");
    assert_eq!(home.each_node("quickstart", "swarm"), ["ready", "ready", "ready"]);
    home.run("node rm node2 -y");
    assert_eq!(home.run("docker -- node ls -q").lines().count(), 2);
    let said = home.try_run("node rm node0 -y");
    assert!(
        said.code == 1 && said.stderr.contains("this would remove the last manager"),
        "{}",
        said.stderr
    );
}
