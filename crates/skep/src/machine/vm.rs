//! Virtual machines of ours under the names of docker-machine's drivers: what is asked for is
//! collected here, and made elsewhere.

use std::path::Path;
use std::pin::Pin;

use async_trait::async_trait;
use skep_store::dm::{Config, EngineOptions};

use super::argparse::Given;
use super::driver::State;

/// The drivers whose names stand for virtual machines of ours.
pub const DRIVERS: [&str; 4] = ["kvm", "kvm2", "qemu", "virtualbox"];

/// The network's name that asks for none in particular.
const ANY_NETWORK: &str = "default";

/// The addresses that virtualbox has if none are asked for.
const ANY_ADDRESSES: &str = "192.168.99.1/24";

/// A virtual machine as it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct VmSpec {
    /// The machine's name.
    pub name: String,
    /// The name of the driver that was asked for.
    pub driver: String,
    /// How many processors; none for as many as the host has.
    pub cpus: Option<u32>,
    /// In MiB.
    pub memory: u64,
    /// In MB, as docker-machine counts: 1000 * 1000 bytes.
    pub disk: u64,
    /// The host's address and the network, as in `192.168.99.1/24`; none for any that is free.
    pub subnet: Option<String>,
    /// How QEMU caches the disk; none for whatever is best.
    pub cache_mode: Option<String>,
    /// How QEMU reads and writes the disk.
    pub io_mode: Option<String>,
    /// The user to log in as.
    pub user: String,
    /// Options of the engine.
    pub engine: EngineOptions,
    /// Names of the engine's certificate, beside its address.
    pub tls_sans: Vec<String>,
}

impl VmSpec {
    /// Collects what is asked for on the command line of `create`.
    ///
    /// # Errors
    ///
    /// If something is asked for that cannot be had, with the reason.
    pub fn collect(driver: &str, given: &Given, config: &Config) -> Result<Self, String> {
        let prefix = if driver == "kvm2" { "kvm" } else { driver };
        let text = |name: &str| given.text(&format!("{prefix}-{name}")).to_owned();
        let positive = |name: &str| {
            let number = given.number(&format!("{prefix}-{name}"));
            u64::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| {
                format!("--{prefix}-{name} has to be a positive number, and is {number}")
            })
        };
        let cpus = match given.number(&format!("{prefix}-cpu-count")) {
            -1 if driver == "virtualbox" => None,
            _ => Some(positive("cpu-count")?.try_into().unwrap_or(u32::MAX)),
        };
        refuse(&text, prefix)?;
        let other = |value: String, usual: &str| (value != usual).then_some(value);
        let (subnet, cache_mode, io_mode, user) = match driver {
            "virtualbox" => {
                (other(text("hostonly-cidr"), ANY_ADDRESSES), None, None, "docker".to_owned())
            }
            _ => {
                let cache = one_of(&text("cache-mode"), &CACHE_MODES, prefix, "cache-mode")?;
                let io = one_of(&text("io-mode"), &IO_MODES, prefix, "io-mode")?;
                (None, other(cache, "default"), Some(io), text("ssh-user"))
            }
        };
        let options = &config.host_options;
        Ok(Self {
            name: config.name.clone(),
            driver: driver.to_owned(),
            cpus,
            memory: positive("memory")?,
            disk: positive("disk-size")?,
            subnet,
            cache_mode,
            io_mode,
            user,
            engine: options.engine_options.clone(),
            tls_sans: options.auth_options.server_cert_sans.clone().unwrap_or_default(),
        })
    }
}

const CACHE_MODES: [&str; 6] =
    ["default", "none", "writethrough", "writeback", "directsync", "unsafe"];
const IO_MODES: [&str; 2] = ["threads", "native"];

fn one_of(value: &str, known: &[&str], prefix: &str, name: &str) -> Result<String, String> {
    if known.contains(&value) {
        return Ok(value.to_owned());
    }
    Err(format!("--{prefix}-{name} has to be one of {}, and is {value:?}", known.join(", ")))
}

