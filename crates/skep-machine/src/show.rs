//! What tells of one machine: `inspect`, `ip`, `status`, `url`, `version`.

use gotemplate::{Function, Template, Value};
use serde_json::Value as Json;
use skep_print::{out, outln, shown::document, write_exact};
use skep_store::dm::{compact, indented};

use super::call::Call;
use super::connect::engine_version;
use super::driver::{Kind, Machine, NOT_RUNNING, State};
use super::failure::Failure;
use super::help::VERSION;

/// The functions that a template of `inspect` has beside the built-in ones.
const FUNCTIONS: [(&str, Function); 2] = [
    ("json", |value| Ok(Value::Text(compact(&sorted(value))))),
    ("prettyjson", |value| Ok(Value::Text(indented(&sorted(value))))),
];

/// Turns a value into JSON; the keys of its maps are in order.
fn sorted(value: &Value) -> Json {
    let mut json = value.to_json();
    json.sort_all_objects();
    json
}

/// Prints what is written down of a machine.
pub(super) fn inspect(call: &Call) -> Result<(), Failure> {
    if call.words().len() > 1 {
        out!("{}", call.help);
    }
    let machine = call.only()?;
    machine.calls("GetConfigRaw");
    let mut record = machine.config.clone();
    record.driver = machine.driver_object();
    let record = record.to_value();
    let format = call.given.text("format");
    if format.is_empty() {
        write_exact(document(format!("{}\n", indented(&record))).as_bytes());
        return Ok(());
    }
    let template = Template::parse(format, &FUNCTIONS)
        .map_err(|error| format!("template parsing error: {error}"))?;
    let mut text = String::new();
    let result = template.execute(&Value::from_json(&record), &mut text);
    write_exact(text.as_bytes());
    result?;
    outln!();
    Ok(())
}

/// Prints the addresses of machines.
pub(super) async fn ip(call: &Call) -> Result<(), Failure> {
    let mut errors = Vec::new();
    let machines = call.several()?;
    for machine in &machines {
        match ip_of(machine).await {
            Ok(ip) => outln!("{ip}"),
            Err(error) => errors.push(format!("Error getting IP address: {error}")),
        }
    }
    finish(call, &machines, &errors)
}

/// Returns an address as `ip` tells it: virtualbox tells none of a machine that does not run.
async fn ip_of(machine: &Machine) -> Result<String, String> {
    let is_virtualbox = machine.kind == Kind::Vm && machine.config.driver_name == "virtualbox";
    match is_virtualbox && !machine.is(State::Running).await {
        true => Err(NOT_RUNNING.to_owned()),
        false => machine.ip(),
    }
}

/// Writes down again what has changed, unless something failed.
pub(super) fn finish(call: &Call, machines: &[Machine], errors: &[String]) -> Result<(), Failure> {
    if !errors.is_empty() {
        return Err(errors.join("\n").into());
    }
    for machine in machines.iter().filter(|machine| machine.has_changed()) {
        call.save(machine)
            .map_err(|error| Failure::new(format!("Error saving host to store: {}", error.text)))?;
    }
    Ok(())
}

/// Prints a machine's state.
pub(super) async fn status(call: &Call) -> Result<(), Failure> {
    let machine = call.only()?;
    let state = machine
        .state()
        .await
        .map_err(|error| format!("error getting state for host {}: {error}", machine.name()))?;
    call.say.info(state.word());
    Ok(())
}

/// Prints the URL of a machine's engine.
pub(super) async fn url(call: &Call) -> Result<(), Failure> {
    let machine = call.only()?;
    outln!("{}", machine.url().await?);
    Ok(())
}

/// Prints the version of this program, or of a machine's engine.
pub(super) async fn version(call: &Call) -> Result<(), Failure> {
    if call.words().is_empty() {
        outln!("{}", version_line(call.argv0()));
        return Ok(());
    }
    let machine = call.only()?;
    let told = |error| format!("Unable to query docker version: {error}");
    let url = machine.url().await.map_err(told)?;
    outln!("{}", engine_version(&machine, &url).await?);
    Ok(())
}

/// Returns the line that tells the version.
pub(super) fn version_line(argv0: &str) -> String {
    format!("{} version {VERSION}", super::base_name(argv0))
}
