//! What the command line says: its reference, and the answers to what cannot be done, each with its
//! exit code. No machine is started here.

use std::fmt::Write as _;
use std::io::{BufRead as _, Read as _};
use std::process::{Command, Stdio};

use clap::CommandFactory;
use skep_testkit::home::{Home, finish, record};
use skep_testkit::host::is_root;
use skep_testkit::records::{put_cluster, put_cluster_with};

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

/// Every command with its help, so that a change of the command line is seen in review.
#[test]
fn reference() {
    let mut text = String::new();
    let mut root = skep::cli::Cli::command();
    root.build();
    describe(&mut root, &mut text);
    insta::assert_snapshot!(text);
}

fn describe(command: &mut clap::Command, text: &mut String) {
    let help = command.render_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    let title = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    writeln!(text, "## {title}\n\n{}\n", lines.join("\n")).unwrap();
    for inner in command.get_subcommands_mut().filter(|it| it.get_name() != "help") {
        describe(inner, text);
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let home = Home::new(SKEP);
    let page = home.run("man");
    assert!(
        page.contains(".TH skep 1") && page.contains("Create a commented cluster file"),
        "{page}"
    );
    let dir = home.path().join("man/man1");
    let said = home.try_run(&format!("man {}", dir.display()));
    assert!(said.stderr.contains("try: mkdir -p"), "{}", said.stderr);
    std::fs::create_dir_all(&dir).unwrap();
    home.run(&format!("man {}", dir.display()));
    let page = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert!(page("skep-node-add.1").contains("memory"));
    let mut root = skep::cli::Cli::command();
    root.build();
    for command in root.get_subcommands().filter(|it| it.get_name() != "help") {
        assert!(page(&format!("skep-{}.1", command.get_name())).starts_with(".ie"), "{command}");
    }
    assert_eq!(home.run("version"), format!("skep {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_words_are_told_before_anything_is_touched() {
    let home = Home::new(SKEP);
    let mut text = String::new();
    for line in [
        "",
        "upp",
        "up -n 0",
        "up Bad_Name",
        "up -n 3 --workers 1",
        "up --memory 1",
        "up --cpus 0",
        "up --memory 64MiB --disk 1MiB",
        "up -n 300 --subnet 10.5.0.0/24",
        "up --subnet 8.8.8.0/24",
        "up --subnet 10.5.0.1/24",
        "up --label novalue --label a=b@node9 --hostname bad_name -d xhyve",
        "up --driver-args=--kvm-network=x",
        "up --timeout 5x",
        "up -f missing.yaml",
        "up --hostname a.example@node7",
        "ssh",
        "ssh ../node1",
        "status nobody",
        "ssh nobody/node0",
        "stop",
        "scp a b",
        "node rm node0",
        "logs node0 --service nginx",
        "completions tclsh",
        "firewall show --for node --backend ufw",
        "firewall show --for node --backend firewalld --interface eth0 --format script",
        "firewall apply --source 10.1.0.0/24",
        "firewall apply --for node --source 10.1.0.1/24",
        "firewall apply --for node --source 0.0.0.0/0",
        "firewall apply --for node --interface eth0;",
        "firewall remove --node node0",
        "firewall check",
    ] {
        record(&mut text, line, &home.try_run(line), &home);
    }
    insta::assert_snapshot!(text);
    assert_eq!(home.path().read_dir().unwrap().count(), 0, "something was touched");
}

#[test]
fn a_variable_that_is_set_and_empty_counts_as_unset() {
    let home = Home::new(SKEP);
    put_cluster(&home);
    for line in ["config", "up demo --dry-run"] {
        let mut command = home.command(line.split(' '));
        for name in ["SKEP_CLUSTER", "SKEP_NET", "SKEP_ACCEL"] {
            command.env(name, "");
        }
        let said = finish(&mut command);
        assert_eq!(said.code, 0, "{line}: {}", said.stderr);
    }
}

#[test]
fn a_command_of_another_tool_leads_to_the_one_that_is_meant() {
    let home = Home::new(SKEP);
    let mut text = String::new();
    for line in ["ps", "inspect", "info", "scale", "stop demo node1", "crate", "node ps"] {
        record(&mut text, line, &home.try_run(line), &home);
    }
    insta::assert_snapshot!(text);
    assert_eq!(home.run("list"), home.run("ls"));
}

#[test]
fn an_even_number_of_managers_is_allowed_with_the_reason_why_not() {
    let home = Home::new(SKEP);
    let said = home.try_run("up --managers 2 --workers 0 --dry-run");
    assert_eq!(said.code, 0, "{}", said.stderr);
    insta::assert_snapshot!(said.stderr);
}

#[test]
fn a_file_that_is_wrong_is_told_whole() {
    let home = Home::new(SKEP);
    let file = home.path().join("skep.yaml");
    std::fs::write(&file, "name: a b\nnodez: 1\nnode:\n  memory: lots\n  memroy: 1GiB\n").unwrap();
    let mut text = String::new();
    let said = home.try_run(&format!("up -f {}", file.display()));
    record(&mut text, "up -f skep.yaml", &said, &home);
    insta::assert_snapshot!(text);
}

#[test]
fn a_host_that_is_not_ready_is_told_what_is_missing() {
    let home = Home::new(SKEP);
    let mut bare = home.command(["up", "demo"]);
    let said = skep_testkit::home::finish(bare.env("PATH", "/nowhere"));
    assert_eq!(said.code, 3, "{}", said.stderr);
    assert!(said.stderr.contains("qemu-system-x86_64"), "{}", said.stderr);
    assert!(said.stderr.contains("apt-get install"), "{}", said.stderr);
    assert!(!home.cluster("demo").exists());
}

#[test]
fn what_another_process_is_about_to_change_is_no_reason_to_refuse() {
    if !skep_testkit::host::can_run_machines() {
        return;
    }
    let home = Home::new(SKEP);
    put_cluster(&home);
    // As when two clusters are created at the same moment, and choose the same subnet at first.
    put_cluster_with(&home, |record| {
        record.name = "other".parse().unwrap();
        record.network.bridge = "skep-other".into();
    });
    let refused = |said: &skep_testkit::home::Said| {
        said.code == 2 && said.stderr.contains("overlaps 10.5.0.0/24, which cluster other uses")
    };
    let said = home.try_run("up demo --no-verify");
    assert!(refused(&said) && !said.stderr.contains("waiting for"), "{said:?}");

    let file = home.path().join("clusters/demo.lock");
    let mut holder = Command::new("flock");
    holder.arg(&file).args(["sh", "-c", "echo held; read line"]);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let up = home.command(["up", "demo", "--no-verify"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut up = up;
    let mut told = std::io::BufReader::new(up.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("waiting for") {
        assert!(told.read_line(&mut said).unwrap() > 0, "it does not wait: {said}");
    }
    // The other one ends, and now it counts.
    drop(holder.stdin.take());
    holder.wait().unwrap();
    told.read_to_string(&mut said).unwrap();
    let code = up.wait().unwrap().code().unwrap();
    let said = skep_testkit::home::Said { code, stdout: String::new(), stderr: said };
    assert!(refused(&said), "{said:?}");
}

#[test]
fn a_stopped_cluster_is_listed_and_not_removed_without_a_word() {
    let home = Home::new(SKEP);
    put_cluster(&home);
    let mut text = String::new();
    for line in [
        "ls",
        "status demo",
        "stop demo",
        "down demo",
        "node rm node1",
        "node add node1",
        "ssh node7",
        "docker -- ps",
        "logs node0",
        "logs node0 --service docker",
        "hosts ls",
        "hosts add --node node9 a.example",
        "up demo --subnet 10.6.0.0/24",
        "up other --dry-run --subnet 10.5.0.0/16",
        "up demo --disk 2GiB",
        "env demo --shell fish",
    ] {
        record(&mut text, line, &home.try_run(line), &home);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn lists_are_printed_as_dockers_users_expect() {
    let home = Home::new(SKEP);
    put_cluster(&home);
    let mut text = String::new();
    for line in [
        "ls -q",
        "ls --format {{.Name}}:{{.Bridge}}",
        "node ls -q",
        "-q node ls",
        "node ls -o name",
        "node ls -o wide",
        "node ls --format {{.Hostname}}|{{.Status}}|{{.Availability}}|{{.ManagerStatus}}",
        "node ls --format {{.Nme}}",
        "certs show -q",
        "hosts ls --format {{json}}",
        "image ls --format {{.Image}}",
        "image ls -o name",
        "stack ls --format {{.Nme}}",
        "stack ps shop --format tabel",
        "stack services shop -o name --format json",
    ] {
        record(&mut text, line, &home.try_run(line), &home);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_damaged_or_newer_state_is_refused_and_still_removed() {
    let mut text = String::new();
    for (what, content) in [
        ("a damaged cluster", "{\"format\": 1, \"name\":"),
        ("a cluster of a newer skep", "{\"format\": 99, \"hives\": []}"),
    ] {
        let home = Home::new(SKEP);
        put_cluster(&home);
        let file = home.cluster("demo").join("cluster.json");
        std::fs::write(&file, content).unwrap();
        writeln!(text, "# {what}").unwrap();
        for line in ["ls", "status demo", "up demo", "start demo", "env demo"] {
            record(&mut text, line, &home.try_run(line), &home);
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), content, "it was rewritten");
        if is_root() {
            assert_eq!(home.try_run("down demo -y").code, 0);
            assert!(!home.cluster("demo").exists());
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn nodes_without_their_cluster_are_not_given_another_network() {
    let home = Home::new(SKEP);
    put_cluster(&home);
    std::fs::remove_file(home.cluster("demo").join("cluster.json")).unwrap();
    let mut text = String::new();
    for line in ["ls", "up demo", "status demo"] {
        record(&mut text, line, &home.try_run(line), &home);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_half_gone_node_is_named_and_the_rest_is_still_listed() {
    let home = Home::new(SKEP);
    put_cluster(&home);
    let machines = home.cluster("demo").join("machines");
    std::fs::write(machines.join("node1/config.json"), "{").unwrap();
    let mut text = String::new();
    for line in ["ls", "status demo", "up demo", "stop demo", "ssh node1"] {
        record(&mut text, line, &home.try_run(line), &home);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn machines_of_docker_machines_store_are_known_by_name() {
    let home = Home::new(SKEP);
    let store = home.path().join("store");
    let skep = |line: &str| {
        let mut command = home.command(line.split_whitespace());
        finish(command.env("MACHINE_STORAGE_PATH", &store))
    };
    let machine = home.path().join("docker-machine");
    std::os::unix::fs::symlink(SKEP, &machine).unwrap();
    let mut create = Command::new(machine);
    home.set_env(&mut create);
    create.args([
        "-s",
        store.to_str().unwrap(),
        "create",
        "-d",
        "none",
        "--url",
        "tcp://127.0.0.1:1",
    ]);
    assert_eq!(finish(create.arg("node0")).code, 0);

    assert!(!skep("ls").stdout.contains("node0"));
    let listed = skep("ls --all").stdout;
    // Others on this host may have machines too.
    let row = listed.lines().find(|line| line.contains("tcp://127.0.0.1:1")).unwrap();
    let words: Vec<_> = row.split_whitespace().take(4).collect();
    assert_eq!(words, ["node0", "none", "running", "tcp://127.0.0.1:1"]);
    assert!(skep("ls -aq").stdout.lines().any(|line| line == "node0"));
    assert!(skep("ls -a --format json").stderr.contains("cannot be used with"));
    let all: serde_json::Value = serde_json::from_str(&skep("ls -a -o json").stdout).unwrap();
    let all = all["machines"].as_array().unwrap();
    assert!(all.iter().any(|machine| machine["store"] == store.to_str().unwrap()));

    let said = skep("ssh node0 true");
    assert!(said.stderr.contains("hosts without a driver have no SSH"), "{}", said.stderr);
    let said = skep("env node0");
    assert!(said.stderr.contains("127.0.0.1:1"), "{}", said.stderr);
    assert!(skep("stop node0").stderr.contains("hosts without a driver cannot be stopped"));

    // A node of a cluster goes before.
    put_cluster(&home);
    let said = skep("ssh node0 true");
    assert!(said.stderr.contains("node0 is not running"), "{}", said.stderr);
    std::fs::remove_dir_all(home.cluster("demo")).unwrap();
    assert_eq!(skep("node rm node0 -y").code, 0);
    assert!(!store.join("machines/node0").exists());
}

/// The program is one file: nothing of it is looked up beside it.
#[test]
fn it_tells_its_version() {
    let output = Command::new(SKEP).arg("--version").env_clear().output().unwrap();
    let version = format!("skep {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}

#[test]
fn the_script_names_the_packages_of_each_distribution() {
    let place = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/install-deps.sh");
    let told = |release: &str| {
        let file = place.path().join("os-release");
        std::fs::write(&file, release).unwrap();
        let mut run = std::process::Command::new(script);
        skep_testkit::home::finish(run.arg("--for").arg(file)).stderr
    };
    let alma = "ID=\"almalinux\"\nVERSION_ID=\"9.4\"\nID_LIKE=\"rhel centos fedora\"\n";
    let cases = [
        (
            "ID=ubuntu\nVERSION_ID=\"24.04\"\nID_LIKE=debian\n",
            "apt-get install --no-install-recommends qemu-system-x86 qemu-utils ",
        ),
        ("ID=fedora\nVERSION_ID=42\n", "dnf install qemu-system-x86-core qemu-img "),
        (alma, "dnf config-manager --set-enabled crb"),
        (alma, "dnf install qemu-kvm-core qemu-img "),
        (
            "ID=\"rhel\"\nVERSION_ID=\"10.0\"\nID_LIKE=\"centos fedora\"\n",
            "codeready-builder-for-rhel-10-x86_64-rpms",
        ),
        ("ID=arch\n", "pacman -S --needed qemu-base qemu-img "),
        (
            "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"15.6\"\n",
            "zypper install qemu-x86 qemu-img ",
        ),
        ("ID=void\n", "whatever installs these"),
    ];
    for (release, wanted) in cases {
        let told = told(release);
        assert!(told.contains(wanted), "{release}: {told}");
    }
    for old in [
        "ID=ubuntu\nVERSION_ID=\"22.04\"\n",
        "ID=debian\nVERSION_ID=\"11\"\n",
        "ID=rocky\nVERSION_ID=\"8.10\"\nID_LIKE=\"rhel centos fedora\"\n",
    ] {
        let told = told(old);
        assert!(told.contains("older than 7.2") && !told.contains(" install "), "{old}: {told}");
    }
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let home = Home::new(SKEP);
    for name in ["SKEP_CLUSTER", "SKEP_NET", "SKEP_ACCEL", "SKEP_TEST_KVM_PATH", "SKEP_LOG"] {
        for line in ["ls", "up --help", "stop", "up -f missing.yaml"] {
            let mut command = home.command(line.split(' '));
            let unset = finish(command.env_remove(name));
            let empty = finish(command.env(name, ""));
            assert_eq!((empty.code, &empty.stderr), (unset.code, &unset.stderr), "{name}: {line}");
        }
    }
}

#[test]
fn a_node_in_the_place_of_a_cluster_is_answered_with_the_command_for_nodes() {
    let home = Home::new(SKEP);
    skep_testkit::records::put_cluster(&home);
    for verb in ["start", "stop"] {
        let said = home.try_run(&format!("{verb} node1"));
        let wanted = format!(
            "error: node1 is a node of cluster demo, not a cluster\n  try: skep node {verb} node1 --cluster demo\n"
        );
        assert_eq!((said.code, said.stderr), (2, wanted));
    }
}
