//! A command that is run: its line, the store, and the machines that it has loaded.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use skep_store::dm::MachineStore;
use skep_sys::find_program;

use super::argparse::Given;
use super::driver::Machine;
use super::failure::Failure;
use super::say::Say;
use super::vm::Vms;

/// The machine that is meant if none is named.
const DEFAULT: &str = "default";

/// The names of machines that cannot be loaded, and why.
pub type Broken = Vec<(String, String)>;

/// A command that is run.
pub struct Call {
    /// The whole line, beginning with what the program was called by.
    pub line: Vec<String>,
    /// Where machines are.
    pub store: MachineStore,
    /// What came before the command.
    pub global: Given,
    /// What came behind it.
    pub given: Given,
    /// The command's help.
    pub help: String,
    /// Where progress goes.
    pub say: Say,
    /// What makes virtual machines.
    pub vms: Arc<dyn Vms>,
    loaded: Mutex<Vec<Machine>>,
}

/// Returns a variable of the environment; an empty one is none.
pub fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?.to_string_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

/// Returns the directory of docker-machine's store.
#[must_use]
pub fn store_path() -> String {
    let home = variable("HOME").unwrap_or_default();
    variable("MACHINE_STORAGE_PATH").unwrap_or_else(|| format!("{home}/.docker/machine"))
}

/// Loads all machines of a store in one way; those that cannot be are returned with the reason.
///
/// # Errors
///
/// If the store cannot be listed.
pub fn load_each(
    store: &MachineStore,
    load: impl Fn(&str) -> Result<Machine, Failure>,
) -> Result<(Vec<Machine>, Broken), Failure> {
    let (mut machines, mut broken) = (Vec::new(), Vec::new());
    for name in store.names()? {
        match load(&name) {
            Ok(machine) => machines.push(machine),
            Err(failure) => broken.push((name, failure.text)),
        }
    }
    Ok((machines, broken))
}

impl Call {
    /// Creates a call.
    #[must_use]
    pub fn new(
        line: Vec<String>,
        (global, given): (Given, Given),
        help: String,
        say: Say,
        vms: Arc<dyn Vms>,
    ) -> Self {
        let store = MachineStore::new(global.text("storage-path"));
        Self { line, store, global, given, help, say, vms, loaded: Mutex::default() }
    }

    /// Returns what the program was called by.
    #[must_use]
    pub fn argv0(&self) -> &str {
        self.line.first().map_or("docker-machine", String::as_str)
    }

    /// Returns the command's arguments.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.given.words
    }

    /// Loads a machine.
    ///
    /// # Errors
    ///
    /// If it is not there or damaged.
    pub fn load(&self, name: &str) -> Result<Machine, Failure> {
        let config = self.store.load(name)?;
        self.found_binary();
        let machine = Machine::new(config, Arc::clone(&self.vms), self.say.clone());
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.push(machine.clone());
        Ok(machine)
    }

    /// Tells where the program is, as docker-machine does before it starts a driver.
    pub fn found_binary(&self) {
        if !self.say.debugs() {
            return;
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let file = find_program(self.argv0(), &path);
        let file = file.unwrap_or_else(|| PathBuf::from(self.argv0()));
        self.say.debug(format!("Found binary path at {}", file.display()));
    }

    /// Loads all machines of the store; those that cannot be are returned with the reason.
    ///
    /// # Errors
    ///
    /// If the store cannot be listed.
    pub fn load_all(&self) -> Result<(Vec<Machine>, Broken), Failure> {
        load_each(&self.store, |name| self.load(name))
    }

    /// Returns the name of the machine that is meant.
    ///
    /// # Errors
    ///
    /// If none is named and there is none to mean.
    pub fn target(&self) -> Result<String, Failure> {
        match self.words().first() {
            Some(name) => Ok(name.clone()),
            None if self.store.exists(DEFAULT) => Ok(DEFAULT.to_owned()),
            None => {
                Err("Error: No machine name(s) specified and no \"default\" machine exists".into())
            }
        }
    }

    /// Loads the one machine that is meant.
    ///
    /// # Errors
    ///
    /// If several are named, or it cannot be loaded.
    pub fn only(&self) -> Result<Machine, Failure> {
        if self.words().len() > 1 {
            return Err("Error: Expected one machine name as an argument".into());
        }
        self.load(&self.target()?)
    }

    /// Loads all machines that are named.
    ///
    /// # Errors
    ///
    /// If one cannot be; all that is wrong is told.
    pub fn several(&self) -> Result<Vec<Machine>, Failure> {
        let names = match self.words() {
            [] => vec![self.target()?],
            words => words.to_vec(),
        };
        let (mut machines, mut errors) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                continue;
            }
            match self.load(name) {
                Ok(machine) => machines.push(machine),
                Err(failure) => errors.push(failure.text),
            }
        }
        if errors.is_empty() { Ok(machines) } else { Err(errors.join("\n").into()) }
    }

    /// Writes a new machine down.
    ///
    /// # Errors
    ///
    /// If its name is taken, or the file cannot be written.
    pub fn create(&self, machine: &Machine) -> Result<(), Failure> {
        machine.calls("GetConfigRaw");
        Ok(self.store.create(&machine.record())?)
    }

    /// Writes a machine down again.
    ///
    /// # Errors
    ///
    /// If it was removed meanwhile, or the file cannot be written.
    pub fn save(&self, machine: &Machine) -> Result<(), Failure> {
        machine.calls("GetConfigRaw");
        Ok(self.store.save(&machine.record())?)
    }

    /// Ends the drivers of all machines that were loaded.
    pub fn close(&self) {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.iter().for_each(Machine::close);
    }
}
