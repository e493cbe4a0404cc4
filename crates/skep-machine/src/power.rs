//! `start`, `stop`, `kill`, `restart`, `upgrade`, `provision`, `regenerate-certs`.

use std::time::Duration;

use gotemplate::go_quote;
use skep_sys::Cmd;
use skep_sys::shell::NodeShell as _;

use super::call::Call;
use super::confirm::confirm;
use super::create::bootstrap;
use super::driver::{Kind, Machine, State};
use super::failure::Failure;
use super::hosts;
use super::say::Say;
use super::show::finish;
use super::ssh::base_args;

/// How often it is looked whether what is waited for is there.
const TRIES: u32 = 60;

/// The time between two looks.
const PAUSE: Duration = Duration::from_secs(3);

/// How long a host may take to let us in.
const LOG_IN: Duration = Duration::from_secs(15);

/// Waits until a machine is in a state.
///
/// # Errors
///
/// If it is not in time.
pub(super) async fn wait_for(machine: &Machine, state: State) -> Result<(), String> {
    for attempt in 0..TRIES {
        if machine.is(state).await {
            return Ok(());
        }
        machine.check_there()?;
        if attempt + 1 < TRIES {
            // wait: a machine's driver has nothing that would tell of a change.
            tokio::time::sleep(PAUSE).await;
        }
    }
    Err(format!("Maximum number of retries ({TRIES}) exceeded"))
}

/// Waits until commands can be run on a machine, and finds out what system it has.
///
/// # Errors
///
/// If nobody can log in in time.
pub(super) async fn detect(machine: &Machine, say: &Say) -> Result<(), String> {
    say.info("Waiting for SSH to be available...");
    let late = |error: String| {
        Err(format!("Too many retries waiting for SSH to be available.  Last error: {error}"))
    };
    if machine.kind == Kind::None {
        return late("hosts without a driver have no SSH".to_owned());
    }
    let mut last = String::new();
    for attempt in 0..TRIES {
        let tried = tokio::select! {
            tried = log_in(machine) => tried,
            gone = removal(machine) => return Err(gone),
        };
        match tried {
            Ok(()) => {
                say.info("Detecting the provisioner...");
                return Ok(());
            }
            Err((error, true)) => return Err(error),
            Err((error, false)) => last = error,
        }
        if attempt + 1 < TRIES {
            // wait: whether somebody can log in can only be tried.
            tokio::time::sleep(PAUSE).await;
        }
    }
    late(last)
}

/// Waits until somebody has removed the machine, and returns what is said then: who tries to log in would
/// hear nothing for long.
async fn removal(machine: &Machine) -> String {
    loop {
        if let Err(gone) = machine.check_there() {
            return gone;
        }
        // wait: nobody tells when a machine's entry goes.
        tokio::time::sleep(PAUSE).await;
    }
}

/// Logs in to a machine; tells with the error whether there is no sense in trying again.
async fn log_in(machine: &Machine) -> Result<(), (String, bool)> {
    if machine.kind != Kind::Generic {
        return run(machine, "exit 0").await.map(drop).map_err(|error| (error, false));
    }
    let tried = hosts::shell(machine).succeed("true", &["true"], b"", LOG_IN).await;
    tried.map(drop).map_err(|error| (skep_sys::chain(&error), hosts::is_final(&error)))
}

/// Runs a command on a machine and returns what it printed.
async fn run(machine: &Machine, command: &str) -> Result<String, String> {
    let args = base_args(machine)?;
    let output = Cmd::new("ssh").args(args).arg(command).run().await;
    output.map(|output| output.text()).map_err(|error| skep_sys::chain(&error))
}

async fn provisioned(machine: &Machine, say: &Say) -> Result<(), String> {
    detect(machine, say).await?;
    machine.provision(false).await
}

/// Makes an engine ready on a new machine.
///
/// # Errors
///
/// If nobody can log in, or the engine cannot be set up.
pub(super) async fn provision_new(machine: &Machine, say: &Say) -> Result<(), String> {
    detect(machine, say).await.map_err(|error| format!("Error detecting OS: {error}"))?;
    machine.provision(true).await.map_err(|error| format!("Error running provisioning: {error}"))
}

/// What is done with a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Start,
    Stop,
    Kill,
    Restart,
    Upgrade,
    Provision,
}

