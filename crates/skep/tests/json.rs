//! What commands print for programs, against its schemas. Outputs that need an engine or a machine are checked where
//! they are made, and by the tests on machines.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use skep_core::model::RegistrySpec;
use skep_testkit::home::Home;
use skep_testkit::host::is_root;
use skep_testkit::records::put_cluster_with;
use skep_testkit::schema::{assert_described, assert_fits, dir};

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

fn home() -> Home {
    let home = Home::new(SKEP);
    put_cluster_with(&home, |record| {
        let node = record.nodes[0].name.clone();
        record.registry = Some(RegistrySpec { node, port: 5000, mirror: None, runs: false });
    });
    home
}

#[test]
fn what_commands_print_fits_its_schema() {
    let home = home();
    for (schema, line) in [
        ("ls", "ls -o json"),
        ("ls", "ls --all -o json"),
        ("status", "status demo -o json"),
        ("hosts-ls", "hosts ls -o json"),
        ("cache-ls", "cache ls -o json"),
        ("certs-show", "certs show -o json"),
        ("doctor", "doctor -o json"),
        ("image-ls", "image ls -o json"),
        ("node-ls", "node ls -o json"),
        ("node-ls", "node inspect worker"),
        ("registry-status", "registry status -o json"),
        (
            "firewall-show",
            "firewall show --for node --source 10.1.0.0/24 --backend nftables -o json",
        ),
        ("dry-run", "down --dry-run -o json"),
        ("dry-run", "up other -n 3 --publish 8080 --dry-run -o json"),
        ("dry-run", "node add --dry-run -o json"),
        ("version", "version -o json"),
    ] {
        let said = home.try_run(line);
        println!("{line}: {}", said.stderr);
        assert_described(schema, &said.stdout);
    }
}

#[test]
fn inspect_prints_the_nodes_that_are_meant() {
    let home = home();
    let workers = assert_described("node-ls", &home.run("node inspect worker"));
    let names: Vec<_> = workers["nodes"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["node1"]);
    let said = home.try_run("node inspect node7");
    assert_eq!((said.code, &*said.stdout), (2, ""));
    assert!(said.stderr.contains("demo has no node node7; it has node0, node1"), "{}", said.stderr);
    let table = home.run("node ls");
    assert!(table.starts_with("NODE    ROLE"), "{table}");
    assert_eq!(table.lines().count(), 3);
}

#[test]
fn status_of_what_is_left_fits_its_schema() {
    let home = home();
    fs::write(home.cluster("demo").join("machines/node1/config.json"), "{").unwrap();
    let status = assert_described("status", &home.try_run("status demo -o json").stdout);
    assert_eq!(status["leftovers"][0]["node"], "node1");
    fs::write(home.cluster("demo").join("cluster.json"), "{").unwrap();
    let status = assert_described("status", &home.try_run("status demo -o json").stdout);
    assert_eq!(status["subnet"], serde_json::Value::Null);
    let list = assert_described("ls", &home.try_run("ls -o json").stdout);
    assert_eq!(list["clusters"][0]["state"], "broken");
}

/// Each line is a document; what interrupts it ends it as `status` would end.
#[test]
fn a_watched_status_is_one_document_per_line_until_it_is_interrupted() {
    let home = home();
    let mut command = home.command(["status", "demo", "--watch", "-o", "json"]);
    let mut watch = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let status = assert_described("status", &lines.next().unwrap().unwrap());
        assert_eq!(status["nodes"].as_array().unwrap().len(), 2);
    }
    let interrupt = Command::new("kill").args(["-INT", &watch.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    assert_eq!(watch.wait().unwrap().code(), Some(1), "its nodes are not Ready");
}

#[test]
fn a_watched_status_for_people_is_printed_again_until_the_cluster_is_gone() {
    let home = home();
    let mut command = home.command(["status", "-w", "-c", "demo"]);
    let mut watch = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = BufReader::new(watch.stdout.take().unwrap());
    let mut line = String::new();
    text.read_line(&mut line).unwrap();
    assert!(line.starts_with("cluster demo at ") && line.ends_with(" UTC\n"), "{line}");
    fs::remove_dir_all(home.cluster("demo")).unwrap();
    let mut rest = String::new();
    text.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("NODE    ROLE") && !rest.contains('\x1b'), "{rest}");
    let said = watch.wait_with_output().unwrap();
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert!(stderr.contains("cluster demo was removed"), "{stderr}");
    assert_eq!(said.status.code(), Some(1));
}

#[test]
fn setup_says_what_it_would_do_by_its_schema() {
    if !is_root() {
        return skep_testkit::home::say("skipped: only root may ask what skep setup would do");
    }
    let home = Home::new(SKEP);
    assert_described("setup", &home.run("setup --user nobody --dry-run -o json"));
}

#[test]
fn config_prints_what_the_schema_of_the_cluster_file_describes() {
    let home = home();
    let schema = serde_json::from_str(&home.run("schema")).unwrap();
    let printed = serde_json::from_str(&home.run("config demo -o json")).unwrap();
    assert_fits(schema, &printed);
}

/// The page for readers names each schema, and no other.
#[test]
fn every_schema_is_documented_and_says_what_each_key_means() {
    let page = fs::read_to_string(dir().join("../json.md")).unwrap();
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let schema: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        // Of events the first has it.
        let of = schema.get("oneOf").map_or(&schema, |kinds| &kinds[0]);
        let format = of["properties"]["format"]["const"].as_u64().unwrap();
        assert_eq!(schema["$id"], format!("urn:skep:schema:{name}:{format}"));
        let row = page.lines().find(|line| line.contains(&format!("(schemas/{name}.json)")));
        let row = row.unwrap_or_else(|| panic!("docs/json.md does not name {name}"));
        assert!(row.ends_with(&format!("| {format} |")), "{row}");
        describes(&schema, &name);
        names.insert(name);
    }
    let named = page.matches("](schemas/").count();
    assert_eq!(named, names.len(), "docs/json.md names a schema that is not there");
}

fn describes(schema: &serde_json::Value, path: &str) {
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let about = below["description"].as_str().unwrap_or_default();
        assert!(!about.is_empty(), "{path}.{key} has no description");
        describes(below, &format!("{path}.{key}"));
    }
    for either in schema["oneOf"].as_array().into_iter().flatten() {
        describes(either, path);
    }
    for step in ["items", "additionalProperties"] {
        if let Some(below) = schema.get(step) {
            describes(below, path);
        }
    }
}
