//! A machine and what its driver does: none, generic, virtual machines of ours, or a driver that is
//! not there.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use skep_docker::engine::remote;
use skep_ops::converge::EngineSetup;
use skep_store::dm::{Config, Error, MachineStore};
use skep_store::pki::Credentials;

use super::call::variable;
use super::hosts;
use super::say::Say;
use super::vm::{DRIVERS, Vms};

/// How long a host may take to answer on its ssh port.
const ANSWERS: Duration = Duration::from_secs(15);

/// What is said of a machine that would have to run.
pub const NOT_RUNNING: &str = "Host is not running";

/// A machine's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has none.
    None,
    /// It runs.
    Running,
    /// It is halted and goes on at once.
    Paused,
    /// It is kept on disk.
    Saved,
    /// It does not run.
    Stopped,
    /// It is about to stop.
    Stopping,
    /// It is about to run.
    Starting,
    /// It cannot be told.
    Error,
    /// It was not told in time.
    Timeout,
}

impl State {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Running => "Running",
            Self::Paused => "Paused",
            Self::Saved => "Saved",
            Self::Stopped => "Stopped",
            Self::Stopping => "Stopping",
            Self::Starting => "Starting",
            Self::Error => "Error",
            Self::Timeout => "Timeout",
        }
    }
}

/// What kind of machine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only a URL.
    None,
    /// A host that is there already.
    Generic,
    /// A virtual machine of ours.
    Vm,
    /// One whose driver is not there.
    Absent,
}

/// Where to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The host.
    pub host: String,
    /// The port.
    pub port: i64,
    /// The key's file; empty for ssh's own choice.
    pub key: String,
}

/// A machine.
#[derive(Clone)]
pub struct Machine {
    /// What is written down of it.
    pub config: Config,
    /// What kind it is.
    pub kind: Kind,
    /// The same when it was loaded.
    loaded: Config,
    vms: Arc<dyn Vms>,
    say: Say,
}

/// The keys of the driver's object that all drivers have, and what stands for a missing one.
const COMMON: [&str; 9] = [
    "IPAddress",
    "MachineName",
    "SSHUser",
    "SSHPort",
    "SSHKeyPath",
    "StorePath",
    "SwarmMaster",
    "SwarmHost",
    "SwarmDiscovery",
];

/// What the real drivers have in their part of the record, and machines of ours have not.
const FOREIGN: [&str; 5] = ["VBoxManager", "PrivateNetwork", "ISO", "DiskPath", "Boot2DockerURL"];

fn is_foreign(driver: &Map<String, Value>) -> bool {
    FOREIGN.iter().any(|key| driver.contains_key(*key))
}

impl Machine {
    /// Creates a machine from its record.
    #[must_use]
    pub fn new(config: Config, vms: Arc<dyn Vms>, say: Say) -> Self {
        let kind = match config.driver_name.as_str() {
            "none" => Kind::None,
            "generic" => Kind::Generic,
            name if DRIVERS.contains(&name) && is_foreign(&config.driver) => Kind::Absent,
            name if DRIVERS.contains(&name) => Kind::Vm,
            _ => Kind::Absent,
        };
        let machine = Self { loaded: config.clone(), config, kind, vms, say };
        machine.opened();
        machine
    }

    /// Returns the machine's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Tells of the start of a driver what docker-machine tells. Drivers are built in: there is no
    /// server, and so no port of one.
    fn opened(&self) {
        if self.kind == Kind::Absent {
            return;
        }
        let driver = &self.config.driver_name;
        self.say.debug(format!("Launching plugin server for driver {driver}"));
        self.say.debug("Plugin server listening at address 127.0.0.1:00000");
        for line in [
            "() Calling .GetVersion",
            "Using API Version  1",
            "() Calling .SetConfigRaw",
            "() Calling .GetMachineName",
        ] {
            self.say.debug(line);
        }
    }

    /// Tells of a call of the driver.
    pub fn calls(&self, what: &str) {
        self.say.debug(format!("({}) Calling .{what}", self.name()));
    }

    /// Tells of the end of the driver.
    pub fn close(&self) {
        if self.kind != Kind::Absent {
            self.say.debug("Making call to close driver server");
            self.calls("Close");
            self.say.debug("Successfully made call to close driver server");
            self.say.debug("Making call to close connection to plugin binary");
        }
    }

    /// Returns what a driver that is not there says.
    fn absent<T>(&self) -> Result<T, String> {
        let driver = &self.config.driver_name;
        Err(format!(
            "Driver {driver:?} not found. Do you have the plugin binary accessible in your PATH?"
        ))
    }

