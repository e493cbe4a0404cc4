//! cluster.json: what is written down of a cluster.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_core::model::ClusterRecord;
use skep_sys::{read_own, write_atomic};

use super::{Error, unknown};

/// The format's number; raised whenever a key is added, as an older skep does not know what it means.
///
/// 2: images, access, registry and trusted; a node's availability and host; a hostname's follow. 3: peers.
const FORMAT: u64 = 3;

#[derive(Serialize, Deserialize)]
struct File {
    format: u64,
    #[serde(flatten)]
    record: ClusterRecord,
}

pub(super) fn read(path: &Path) -> Result<Option<ClusterRecord>, Error> {
    let text = match read_own(path) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let damaged = |source| Error::Damaged { path: path.to_owned(), source };
    let value: Value = serde_json::from_slice(&text).map_err(damaged)?;
    check_format(path, &value, "format", FORMAT)?;
    let file: File = serde_json::from_value(value.clone()).map_err(damaged)?;
    refuse_unknown(path, &value, &file)?;
    check_link_name(&file.record.network.bridge).map_err(damaged)?;
    check_sound(file.record.problems()).map_err(damaged)?;
    Ok(Some(file.record))
}

pub(super) fn write(path: &Path, record: &ClusterRecord) -> Result<(), Error> {
    refuse_newer(path, "format", FORMAT)?;
    let present = read_own(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    if let Some(present) = present
        && let Ok(file) = serde_json::from_value::<File>(present.clone())
    {
        refuse_unknown(path, &present, &file)?;
    }
    let file = File { format: FORMAT, record: record.clone() };
    let text = serde_json::to_vec_pretty(&file).expect("a record has only text keys");
    Ok(write_atomic(path, 0o600, &text)?)
}

fn refuse_unknown(path: &Path, value: &Value, file: &File) -> Result<(), Error> {
    let known = serde_json::to_value(file).expect("a record has only text keys");
    match unknown::find(value, &known) {
        Some(key) => Err(Error::UnknownKey { path: path.to_owned(), key }),
        None => Ok(()),
    }
}

/// Refuses what has problems, in the words of the first.
pub(super) fn check_sound(problems: Vec<String>) -> Result<(), serde_json::Error> {
    problems.into_iter().next().map_or(Ok(()), |problem| Err(serde::de::Error::custom(problem)))
}

/// Refuses what is no name that skep gives an interface: it gets into rules and command lines.
pub(super) fn check_link_name(name: &str) -> Result<(), serde_json::Error> {
    // IFNAMSIZ is 16 with its terminating zero.
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if (1..16).contains(&name.len()) && letters && !name.starts_with('-') {
        return Ok(());
    }
    Err(serde::de::Error::custom(format!("{name:?} is no interface of a cluster")))
}

/// Refuses a file whose format number is above the newest that is known.
pub(super) fn check_format(path: &Path, value: &Value, key: &str, known: u64) -> Result<(), Error> {
    match value.get(key).and_then(Value::as_u64) {
        Some(found) if found > known => Err(Error::Newer { path: path.to_owned(), found, known }),
        _ => Ok(()),
    }
}

/// Refuses to write over a file of a newer format; a damaged one may be replaced.
pub(super) fn refuse_newer(path: &Path, key: &str, known: u64) -> Result<(), Error> {
    let present = read_own(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    present.map_or(Ok(()), |value: Value| check_format(path, &value, key, known))
}
