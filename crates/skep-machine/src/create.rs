//! `create`.

use std::path::Path;

use serde_json::{Map, Value, json};
use skep_print::out;
use skep_store::dm::{AuthOptions, Config, EngineOptions, SwarmOptions, reason};
use skep_store::pki::machine::{self as certificates, Step};

use super::call::{Call, variable};
use super::connect::{authority, check, check_url};
use super::driver::{Kind, Machine, State};
use super::failure::Failure;
use super::power::{provision_new, wait_for};
use super::say::Say;
use super::table::CREATE_OPTIONS;
use super::vm::VmSpec;
use super::{options, share, support};

/// Returns the driver that the whole line asks for: its options are known only when it is.
#[must_use]
pub fn driver_name(line: &[String]) -> String {
    for (index, word) in line.iter().enumerate() {
        let value = match word.as_str() {
            "--driver" | "-d" => line.get(index + 1).cloned(),
            word if word.starts_with("--driver=") || word.starts_with("-d=") => {
                word.split('=').nth(1).map(str::to_owned)
            }
            _ => None,
        };
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            return value;
        }
    }
    variable("MACHINE_DRIVER").unwrap_or_else(|| "virtualbox".to_owned())
}

/// Makes the authority's and the client's certificates if need be, and tells of it.
pub(super) async fn bootstrap(auth: &AuthOptions, say: &Say) -> Result<(), String> {
    let mut tell = |step| match step {
        Step::Authority(path) => say.info(format!("Creating CA: {}", path.display())),
        Step::Client(path) => say.info(format!("Creating client certificate: {}", path.display())),
        Step::AuthorityExpired => {
            say.info("CA certificate is outdated and needs to be regenerated");
        }
        Step::ClientExpired => {
            say.info("Client certificate is outdated and needs to be regenerated");
        }
    };
    let user = variable("USER").unwrap_or_else(|| "unknown".to_owned());
    let made = certificates::bootstrap(auth, &user, &mut tell).await;
    made.map_err(|error| skep_sys::chain(&error))
}

/// Makes a machine.
pub(super) async fn create(call: &Call) -> Result<(), Failure> {
    let name = check_words(call)?;
    let driver = driver_name(&call.line[1..]);
    let mut config = Config::new(call.store.root(), &name, &driver);
    fill_options(call, &mut config);
    if call.store.exists(&name) {
        return Err(format!("Docker machine {name:?} already exists").into());
    }
    if call.store.is_cluster() {
        return Err(super::clusters::BELONGS.into());
    }
    let wrong = |cause| format!("Error setting machine configuration from flags provided: {cause}");
    call.found_binary();
    config.driver = driver_fields(call, &driver, &name).map_err(wrong)?;
    let mut machine = Machine::new(config, std::sync::Arc::clone(&call.vms), call.say.clone());
    let wanted = match machine.kind {
        Kind::Vm => Some(VmSpec::collect(&driver, &call.given, &machine.config).map_err(wrong)?),
        _ => None,
    };
    let say = &call.say;
    call.store.prepare()?;
    bootstrap(&machine.config.host_options.auth_options, say)
        .await
        .map_err(|error| format!("Error generating certificates: {error}"))?;
    say.info("Running pre-create checks...");
    if driver == "virtualbox" {
        say.info(format!("({name}) The driver virtualbox stands for a virtual machine of skep"));
    }
    let own = options::driver_options(&driver).unwrap_or_default();
    let mut notes = support::notes(&[&CREATE_OPTIONS, own].concat(), &call.given);
    notes.extend(check_before(call, &machine, wanted.as_ref()).await?);
    notes.iter().for_each(|note| say.info(format!("({name}) {note}")));
    let not_saved =
        |error: Failure| Failure::new(format!("Error saving host to store: {}", error.text));
    call.create(&machine).map_err(not_saved)?;
    say.info("Creating machine...");
    let result = make(call, &mut machine, wanted.as_ref()).await;
    let saved = call.save(&machine);
    result.map_err(|error| format!("Error creating machine: {error}"))?;
    saved.and_then(|()| call.save(&machine)).map_err(not_saved)?;
    machine.close();
    say.info(format!(
        "To see how to connect your Docker Client to the Docker Engine running on this virtual \
         machine, run: {} env {name}",
        call.argv0()
    ));
    Ok(())
}