    fn field(&self, key: &str) -> Option<&Value> {
        let driver = &self.config.driver;
        driver.get(key).or_else(|| {
            let mut others = driver.iter();
            others.find(|(other, _)| other.eq_ignore_ascii_case(key)).map(|(_, value)| value)
        })
    }

    fn text(&self, key: &str) -> String {
        self.field(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn number(&self, key: &str) -> i64 {
        self.field(key).and_then(Value::as_i64).unwrap_or(0)
    }

    /// Returns the driver's object as the driver itself would write it.
    #[must_use]
    pub fn driver_object(&self) -> Map<String, Value> {
        let own: &[&str] = match self.kind {
            Kind::Absent => {
                return [("Name".to_owned(), json!(self.config.driver_name))].into_iter().collect();
            }
            Kind::Vm => return self.config.driver.clone(),
            Kind::None => &["URL"],
            Kind::Generic => &["EnginePort", "SSHKey"],
        };
        let entry = |key: &&str| {
            let missing = match *key {
                "SSHPort" | "EnginePort" => json!(0),
                "SwarmMaster" => json!(false),
                _ => json!(""),
            };
            (
                (*key).to_owned(),
                self.field(key).filter(|it| !it.is_null()).cloned().unwrap_or(missing),
            )
        };
        COMMON.iter().chain(own).map(entry).collect()
    }

    /// Returns the record to write: what the driver knows first, then what else was there.
    #[must_use]
    pub fn record(&self) -> Config {
        let mut config = self.config.clone();
        if matches!(self.kind, Kind::None | Kind::Generic) {
            let mut driver = self.driver_object();
            for (key, value) in &self.config.driver {
                if !driver.keys().any(|known| known.eq_ignore_ascii_case(key)) {
                    driver.insert(key.clone(), value.clone());
                }
            }
            config.driver = driver;
        }
        config
    }

    /// Tells whether the record is another than the one that was loaded. One that is not is left alone:
    /// somebody else may have written it since.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.record() != self.loaded
    }

    /// Returns the machine's state.
    ///
    /// # Errors
    ///
    /// If its driver is not there or cannot tell.
    pub async fn state(&self) -> Result<State, String> {
        self.calls("GetState");
        match self.kind {
            Kind::None => Ok(State::Running),
            Kind::Generic => {
                let login = self.login();
                let port = u16::try_from(login.port).unwrap_or(0);
                let answers = remote::answers(&login.host, port, ANSWERS).await;
                Ok(if answers { State::Running } else { State::Stopped })
            }
            Kind::Vm => self.vms.state(&self.config).await,
            Kind::Absent => self.absent(),
        }
    }

    /// Tells whether somebody has removed the machine since it was loaded or made.
    ///
    /// # Errors
    ///
    /// If so, with that.
    pub fn check_there(&self) -> Result<(), String> {
        let store = MachineStore::new(self.text("StorePath"));
        let is_there = store.exists(self.name());
        is_there.then_some(()).ok_or_else(|| Error::Removed(self.name().to_owned()).to_string())
    }

    /// Tells whether the machine is in a state.
    pub async fn is(&self, state: State) -> bool {
        self.state().await.is_ok_and(|found| found == state)
    }

    /// Returns the URL of the machine's engine; empty if it has no address.
    ///
    /// # Errors
    ///
    /// If the machine does not run.
    pub async fn url(&self) -> Result<String, String> {
        self.calls("GetURL");
        let port = match self.kind {
            Kind::None => return Ok(self.text("URL")),
            Kind::Generic | Kind::Vm => self.engine_port(),
            Kind::Absent => return self.absent(),
        };
        if !self.is(State::Running).await {
            return Err(NOT_RUNNING.to_owned());
        }
        let host = self.text("IPAddress");
        Ok(match (host.as_str(), host.contains(':')) {
            ("", _) => String::new(),
            (_, true) => format!("tcp://[{host}]:{port}"),
            (_, false) => format!("tcp://{host}:{port}"),
        })
    }

    /// Returns the machine's address.
    ///
    /// # Errors
    ///
    /// If it has none.
    pub fn ip(&self) -> Result<String, String> {
        self.calls("GetIP");
        let address = self.text("IPAddress");
        match self.kind {
            Kind::Absent => self.absent(),
            Kind::Generic | Kind::Vm if address.is_empty() => {
                Err("IP address is not set".to_owned())
            }
            _ => Ok(address),
        }
    }

    /// Returns where to log in.
    #[must_use]
    pub fn login(&self) -> Login {
        let or =
            |value: String, usual: &str| if value.is_empty() { usual.to_owned() } else { value };
        let port = match self.number("SSHPort") {
            0 => 22,
            port => port,
        };
        let (user, key) = (self.text("SSHUser"), self.text("SSHKeyPath"));
        match self.kind {
            Kind::None => {
                Login { user: String::new(), host: String::new(), port: 0, key: String::new() }
            }
            Kind::Generic => {
                Login { user: or(user, "root"), host: self.text("IPAddress"), port, key }
            }
            Kind::Vm | Kind::Absent => {
                let own = format!("{}/machines/{}/id_rsa", self.text("StorePath"), self.name());
                Login {
                    user: or(user, "docker"),
                    host: self.text("IPAddress"),
                    port,
                    key: or(key, &own),
                }
            }
        }
    }

    /// Starts the machine.
    ///
    /// # Errors
    ///
    /// If the driver cannot.
    pub async fn start(&self) -> Result<(), String> {
        self.calls("Start");
        match self.kind {
            Kind::Vm => self.vms.start(&self.config).await,
            _ => self.refuse("start", "started"),
        }
    }

    /// Shuts the machine down.
    ///
    /// # Errors
    ///
    /// If the driver cannot.
    pub async fn stop(&self) -> Result<(), String> {
        self.calls("Stop");
        match self.kind {
            Kind::Vm => self.vms.stop(&self.config).await,
            _ => self.refuse("stop", "stopped"),
        }
    }

    /// Ends the machine at once.
    ///
    /// # Errors
    ///
    /// If the driver cannot.
    pub async fn kill(&self) -> Result<(), String> {
        self.calls("Kill");
        match self.kind {
            Kind::Vm => self.vms.kill(&self.config).await,
            _ => self.refuse("kill", "killed"),
        }
    }

    /// Shuts the machine down and starts it again; a host of the generic driver is told to do so.
    ///
    /// # Errors
    ///
    /// If the driver cannot.
    pub async fn restart(&self) -> Result<(), String> {
        self.calls("Restart");
        match self.kind {
            Kind::Vm => {
                self.vms.stop(&self.config).await?;
                self.vms.start(&self.config).await
            }
            _ => self.refuse("restart", "restarted"),
        }
    }

    /// Sets the machine's engine up, with a certificate made anew unless the machine is a new one of ours.
    ///
    /// # Errors
    ///
    /// If it cannot be done.
    pub async fn provision(&self, new: bool) -> Result<(), String> {
        match self.kind {
            Kind::Vm => self.vms.provision(&self.config, new, &|text| self.say.info(text)).await,
            Kind::Generic => {
                let user = variable("USER").unwrap_or_else(|| "unknown".to_owned());
                hosts::provision(self, new, &user, &self.say).await
            }
            _ => self.refuse("provision", "provisioned"),
        }
    }

    /// Returns the options of its engine.
    #[must_use]
    pub fn engine_setup(&self) -> EngineSetup {
        EngineSetup::of_host(&self.config)
    }

    /// Returns the port of its engine.
    #[must_use]
    pub fn engine_port(&self) -> i64 {
        match self.kind {
            Kind::Generic => self.number("EnginePort"),
            _ => i64::from(skep_docker::engine::PORT),
        }
    }

    /// Brings the machine's engine up to date.
    ///
    /// # Errors
    ///
    /// If it cannot be done.
    pub async fn upgrade(&self) -> Result<(), String> {
        match self.kind {
            Kind::Vm => self.vms.upgrade(&self.config, &|text| self.say.info(text)).await,
            Kind::Generic => hosts::upgrade(self, &self.say).await,
            _ => self.refuse("upgrade", "upgraded"),
        }
    }

    /// Removes what the driver has of the machine.
    ///
    /// # Errors
    ///
    /// If the driver cannot.
    pub async fn remove(&self) -> Result<(), String> {
        self.calls("Remove");
        match self.kind {
            Kind::None | Kind::Generic => Ok(()),
            Kind::Vm => self.vms.remove(&self.config).await,
            Kind::Absent => self.absent(),
        }
    }

    fn refuse(&self, verb: &str, done: &str) -> Result<(), String> {
        match self.kind {
            Kind::None => Err(format!("hosts without a driver cannot be {done}")),
            Kind::Generic => Err(format!("generic driver does not support {verb}")),
            Kind::Vm | Kind::Absent => self.absent(),
        }
    }

    /// Returns the certificates that its engine's clients need.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        let auth = &self.config.host_options.auth_options;
        Credentials {
            ca: auth.ca_cert_path.clone().into(),
            cert: auth.client_cert_path.clone().into(),
            key: auth.client_key_path.clone().into(),
        }
    }
}
