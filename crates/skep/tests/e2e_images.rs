//! Images get to every node, once: those that a cluster's file names, and those that are loaded by
//! hand, from files, from pipes, and of those only what a node has not got.

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

    std::fs::write(path("skep.yaml"), "images: [./one.tar]\nworkers: 1\n").unwrap();
    let up = format!("up images -f {} --no-verify", text("skep.yaml"));
    home.run(&up);
    assert_eq!(nodes_with(&home, &first), ["node0", "node1"]);
    assert_eq!(home.run(&format!("{up} --dry-run")), "nothing to do\n");

    // Of what shares a layer only the rest is sent; of what is there, nothing.
    let said = home.try_run(&format!("image load {} --node worker", text("two.tar")));
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(!said.stderr.contains("8 MiB"), "{}", said.stderr);
    assert_eq!(nodes_with(&home, &second), ["node1"]);
    let said = home.try_run(&format!("image load {} --node node1", text("two.tar")));
    assert!(said.code == 0 && said.stderr.contains("all nodes have it"), "{}", said.stderr);

    // Through a pipe, to all: node1 has it already, and takes it again.
    let mut piped = home.command(["image", "load", "-"]);
    piped.stdin(Stdio::from(std::fs::File::open(path("two.tar")).unwrap()));
    let said = finish(&mut piped);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(nodes_with(&home, &second), ["node0", "node1"]);

    // A node whose disk is full is named with the engine's reason, and the others get theirs.
    let large = archive::layer("large", 48 * MIB);
    let third = archive::write(&path("three.tar"), "app:3", &[&large]);
    let fill = "sudo fallocate -l $(($(df --output=avail -B1 / | tail -1) - 30000000)) /full";
    let said = finish(&mut home.command(["ssh", "node1", "--", fill]));
    assert_eq!(said.code, 0, "{}", said.stderr);
    let said = home.try_run(&format!("image load {}", text("three.tar")));
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert!(said.stderr.contains("node1: ") && said.stderr.contains("no space left"), "{said:?}");
    assert_eq!(nodes_with(&home, &third), ["node0"]);

    home.run("down images -y");
    host.assert_unchanged();
}

/// Returns the nodes that have an image.
fn nodes_with(home: &Home, id: &str) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(&home.run("image ls -o json")).unwrap();
    let images = list["images"].as_array().unwrap();
    let image = images.iter().find(|image| image["id"] == id);
    let nodes = image.and_then(|image| image["nodes"].as_array()).cloned().unwrap_or_default();
    nodes.iter().map(|node| node.as_str().unwrap().to_owned()).collect()
}