/// Checks what can be seen in the line alone, and returns the name.
fn check_words(call: &Call) -> Result<String, Failure> {
    let words = call.words();
    if words.len() > 1 {
        let extra = words[1..].join(" ");
        return Err(format!("Invalid command line. Found extra arguments [{extra}]").into());
    }
    let name = words.first().map(String::as_str).unwrap_or_default();
    if name.is_empty() {
        out!("{}", call.help);
        return Err("Error: No machine name specified".into());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(fits) {
        return Err("Error creating machine: Invalid hostname specified. \
                    Allowed hostname chars are: 0-9a-zA-Z . -"
            .into());
    }
    let discovery = call.given.text("swarm-discovery");
    if !discovery.is_empty() && !discovery.contains("://") {
        return Err(format!(
            "Error parsing swarm discovery: Swarm Discovery URL was in the wrong format: {discovery}"
        )
        .into());
    }
    Ok(name.to_owned())
}

fn fill_options(call: &Call, config: &mut Config) {
    let given = &call.given;
    let text = |name: &str| given.text(name).to_owned();
    let list = |name: &str| Some(given.list(name));
    let options = &mut config.host_options;
    options.engine_options = EngineOptions {
        arbitrary_flags: list("engine-opt"),
        env: list("engine-env"),
        insecure_registry: list("engine-insecure-registry"),
        labels: list("engine-label"),
        storage_driver: text("engine-storage-driver"),
        tls_verify: true,
        registry_mirror: list("engine-registry-mirror"),
        install_url: text("engine-install-url"),
        ..EngineOptions::default()
    };
    let (agent, master) = (given.switch("swarm"), given.switch("swarm-master"));
    options.swarm_options = SwarmOptions {
        is_swarm: agent || master,
        address: text("swarm-addr"),
        discovery: text("swarm-discovery"),
        agent,
        master,
        host: text("swarm-host"),
        image: text("swarm-image"),
        strategy: text("swarm-strategy"),
        arbitrary_flags: list("swarm-opt"),
        arbitrary_join_flags: list("swarm-join-opt"),
        is_experimental: given.switch("swarm-experimental"),
        ..SwarmOptions::default()
    };
    let auth = &mut options.auth_options;
    auth.server_cert_sans = list("tls-san");
    let own = [
        ("tls-ca-cert", &mut auth.ca_cert_path),
        ("tls-ca-key", &mut auth.ca_private_key_path),
        ("tls-client-cert", &mut auth.client_cert_path),
        ("tls-client-key", &mut auth.client_key_path),
    ];
    for (name, path) in own {
        let given = call.global.text(name);
        if !given.is_empty() {
            given.clone_into(path);
        }
    }
}

/// Returns the driver's part of the record as its options have it.
fn driver_fields(call: &Call, driver: &str, name: &str) -> Result<Map<String, Value>, String> {
    let given = &call.given;
    let store = call.store.root().to_string_lossy();
    let mut fields = json!({
        "IPAddress": "", "MachineName": name, "SSHUser": "", "SSHPort": 0, "SSHKeyPath": "",
        "StorePath": store, "SwarmMaster": false, "SwarmHost": "", "SwarmDiscovery": "",
    });
    match driver {
        "none" => {
            let url = given.text("url");
            if url.is_empty() {
                return Err("--url option is required when no driver is selected".to_owned());
            }
            check_url(url)?;
            fields["IPAddress"] = json!(authority(url));
            fields["URL"] = json!(url);
        }
        "generic" => {
            let address = given.text("generic-ip-address");
            if address.is_empty() {
                let text = "generic driver requires the --generic-ip-address option";
                return Err(text.to_owned());
            }
            fields["IPAddress"] = json!(address);
            fields["SSHUser"] = json!(given.text("generic-ssh-user"));
            fields["SSHPort"] = json!(given.number("generic-ssh-port"));
            fields["EnginePort"] = json!(given.number("generic-engine-port"));
            fields["SSHKey"] = json!(given.text("generic-ssh-key"));
        }
        _ => {
            fields["SwarmMaster"] = json!(given.switch("swarm-master"));
            fields["SwarmHost"] = json!(given.text("swarm-host"));
            fields["SwarmDiscovery"] = json!(given.text("swarm-discovery"));
        }
    }
    match fields {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

async fn check_before(
    call: &Call,
    machine: &Machine,
    wanted: Option<&VmSpec>,
) -> Result<Vec<String>, Failure> {
    machine.calls("PreCreateCheck");
    if let Some(wanted) = wanted {
        let checked = call.vms.check(call.store.root(), wanted).await;
        return checked.map_err(|error| Failure::pre_create(&error));
    }
    let key = ssh_key(machine);
    if !key.is_empty() && !Path::new(&key).exists() {
        let text = format!("SSH key does not exist: {}", gotemplate::go_quote(&key));
        return Err(Failure::pre_create(&text));
    }
    Ok(Vec::new())
}

fn ssh_key(machine: &Machine) -> String {
    let key = machine.config.driver.get("SSHKey").and_then(Value::as_str);
    key.unwrap_or_default().to_owned()
}

async fn make(call: &Call, machine: &mut Machine, wanted: Option<&VmSpec>) -> Result<(), String> {
    let in_driver = |error: String| format!("Error in driver during machine creation: {error}");
    let say = &call.say;
    machine.calls("Create");
    if machine.kind == Kind::None {
        return Ok(());
    }
    let name = machine.name().to_owned();
    match wanted {
        Some(wanted) => {
            let tell = |text: &str| say.info(text);
            call.vms.create(wanted, &mut machine.config, &tell).await.map_err(in_driver)?;
        }
        None => import_key(call, machine, &name).map_err(in_driver)?,
    }
    call.save(machine).map_err(|error| error.text)?;
    say.info("Waiting for machine to be running, this may take a few minutes...");
    wait_for(machine, State::Running)
        .await
        .map_err(|error| format!("Error waiting for machine to be running: {error}"))?;
    say.info("Detecting operating system of created instance...");
    provision_new(machine, say).await?;
    say.info("Checking connection to Docker...");
    check(machine, false).await.map_err(|error| format!("Error checking the host: {error}"))?;
    say.info("Docker is up and running!");
    if let Some(share) = wanted.and_then(|wanted| wanted.share.as_ref()) {
        share::copy(call, machine, share).await;
    }
    Ok(())
}

/// Copies the key of a host that was there before, so that the machine has all that it needs.
fn import_key(call: &Call, machine: &mut Machine, name: &str) -> Result<(), String> {
    let key = ssh_key(machine);
    if key.is_empty() {
        call.say.info(format!(
            "({name}) No SSH key specified. Assuming an existing key at the default location."
        ));
        return Ok(());
    }
    call.say.info(format!("({name}) Importing SSH key..."));
    let copy = call.store.import_key(name, Path::new(&key)).map_err(|error| match error {
        skep_store::dm::Error::File(error) => {
            format!("unable to copy ssh key: {}", reason(&error.source))
        }
        other => other.to_string(),
    })?;
    machine.config.driver.insert("SSHKeyPath".to_owned(), json!(copy));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::{Look, Tell, Vms};
    use async_trait::async_trait;
    use skep_store::dm::MachineStore;
    use std::sync::Arc;

    /// Machines that somebody else removes as soon as they are made.
    struct Removed(MachineStore);

    #[async_trait(?Send)]
    impl Vms for Removed {
        async fn check(&self, _: &Path, _: &VmSpec) -> Result<Vec<String>, String> {
            assert!(!self.0.exists("box"), "it is checked before it is written down");
            Ok(Vec::new())
        }

        async fn create(&self, _: &VmSpec, it: &mut Config, _: Tell<'_>) -> Result<(), String> {
            assert_eq!(self.0.load("box").unwrap().driver_name, "kvm");
            it.driver.insert("Tap".to_owned(), json!("skt0"));
            self.0.remove("box").map_err(|error| error.to_string())
        }

        fn state<'a>(&'a self, _: &'a Config) -> Look<'a> {
            Box::pin(async { Ok(State::Stopped) })
        }

        async fn start(&self, _: &Config) -> Result<(), String> {
            unreachable!()
        }

        async fn stop(&self, _: &Config) -> Result<(), String> {
            unreachable!()
        }

        async fn kill(&self, _: &Config) -> Result<(), String> {
            unreachable!()
        }

        async fn provision(&self, _: &Config, _: bool, _: Tell<'_>) -> Result<(), String> {
            unreachable!()
        }

        async fn upgrade(&self, _: &Config, _: Tell<'_>) -> Result<(), String> {
            unreachable!()
        }

        async fn remove(&self, _: &Config) -> Result<(), String> {
            unreachable!()
        }

        async fn forget(&self, _: &Path, _: &str) -> Result<(), String> {
            unreachable!()
        }
    }

    #[test]
    fn what_is_removed_while_it_is_made_stays_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = MachineStore::new(dir.path());
        let root = dir.path().to_str().unwrap();
        let line = ["docker-machine", "--storage-path", root, "create", "-d", "kvm", "box"];
        let vms = Arc::new(Removed(store.clone()));
        assert_eq!(super::super::run(line.map(str::to_owned).to_vec(), vms), 1);
        assert!(store.names().unwrap().is_empty());
    }

    #[test]
    fn the_driver_is_looked_for_in_the_whole_line() {
        let name = |line: &str| {
            driver_name(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(name("create foo -d none"), "none");
        assert_eq!(name("create --driver generic -d none"), "generic");
        assert_eq!(name("create -d=a=b foo"), "a");
        assert_eq!(name("create -- --driver=x"), "x");
    }
}
