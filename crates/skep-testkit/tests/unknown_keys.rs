//! A key that this skep does not know is refused in every file of its own, wherever in it that is: it may be a newer
//! skep's, and would be lost when the file is written again.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use skep_core::model::{NetworkRecord, Publication};
use skep_net::forwarder::Places;
use skep_net::network::claims::{self, Claim};
use skep_net::privileged_helper::Grants;
use skep_store::Owner;
use skep_sys::{FileError, chain};

/// Adds a key to each object in a value, one at a time.
fn with_a_key_more(value: &Value) -> Vec<Value> {
    let inner = |children: Vec<(String, &Value)>| -> Vec<Value> {
        let child = |(at, child): (String, &Value)| {
            let put = |new| {
                let mut whole = value.clone();
                *whole.pointer_mut(&format!("/{at}")).unwrap() = new;
                whole
            };
            with_a_key_more(child).into_iter().map(put).collect::<Vec<_>>()
        };
        children.into_iter().flat_map(child).collect()
    };
    match value {
        Value::Object(map) => {
            let mut more = map.clone();
            more.insert("later".to_owned(), json!("this key came later"));
            let mut all = vec![Value::Object(more)];
            all.extend(inner(map.iter().map(|(key, it)| (key.clone(), it)).collect()));
            all
        }
        Value::Array(list) => {
            inner(list.iter().enumerate().map(|(at, it)| (at.to_string(), it)).collect())
        }
        _ => Vec::new(),
    }
}

/// Reads with a reader what another one wrote, with a key more at each place.
fn assert_no_key_is_lost<T: std::fmt::Debug>(file: &Path, read: impl Fn() -> Result<T, FileError>) {
    let written = fs::read(file).unwrap();
    read().unwrap();
    let cases = with_a_key_more(&serde_json::from_slice(&written).unwrap());
    assert!(!cases.is_empty());
    for case in cases {
        fs::write(file, case.to_string()).unwrap();
        let error = read().map(|it| panic!("{case} was read as {it:?}")).unwrap_err();
        let said = chain(&error);
        assert!(said.contains("later"), "{said}");
        assert!(said.contains(&*file.to_string_lossy()), "{said}");
    }
    fs::write(file, written).unwrap();
    read().unwrap();
}

#[test]
fn no_key_is_lost_in_any_file_of_skeps_own() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path();
    let subnet = "10.193.0.0/24";
    let store = state.join("store");
    let owner = Owner { cluster: "demo".parse().unwrap(), store, user: 1000 };

    let grants = state.join(Grants::FILE);
    fs::write(&grants, json!({"subnets": [subnet], "hosts": true}).to_string()).unwrap();
    assert_no_key_is_lost(&grants, || Grants::read(state));

    claims::write(state, "skep-demo", &Claim::of(&owner, subnet.parse().unwrap())).unwrap();
    assert_no_key_is_lost(&state.join("networks/skep-demo.json"), || claims::read(state));

    let places = Places::new(&state.join("ports"));
    let network = NetworkRecord { subnet: subnet.parse().unwrap(), bridge: "skep-demo".into() };
    let publication = Publication { ports: vec![8080], to: [10, 193, 0, 2].into() };
    places.change(&network, |it| it.lead(Some(&publication))).unwrap();
    let note = state.join("ports/networks/skep-demo.json");
    assert_no_key_is_lost(&note, || places.all());
    // What is not read is not written either.
    let mut later: Value = serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
    later["later"] = json!(1);
    fs::write(&note, later.to_string()).unwrap();
    places.change(&network, |it| it.lead(None)).unwrap_err();
    assert_eq!(fs::read_to_string(&note).unwrap(), later.to_string());
}
