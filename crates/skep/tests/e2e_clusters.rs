//! Several clusters on one host, made at the same time, know nothing of each other. They are made as they are under KVM,
//! by which QEMU does not emulate: stock guests, copies without the emulator's process, KVM's time limits, an overlay verified.

use std::thread;

use std::time::Instant;

use skep_testkit::home::{Home, finish};
use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;

#[test]
fn two_clusters_side_by_side() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    // Six times KVM's limits: this may be slower than its slowest host.
    let home = Home::new(env!("CARGO_BIN_EXE_skep")).on_kvms_path(6);
    thread::scope(|scope| {
        let lines =
            ["up one -v -n 2 --cpus 2", "up two -n 1 --cpus 2 --hostname two.skep-test.example"];
        let [one, _] = lines.map(|line| {
            let home = &home;
            scope.spawn(move || home.try_run(line))
        });
        // Of two skeps for the same cluster one waits for the other, and finds nothing to do.
        let same = scope.spawn(|| home.try_run("up one -v -n 2 --cpus 2"));
        let both = [one, same].map(|run| run.join().unwrap());
        let said = both.each_ref().map(|said| said.stderr.as_str()).concat();
        assert_eq!(both.map(|said| said.code), [0, 0], "{said}");
        assert_eq!(said.matches(" resolves and reaches ").count(), 1, "an overlay: {said}");
        assert!(!said.contains("cannot be forked"), "{said}");
    });
    assert_eq!(home.each_node("two", "swarm"), ["ready"]);
    guests_are_stock(&home);
    a_container_has_its_time_to_stop(&home);

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

/// Nothing that saves an emulator work is in a guest: not in its files, nor in what runs.
fn guests_are_stock(home: &Home) {
    let inside = |line: &str| finish(&mut home.command(["ssh", "two/node0", "--", line])).stdout;
    assert_eq!(inside("nproc"), "2\n");
    assert_eq!(inside("cat /proc/cmdline"), "console=ttyS0 loglevel=5 root=/dev/vda rw\n");
    // dpkg names what differs from the package.
    let programs =
        inside("sudo dpkg -V runc containerd docker.io | grep -E '/s?bin/'; command -v runc");
    assert_eq!(programs, "/usr/sbin/runc\n");
    let run = "sudo docker run -d --name hooked --entrypoint /bin/busybox skep/probe:latest sleep 1000 && \
               sudo sh -c 'grep -oh \"prestart.:.{.path.:[^,]*\" \
               /run/containerd/io.containerd.runtime.v2.task/moby/*/config.json' && sudo docker rm -f hooked";
    let said = inside(run);
    let hooks: Vec<_> = said.lines().filter(|line| line.contains("prestart")).collect();
    assert!(!hooks.is_empty(), "{said}");
    for hook in hooks {
        assert!(hook.contains("\"path\":\"/proc/") && hook.ends_with("/exe\""), "{hook}");
    }
    let search = "sudo find /usr /etc /opt /var/lib/skep -type f -perm -u+x '(' -name runc -o -name sealed -o -name runtime ')'; \
                  sudo find /run/skep -name runc -o -name emulated; \
                  sudo sh -c 'ls -l /proc/$(pidof containerd)/fd | grep memfd'";
    assert_eq!(inside(search), "/usr/sbin/runc\n");
}

/// A container that takes 15 of its 20 seconds to stop has written its last word when its node stops.
fn a_container_has_its_time_to_stop(home: &Home) {
    let script = "trap '/bin/busybox sleep 15; echo saved >/data/word; exit 0' TERM; \
                  while :; do /bin/busybox sleep 1; done";
    let docker = |words: &[&str]| {
        let docker = ["docker", "--cluster", "two", "--"];
        home.run_args(docker.iter().chain(words).copied())
    };
    let shell = ["-v", "kept:/data", "--entrypoint", "/bin/busybox", "skep/probe:latest"];
    let how = ["run", "-d", "--name", "slow", "--stop-signal", "TERM", "--stop-timeout", "20"];
    docker(&[&how[..], &shell, &["sh", "-c", script]].concat());
    let began = Instant::now();
    let said = home.try_run("stop two");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(!said.stderr.contains("was killed"), "{}", said.stderr);
    assert!(began.elapsed().as_secs() >= 15, "it was stopped before its time");
    home.run("start two --no-verify");
    let said = docker(&[&["run", "--rm"], &shell[..], &["cat", "/data/word"]].concat());
    assert_eq!(said, "saved\n");
    assert_eq!(docker(&["inspect", "slow", "-f", "{{.State.ExitCode}}"]), "0\n");
}

fn subnet(home: &Home, cluster: &str) -> String {
    home.status(cluster)["subnet"].as_str().unwrap().to_owned()
}
