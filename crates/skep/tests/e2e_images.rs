//! Images get to every node, once: those that a cluster's file names, and those that are loaded by
//! hand, from files, from pipes, and of those only what a node has not got.

use std::io::Write as _;
use std::process::Stdio;

use skep_testkit::archive;
use skep_testkit::home::{Home, finish};
use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;

const MIB: usize = 1 << 20;

#[test]
fn images_get_to_every_node_once() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let home = Home::new(env!("CARGO_BIN_EXE_skep"));
    let path = |name: &str| home.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    let (base, top) = (archive::layer("base", 8 * MIB), archive::layer("top", 1000));
    let first = archive::write(&path("one.tar"), "app:1", &[&base]);
    let second = archive::write(&path("two.tar"), "app:2", &[&base, &top]);
    std::fs::write(path("wrong.tar"), "no archive").unwrap();

    // What is wrong with them is said before anything is made.
    std::fs::write(path("wrong.yaml"), "images: [./wrong.tar, ./none.tar]\n").unwrap();
    let said = home.try_run(&format!("up images -f {}", text("wrong.yaml")));
    assert_eq!(said.code, 2, "{}", said.stderr);
    assert!(said.stderr.contains("it is no tar file"), "{}", said.stderr);
    assert!(said.stderr.contains("none.tar"), "{}", said.stderr);
    assert!(!home.cluster("images").exists());

    let wanted = "{images: [./one.tar], workers: 1, registry: {}, \
                  registries: [{at: '192.0.2.9:5000', insecure: true}]}";
    std::fs::write(path("skep.yaml"), wanted).unwrap();
    let up = format!("up images -f {} --no-verify", text("skep.yaml"));
    home.run(&up);
    assert_eq!(nodes_with(&home, &first), ["node0", "node1"]);
    assert_eq!(home.run(&format!("{up} --dry-run")), "nothing to do\n");

    // Of what shares a layer only the rest is sent; of what is there, nothing.
    let said = home.try_run(&format!("image load -v {} --node worker", text("two.tar")));
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(!said.stderr.contains("8 MiB"), "{}", said.stderr);
    assert_eq!(nodes_with(&home, &second), ["node1"]);
    let said = home.try_run(&format!("image load {} --node node1", text("two.tar")));
    assert!(
        said.code == 0 && said.stderr.contains("all nodes have the images already"),
        "{}",
        said.stderr
    );

    // Through a pipe, to all: node1 has it already, and takes it again.
    let mut piped = home.command(["image", "load", "-"]);
    piped.stdin(Stdio::from(std::fs::File::open(path("two.tar")).unwrap()));
    let said = finish(&mut piped);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(nodes_with(&home, &second), ["node0", "node1"]);

    serve_a_registry(&home);

    // A node whose disk is full is named with the engine's reason, and the others get theirs.
    let large = archive::layer("large", 48 * MIB);
    let third = archive::write(&path("three.tar"), "app:3", &[&large]);
    let fill = "sudo fallocate -l $(($(df --output=avail -B1 / | tail -1) - 30000000)) /full";
    let said = finish(&mut home.command(["ssh", "node1", "--", fill]));
    assert_eq!(said.code, 0, "{}", said.stderr);
    let said = home.try_run(&format!("image load {}", text("three.tar")));
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert!(said.stderr.contains("node1: ") && said.stderr.contains("no space left"), "{said:?}");
    assert!(said.stderr.contains("try: skep docker --node node1 -- system prune"), "{said:?}");
    assert_eq!(nodes_with(&home, &third), ["node0"]);

    home.run("down images -y");
    host.assert_unchanged();
}

