//! `-o json` of commands that work: a line for each event, and one at the end that says how it went.

use serde_json::{Value, json};
use skep_testkit::home::{Home, Said};
use skep_testkit::records::put_cluster;
use skep_testkit::schema::assert_described;

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

/// Returns the lines, each of which is an object with a time; what differs from run to run is blanked.
fn objects(said: &Said) -> Vec<Value> {
    let parse = |line: &str| {
        let mut object = assert_described("event", line);
        assert!(object["event"].is_string() && object["time"].is_string(), "{line}");
        object["time"] = json!("TIME");
        if object.get("seconds").is_some() {
            object["seconds"] = json!(0);
        }
        object
    };
    said.stdout.lines().map(parse).collect()
}

#[test]
fn down_prints_its_events_and_how_it_ended() {
    let home = Home::new(SKEP);
    put_cluster(&home);
    let said = home.try_run("down demo -y -o json");
    assert_eq!((said.code, &*said.stderr), (0, ""));
    let mut objects = objects(&said);
    // Steps that do not need each other run at the same time.
    let last = objects.len() as u64;
    objects.sort_by_key(|object| match object["event"].as_str() {
        Some("plan-finished") => last,
        Some("ended") => last + 1,
        _ => object["step"].as_u64().unwrap_or(0),
    });
    let lines: Vec<_> = objects.iter().map(Value::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    {"event":"started","format":1,"command":"down","time":"TIME"}
    {"event":"plan","steps":5,"phases":{"records":1,"network":2,"machines":2},"time":"TIME"}
    {"event":"step-started","step":1,"phase":"machines","node":"node0","title":"remove node","time":"TIME"}
    {"event":"step-finished","step":1,"phase":"machines","node":"node0","title":"remove node","seconds":0,"time":"TIME"}
    {"event":"step-started","step":2,"phase":"machines","node":"node1","title":"remove node","time":"TIME"}
    {"event":"step-finished","step":2,"phase":"machines","node":"node1","title":"remove node","seconds":0,"time":"TIME"}
    {"event":"step-started","step":3,"phase":"network","node":null,"title":"remove firewall rules skep-demo","time":"TIME"}
    {"event":"step-finished","step":3,"phase":"network","node":null,"title":"remove firewall rules skep-demo","seconds":0,"time":"TIME"}
    {"event":"step-started","step":4,"phase":"network","node":null,"title":"remove interface skep-demo","time":"TIME"}
    {"event":"step-finished","step":4,"phase":"network","node":null,"title":"remove interface skep-demo","seconds":0,"time":"TIME"}
    {"event":"step-started","step":5,"phase":"records","node":null,"title":"remove cluster","time":"TIME"}
    {"event":"step-finished","step":5,"phase":"records","node":null,"title":"remove cluster","seconds":0,"time":"TIME"}
    {"event":"plan-finished","time":"TIME"}
    {"event":"ended","ok":true,"code":0,"seconds":0,"time":"TIME"}
    "#);
    assert!(!home.cluster("demo").exists());
}

#[test]
fn a_failure_ends_with_its_code_message_and_hints() {
    let home = Home::new(SKEP);
    for (line, code) in [
        ("up -f missing.yaml -o json", 2),
        ("start nosuch -o json", 2),
        ("stop nosuch -o json", 2),
        ("node add -c nosuch -o json", 2),
        ("node stop -c nosuch node0 -o json", 2),
        ("certs renew nosuch -o json", 2),
    ] {
        let said = home.try_run(line);
        let objects = objects(&said);
        let [first, last] = &objects[..] else { panic!("{line}: {objects:?}") };
        assert_eq!(
            (said.code, &first["event"], &first["format"]),
            (code, &json!("started"), &json!(1))
        );
        assert_eq!((&last["event"], &last["ok"]), (&json!("ended"), &json!(false)), "{line}");
        assert_eq!(last["code"], json!(code), "{line}");
        // People read the same on the other output.
        let message = last["message"].as_str().unwrap();
        let shown = format!("error: {}", message.lines().next().unwrap());
        assert!(said.stderr.starts_with(&shown), "{line}: {} {shown}", said.stderr);
        assert!(last["hints"].is_array(), "{line}");
    }
}
