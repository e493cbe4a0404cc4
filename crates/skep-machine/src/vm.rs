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
    /// The directory of this host that the machine is to have, and where.
    pub share: Option<Share>,
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
        // What is asked for by name is meant, also where it is what virtualbox has in any case.
        let subnet = given.is_given("virtualbox-hostonly-cidr").then(|| text("hostonly-cidr"));
        let share = Share::parse(&text("share-folder"));
        let share = share.filter(|_| !given.switch("virtualbox-no-share"));
        if driver != "virtualbox" {
            one_of(&text("cache-mode"), &CACHE_MODES, prefix, "cache-mode")?;
            one_of(&text("io-mode"), &IO_MODES, prefix, "io-mode")?;
        }
        let options = &config.host_options;
        Ok(Self {
            name: config.name.clone(),
            driver: driver.to_owned(),
            cpus,
            memory: positive("memory")?,
            disk: positive("disk-size")?,
            subnet,
            share,
            engine: options.engine_options.clone(),
            tls_sans: options.auth_options.server_cert_sans.clone().unwrap_or_default(),
        })
    }
}

const CACHE_MODES: [&str; 6] =
    ["default", "none", "writethrough", "writeback", "directsync", "unsafe"];
const IO_MODES: [&str; 2] = ["threads", "native"];

fn one_of(value: &str, known: &[&str], prefix: &str, name: &str) -> Result<(), String> {
    if known.contains(&value) {
        return Ok(());
    }
    Err(format!("--{prefix}-{name} has to be one of {}, and is {value:?}", known.join(", ")))
}

/// A directory of this host, and where a machine is to have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The directory here.
    pub from: String,
    /// Its path in the machine.
    pub to: String,
}

impl Share {
    /// Takes `DIRECTORY:NAME` apart, as docker-machine does: at the last colon. The name is a path in the
    /// machine with or without its slash, and that of the directory if it is missing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (from, name) = text.rsplit_once(':').unwrap_or((text, ""));
        let name = if name.is_empty() { from } else { name };
        let to = format!("/{}", name.trim_matches('/'));
        (!from.is_empty()).then(|| Self { from: from.to_owned(), to })
    }
}

/// Is told of progress.
pub type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// A look at a machine's state.
pub type Look<'a> = Pin<Box<dyn Future<Output = Result<State, String>> + Send + 'a>>;

/// What makes and keeps virtual machines. Errors are told as they are.
#[async_trait(?Send)]
pub trait Vms: Send + Sync {
    /// Checks what must be in order before anything is made or written down, in a store; returns what the user
    /// ought to know of how the machine will be.
    async fn check(&self, root: &Path, wanted: &VmSpec) -> Result<Vec<String>, String>;

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
    use crate::options::driver_options;

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
            assert_eq!((spec.subnet, spec.share), (None, None));
        }
        let spec = collect("virtualbox", "--virtualbox-cpu-count -1").unwrap();
        assert_eq!((spec.cpus, spec.memory, spec.disk), (None, 1024, 20000));
        let spec = collect("virtualbox", "--virtualbox-hostonly-cidr 10.9.0.1/24").unwrap();
        assert_eq!(spec.subnet.as_deref(), Some("10.9.0.1/24"));
    }

    #[test]
    fn what_no_machine_can_have_is_refused_with_the_reason() {
        for (driver, line) in [
            ("kvm", "--kvm-memory 0"),
            ("kvm", "--kvm-cpu-count -1"),
            ("kvm", "--kvm-cache-mode fast"),
        ] {
            let error = collect(driver, line).unwrap_err();
            let option = line.split_whitespace().next().unwrap();
            assert!(error.starts_with(option), "{error}");
        }
    }

    #[test]
    fn an_option_that_a_machine_is_as_useful_without_does_not_leave_it_unmade() {
        for (driver, line) in [
            ("kvm", "--kvm-network other"),
            ("kvm", "--kvm-boot2docker-url http://x"),
            ("kvm", "--kvm-cache-mode unsafe --kvm-io-mode native --kvm-ssh-user root"),
            ("virtualbox", "--virtualbox-ui-type gui --virtualbox-import-boot2docker-vm old"),
            ("virtualbox", "--virtualbox-share-folder /a:b"),
        ] {
            collect(driver, line).unwrap();
        }
    }

    #[test]
    fn a_range_that_is_asked_for_is_meant_even_if_it_is_the_usual_one() {
        let subnet = |line: &str| collect("virtualbox", line).unwrap().subnet;
        assert_eq!(subnet(""), None);
        let usual = "192.168.99.1/24";
        assert_eq!(subnet(&format!("--virtualbox-hostonly-cidr {usual}")).as_deref(), Some(usual));
    }

    #[test]
    fn a_shared_directory_is_taken_apart_as_virtualboxs_driver_does() {
        let of = |text: &str| Share::parse(text).map(|it| (it.from, it.to));
        let share = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
        assert_eq!(of("/srv/me:/srv/me"), share("/srv/me", "/srv/me"));
        assert_eq!(of("/srv/me:hosthome"), share("/srv/me", "/hosthome"));
        assert_eq!(of("/with:colon:c"), share("/with:colon", "/c"));
        assert_eq!(of("/a:"), share("/a", "/a"));
        assert_eq!(of("/a"), share("/a", "/a"));
        assert_eq!(of(""), None);
        let line = "--virtualbox-share-folder /a:b --virtualbox-no-share";
        assert_eq!(collect("virtualbox", line).unwrap().share, None);
    }
}