/// Lets all nodes pull from the registry of the file what was pushed to it, before and after a stop.
fn serve_a_registry(home: &Home) {
    let at = home.run("registry start --quiet").trim().to_owned();
    assert_eq!(home.run("registry start --quiet").trim(), at);
    let image = format!("{at}/library/web:1");
    let import = format!(
        "mkdir -p root/bin && cp $(command -v busybox) root/bin/busybox && \
         tar -C root -c . | docker import - {image}"
    );
    let said = finish(&mut home.command(["ssh", "node0", "--", &import]));
    assert_eq!(said.code, 0, "{}", said.stderr);
    home.run(&format!("docker -- push {image}"));
    home.run(&format!("docker -- rmi {image}"));
    home.run(&format!(
        "docker -- service create --quiet --mode global --name web {image} /bin/busybox sleep 99999"
    ));
    let tasks = home.run("docker -- service ps web --filter desired-state=running");
    assert_eq!(tasks.matches(" Running ").count(), 4, "{tasks}");
    home.run("docker -- service rm web");

    // Registries that are there already: one with an authority, and of the file's one that nobody verifies.
    let ca = home.cluster("images").join("certs/ca.pem");
    home.run(&format!("registry trust hub.example:5000 --ca {}", ca.display()));
    let trusts = |home: &Home, node: &str| {
        let look = "sudo cmp /etc/docker/tls/ca.pem /etc/docker/certs.d/hub.example:5000/ca.crt && \
                    docker info | grep -q 192.0.2.9:5000";
        finish(&mut home.command(["ssh", node, "--", look])).code == 0
    };
    assert!(trusts(home, "node0") && trusts(home, "node1"));

    let (archive, id) = lose_a_node_in_the_midst(home);
    home.run("stop");
    // What every node has already keeps nobody from starting when it is gone.
    std::fs::remove_file(home.path().join("one.tar")).unwrap();
    home.run("start --no-verify");
    home.run(&format!("image load {archive}"));
    assert_eq!(nodes_with(home, &id), ["node0", "node1"]);
    assert!(trusts(home, "node1"));
    let status = home.run("registry status");
    assert!(status.contains(&format!("{at}/library/web")), "{status}");
    // What no registry is named for comes through the mirror, of this very registry.
    home.run(&format!("registry start --mirror https://{at}"));
    let said = finish(&mut home.command(["ssh", "node1", "--", "docker pull web:1"]));
    assert_eq!(said.code, 0, "{}", said.stderr);
    home.run("registry distrust 192.0.2.9:5000");
    let left = home.run("docker --node node1 -- info -f {{.RegistryConfig.IndexConfigs}}");
    assert!(!left.contains("192.0.2.9"), "the engine trusts it still: {left}");
    home.run("registry stop");
    let mirrors = home.run("docker --node node1 -- info -f {{.RegistryConfig.Mirrors}}");
    assert_eq!(mirrors, "[]\n", "the engine asks a mirror that is gone");
    let said = home.try_run("registry status");
    assert!(said.code == 1 && said.stdout.contains("stopped"), "{said:?}");
}

/// Loads images on all nodes, of which one loses its power in the midst: it is named at once, and the
/// other one gets them. Returns the archive and its image.
fn lose_a_node_in_the_midst(home: &Home) -> (String, String) {
    let path = home.path().join("four.tar");
    let id = archive::write(&path, "app:4", &[&archive::layer("more", 24 * MIB)]);
    let whole = std::fs::read(&path).unwrap();
    let (first, rest) = whole.split_at(16 * MIB);
    let mut load = home.command(["image", "load", "-"]);
    load.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut load = load.spawn().unwrap();
    let mut input = load.stdin.take().unwrap();
    input.write_all(first).unwrap();
    home.cut_power("images", "node1");
    input.write_all(rest).unwrap();
    drop(input);
    let output = load.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("node1: the machine died"), "{said}");
    assert!(said.contains("try: skep node start node1"), "{said}");
    assert_eq!(nodes_with(home, &id), ["node0"]);
    (path.to_str().unwrap().to_owned(), id)
}

/// Returns the nodes that have an image.
fn nodes_with(home: &Home, id: &str) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(&home.run("image ls -o json")).unwrap();
    let images = list["images"].as_array().unwrap();
    let image = images.iter().find(|image| image["id"] == id);
    let nodes = image.and_then(|image| image["nodes"].as_array()).cloned().unwrap_or_default();
    nodes.iter().map(|node| node.as_str().unwrap().to_owned()).collect()
}
