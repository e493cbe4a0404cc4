//! Several clusters on one host, made at the same time, know nothing of each other.

use std::thread;

use skep_testkit::home::{Home, finish};
use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;

#[test]
fn two_clusters_side_by_side() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let home = Home::new(env!("CARGO_BIN_EXE_skep"));
    thread::scope(|scope| {
        for line in ["up one -n 1", "up two -n 1 --hostname two.skep-test.example"] {
            let home = &home;
            scope.spawn(move || home.run(line));
        }
        // A second skep for the same cluster waits for the first, and finds nothing to do.
        scope.spawn(|| home.run("up one -n 1"));
    });

    let addresses: Vec<_> =
        ["one", "two"].map(|name| home.each_node(name, "address").remove(0)).into();
    assert_ne!(addresses[0], addresses[1]);
    let swarms = ["one", "two"].map(|name| home.status(name)["swarm_id"].clone());
    assert_ne!(swarms[0], swarms[1]);
    let list = home.run("ls");
    assert!(list.contains("one") && list.contains("two"), "{list}");

    let said = home.try_run("ssh node0 true");
    assert_eq!(said.code, 2, "which node0 is meant cannot be told");
    assert!(said.stderr.contains("one, two"), "{}", said.stderr);
    let said = home.try_run(&format!("up third --dry-run --subnet {}", subnet(&home, "one")));
    assert!(said.code == 2 && said.stderr.contains("cluster one uses"), "{}", said.stderr);

    // One certificate opens one cluster.
    let mut docker = home.command(["docker", "--cluster", "one", "--", "version"]);
    docker.env("DOCKER_CONFIG", home.path());
    assert_eq!(finish(&mut docker).code, 0);
    let certs = home.cluster("one").join("certs");
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "-k", "--max-time", "20"])
        .arg(format!("https://{}:2376/_ping", addresses[1]));
    curl.arg("--cert").arg(certs.join("cert.pem")).arg("--key").arg(certs.join("key.pem"));
    let foreign = finish(&mut curl);
    assert!(foreign.code != 0 && foreign.stdout.is_empty(), "{foreign:?}");

    home.run("down one -y");
    assert_eq!(home.each_node("two", "swarm"), ["ready"]);
    assert_eq!(home.run("docker -- node ls --format {{.Status}}"), "Ready\n");
    home.run("down two -y");
    host.assert_unchanged();
}

fn subnet(home: &Home, cluster: &str) -> String {
    home.status(cluster)["subnet"].as_str().unwrap().to_owned()
}
