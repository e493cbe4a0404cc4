//! The commands.

mod access;
mod alias;
mod bench;
mod cache;
mod certs;
mod config;
mod doctor;
mod down;
mod dry_run;
mod events;
mod firewall;
mod hosts;
mod image;
mod init;
mod logs;
mod ls;
mod man;
mod node;
mod power;
mod rebalance;
mod registry;
mod schema;
mod setup;
mod stack;
mod status;
mod support;
mod swarm;
mod try_vm;
mod up;
mod version;

use std::time::{Instant, SystemTime};

use clap::{Args, CommandFactory};
use skep_print::err;

pub use alias::InstallAlias;
pub use bench::Bench;
pub use cache::CacheCommand;
pub use certs::Certs;
pub use config::Config;
pub(crate) use doctor::require;
pub use down::Down;
pub use events::Events;
pub use hosts::HostsCommand;
pub use image::ImageList;
pub use init::Init;
pub use logs::Logs;
pub use ls::List;
pub use man::Man;
pub use node::{NodeInspect, NodeList};
pub use stack::{StackList, StackLogs, StackServices, StackTasks};
pub use version::Version;

use crate::cli::{CertsCommand, Cli, Command, StackCommand, WorkFormat};
use crate::context::Context;
use crate::error::{CliError, code};
use crate::render::events as event_lines;

/// `skep completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Runs a command and returns the exit code.
///
/// # Errors
///
/// What the user is told, with its exit code.
pub async fn run(cli: Cli) -> Result<u8, CliError> {
    let Some(name) = event_source(&cli.command) else {
        let context = Context::from_env(cli.verbosity.detail())?;
        return run_in(&context, cli.command).await;
    };
    let began = Instant::now();
    event_lines::write(event_lines::started(name), SystemTime::now());
    let result = match Context::from_env(cli.verbosity.detail()) {
        Ok(context) => run_in(&context.printing_events(), cli.command).await,
        Err(error) => Err(error),
    };
    event_lines::write(event_lines::ended(&result, began.elapsed()), SystemTime::now());
    result
}

/// Returns the name of a command that is to print events as JSON lines.
fn event_source(command: &Command) -> Option<&'static str> {
    let (name, wants_events) = match command {
        Command::Up(args) => ("up", args.dry_run.wants_events()),
        Command::Down(args) => ("down", args.wants_events()),
        Command::Start(args) => ("start", args.stop.output == WorkFormat::Json),
        Command::Stop(args) => ("stop", args.output == WorkFormat::Json),
        Command::Node(command) => node::event_source(command)?,
        Command::Certs(CertsCommand::Renew(args)) => ("certs renew", args.dry_run.wants_events()),
        Command::Certs(CertsCommand::Rotate(args)) => ("certs rotate", args.dry_run.wants_events()),
        Command::Stack(StackCommand::Rm(args)) => ("stack rm", args.dry_run.wants_events()),
        _ => return None,
    };
    wants_events.then_some(name)
}

async fn run_in(context: &Context, command: Command) -> Result<u8, CliError> {
    // It takes away what it has made, also when it is interrupted.
    if let Command::Doctor(args) = &command
        && args.try_vm
    {
        return try_vm::run(context, args).await;
    }
    // What interrupts it ends it with the code of the status.
    if let Command::Status(args) = &command
        && args.watch
    {
        return status::watch(context, args).await;
    }
    let only_reads = matches!(
        &command,
        Command::Logs(_) | Command::Events(_) | Command::Stack(StackCommand::Logs(_))
    );
    let command = dispatch(context, command);
    tokio::select! {
        result = command => result,
        () = interrupted() => {
            // Nothing is left half done.
            if only_reads {
                return Ok(code::INTERRUPTED);
            }
            let message = "interrupted; run it again to continue, or `skep down` to remove the cluster";
            Err(CliError { code: code::INTERRUPTED, message: message.into(), hints: Vec::new() })
        }
    }
}

async fn dispatch(context: &Context, command: Command) -> Result<u8, CliError> {
    match command {
        Command::Up(args) => up::run(context, *args).await?,
        Command::Down(args) => down::run(context, args).await?,
        Command::Ls(args) => ls::run(context, args).await?,
        Command::Status(args) => return status::run(context, args).await,
        Command::Start(args) => power::start(context, args).await?,
        Command::Stop(args) => power::stop(context, args).await?,
        Command::Ssh(args) => return access::ssh(context, args).await,
        Command::Scp(args) => return access::scp(context, args).await,
        Command::Env(args) => access::env(context, args)?,
        Command::Docker(args) => return access::docker(context, args).await,
        Command::Node(command) => node::run(context, command).await?,
        Command::Image(command) => image::run(context, command).await?,
        Command::Registry(command) => registry::run(context, command).await?,
        Command::Stack(command) => return stack::run(context, command).await,
        Command::Rebalance(args) => return rebalance::run(context, args).await,
        Command::Swarm(command) => swarm::run(context, command).await?,
        Command::Hosts(command) => hosts::run(context, command).await?,
        Command::Firewall(command) => return firewall::run(context, command).await,
        Command::Logs(args) => logs::run(context, &args).await?,
        Command::Events(args) => events::run(context, &args).await?,
        Command::Doctor(args) => return doctor::run(context, args).await,
        Command::Setup(args) => setup::run(args).await?,
        Command::Certs(command) => certs::run(context, command).await?,
        Command::SupportBundle(args) => support::run(context, args).await?,
        Command::Cache(command) => cache::run(context, command)?,
        Command::Bench(args) => bench::run(context, args).await?,
        Command::Init(args) => init::run(context, &args)?,
        Command::Config(args) => config::run(context, &args)?,
        Command::Schema => schema::run(),
        Command::Version(args) => version::run(&args),
        Command::Man(args) => man::run(&args)?,
        Command::InstallAlias(args) => alias::run(&args)?,
        Command::Completions(Completions { shell }) => {
            let mut command = Cli::command();
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, "skep", &mut text);
            skep_print::write_exact(&text);
        }
    }
    Ok(0)
}

/// Waits for Ctrl-C or a request to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! { () = terminate => (), () = interrupt => () }
}

/// Asks on a terminal; without one, only a flag answers.
fn confirm(question: &str, yes: bool) -> Result<bool, CliError> {
    use std::io::{BufRead, IsTerminal};
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(format!(
            "{question} Standard input is not a terminal; confirm with -y"
        )));
    }
    err!("{question} [y/N] ");
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