impl Action {
    async fn act(self, machine: &Machine, say: &Say) -> Result<(), String> {
        match self {
            Self::Start => start(machine, say).await,
            Self::Stop | Self::Kill => self.end(machine, say).await,
            Self::Restart => restart(machine, say).await,
            Self::Upgrade => upgrade(machine, say).await,
            Self::Provision => provisioned(machine, say).await,
        }
    }

    async fn end(self, machine: &Machine, say: &Say) -> Result<(), String> {
        let name = go_quote(machine.name());
        let (doing, done) =
            if self == Self::Stop { ("Stopping", "stopped") } else { ("Killing", "killed") };
        say.info(format!("{doing} {name}..."));
        if machine.is(State::Stopped).await {
            return Err(format!("Machine {name} is already stopped."));
        }
        if self == Self::Stop {
            machine.stop().await?
        } else {
            machine.kill().await?
        }
        wait_for(machine, State::Stopped).await?;
        say.info(format!("Machine {name} was {done}."));
        Ok(())
    }
}

async fn start(machine: &Machine, say: &Say) -> Result<(), String> {
    let name = go_quote(machine.name());
    say.info(format!("Starting {name}..."));
    if machine.is(State::Running).await {
        return Err(format!("Machine {name} is already running."));
    }
    machine.start().await?;
    wait_for(machine, State::Running).await?;
    say.info(format!("Machine {name} was started."));
    detect(machine, say).await
}

async fn restart(machine: &Machine, say: &Say) -> Result<(), String> {
    say.info(format!("Restarting {}...", go_quote(machine.name())));
    if machine.is(State::Stopped).await {
        start(machine, say).await?;
    } else if machine.is(State::Running).await {
        match machine.kind {
            Kind::Generic => reboot(machine).await?,
            _ => machine.restart().await?,
        }
        wait_for(machine, State::Running).await?;
    }
    detect(machine, say).await
}

/// What tells one boot of a host from the next (proc(5)).
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

/// Restarts a host, and waits until it has gone and come back: it answers for a while after it was told.
async fn reboot(machine: &Machine) -> Result<(), String> {
    let before = run(machine, BOOT_ID).await?;
    let told = run(machine, "sudo shutdown -r now").await;
    for _ in 0..TRIES {
        match run(machine, BOOT_ID).await {
            Ok(now) if now != before => return Ok(()),
            // A connection that ends with the host is no failure, but sudo that refuses is.
            Ok(_) if told.as_ref().is_err_and(|error| error.contains("sudo: ")) => break,
            _ => machine.check_there()?,
        }
        // wait: whether somebody can log in can only be tried.
        tokio::time::sleep(PAUSE).await;
    }
    told?;
    Err(format!("it did not restart: Maximum number of retries ({TRIES}) exceeded"))
}

async fn upgrade(machine: &Machine, say: &Say) -> Result<(), String> {
    if machine.state().await? != State::Running {
        say.info("Starting machine so machine can be upgraded...");
        start(machine, say).await?;
    }
    detect(machine, say).await?;
    machine.upgrade().await
}

/// Does the same with all machines that are named, in order.
pub(super) async fn power(call: &Call, action: Action) -> Result<(), Failure> {
    let machines = call.several()?;
    let mut errors = Vec::new();
    for machine in &machines {
        if let Err(error) = action.act(machine, &call.say).await {
            errors.push(error);
        }
    }
    finish(call, &machines, &errors)?;
    let changed = match action {
        Action::Start => "Started",
        Action::Restart => "Restarted",
        _ => return Ok(()),
    };
    call.say.info(format!(
        "{changed} machines may have new IP addresses. You may need to re-run the \
         `docker-machine env` command."
    ));
    Ok(())
}

/// Makes the certificates of machines anew.
pub(super) async fn regenerate_certs(call: &Call) -> Result<(), Failure> {
    if !call.given.switch("force") {
        let question = "Regenerate TLS machine certs?  Warning: this is irreversible.";
        if !confirm(question)? {
            return Ok(());
        }
    }
    call.say.info("Regenerating TLS certificates");
    let machines = call.several()?;
    let mut errors = Vec::new();
    for machine in &machines {
        let certificates = async {
            if call.given.switch("client-certs") {
                call.say.info("Regenerating local certificates");
                bootstrap(&machine.config.host_options.auth_options, &call.say).await?;
            }
            provisioned(machine, &call.say).await
        };
        if let Err(error) = certificates.await {
            errors.push(error);
        }
    }
    finish(call, &machines, &errors)
}