/// Refuses what would change what the user gets and cannot be had.
fn refuse(text: &dyn Fn(&str) -> String, prefix: &str) -> Result<(), String> {
    let reasons: [(&str, &[&str], &str); 5] = [
        ("boot2docker-url", &[""], "machines boot an image that skep builds"),
        ("network", &["", ANY_NETWORK], "machines have a network of their own"),
        ("import-boot2docker-vm", &[""], "there is nothing to import from"),
        ("share-folder", &[""], "no directory of the host is shared; copy with scp"),
        ("ui-type", &["", "headless"], "machines have no screen"),
    ];
    for (name, usual, reason) in reasons {
        if !usual.contains(&text(name).as_str()) {
            return Err(format!("--{prefix}-{name} cannot be had: {reason}"));
        }
    }
    Ok(())
}

/// Is told of progress.
pub type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// A look at a machine's state.
pub type Look<'a> = Pin<Box<dyn Future<Output = Result<State, String>> + Send + 'a>>;

/// What makes and keeps virtual machines. Errors are told as they are.
#[async_trait(?Send)]
pub trait Vms: Send + Sync {
    /// Checks what must be in order before anything is made.
    async fn check(&self, wanted: &VmSpec) -> Result<(), String>;

    /// Makes a machine and starts it, telling of progress; fills in what the driver's part of the record
    /// has, whatever becomes of it.
    async fn create(
        &self,
        wanted: &VmSpec,
        config: &mut Config,
        tell: Tell<'_>,
    ) -> Result<(), String>;

    /// Returns a machine's state, quickly and without a word to the guest. Many may be asked for at once,
    /// so whoever looks may do so in a task of its own.
    fn state<'a>(&'a self, config: &'a Config) -> Look<'a>;

    /// Starts a machine and waits for its engine.
    async fn start(&self, config: &Config) -> Result<(), String>;

    /// Shuts a machine down.
    async fn stop(&self, config: &Config) -> Result<(), String>;

    /// Ends a machine at once.
    async fn kill(&self, config: &Config) -> Result<(), String>;

    /// Sets a running machine's engine up as the record says; makes its certificate anew, unless the
    /// machine was just made.
    async fn provision(&self, config: &Config, new: bool, tell: Tell<'_>) -> Result<(), String>;

    /// Brings a running machine's engine up to date.
    async fn upgrade(&self, config: &Config, tell: Tell<'_>) -> Result<(), String>;

    /// Removes all of a machine.
    async fn remove(&self, config: &Config) -> Result<(), String>;

    /// Removes all of a machine of a store whose record cannot be read; where there are no machines of
    /// ours, nothing is done.
    async fn forget(&self, root: &Path, name: &str) -> Result<(), String>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::options::driver_options;

    fn collect(driver: &str, line: &str) -> Result<VmSpec, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let options = driver_options(driver).unwrap();
        let given = Given::parse(options, &words, &|_| None).unwrap();
        VmSpec::collect(driver, &given, &Config::new(Path::new("/s"), "box", driver))
    }

    #[test]
    fn each_drivers_options_mean_the_same() {
        for (driver, prefix) in [("kvm", "kvm"), ("kvm2", "kvm"), ("qemu", "qemu")] {
            let line =
                format!("--{prefix}-memory 2048 --{prefix}-cpu-count=2 --{prefix}-disk-size 9");
            let spec = collect(driver, &line).unwrap();
            assert_eq!((spec.cpus, spec.memory, spec.disk), (Some(2), 2048, 9));
            assert_eq!((spec.subnet, spec.cache_mode), (None, None));
        }
        let spec = collect("virtualbox", "--virtualbox-cpu-count -1").unwrap();
        assert_eq!((spec.cpus, spec.memory, spec.disk), (None, 1024, 20000));
        let spec = collect("virtualbox", "--virtualbox-hostonly-cidr 10.9.0.1/24").unwrap();
        assert_eq!(spec.subnet.as_deref(), Some("10.9.0.1/24"));
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_the_reason() {
        for (driver, line) in [
            ("kvm", "--kvm-network other"),
            ("kvm", "--kvm-boot2docker-url http://x"),
            ("kvm", "--kvm-memory 0"),
            ("kvm", "--kvm-cpu-count -1"),
            ("kvm", "--kvm-cache-mode fast"),
            ("virtualbox", "--virtualbox-ui-type gui"),
            ("virtualbox", "--virtualbox-share-folder /a:b"),
        ] {
            let error = collect(driver, line).unwrap_err();
            let option = line.split_whitespace().next().unwrap();
            assert!(error.starts_with(option), "{error}");
        }
    }
}
