//! docker-machine: what skep is when it is called by that name.
//!
//! ```text
//! words     the grammar of the command line     table, options   commands and options, as data
//! help      rendered from these                 call             a command that is run
//! driver    what a machine can do               vm               the seam to machines of ours
//! support   what becomes of each option
//! clusters  those that are a cluster's          hosts            those that are hosts over SSH
//! ```
//!
//! Its texts and its exit codes are those of docker-machine 0.16, as scripts read them. Each command is a
//! file, or shares one with its kin.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

pub mod argparse;
pub mod call;
pub mod clusters;
pub mod confirm;
pub mod connect;
pub mod create;
pub mod driver;
mod env;
pub mod failure;
pub mod filter;
pub mod help;
mod hosts;
mod ls;
pub mod options;
mod power;
mod rm;
pub mod row;
pub mod say;
mod share;
mod show;
mod ssh;
pub mod support;
pub mod table;
pub mod vm;
pub mod wanted;

use std::sync::Arc;

use argparse::{Given, Opt, Wrong};
use call::{Call, variable};
use failure::Failure;
use power::Action;
use say::Say;
use table::{COMMANDS, CREATE_OPTIONS, CommandSpec, global_options};

use skep_print::{out, outln};

/// The name that skep has to be called by.
pub const NAME: &str = "docker-machine";

/// Tells whether skep was called by that name.
#[must_use]
pub fn is_called(argv0: &str) -> bool {
    base_name(argv0) == NAME
}

/// Returns the last part of a path.
fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// Runs a command line, beginning with what the program was called by, and returns the exit code.
#[must_use]
pub fn run(line: Vec<String>, vms: Arc<dyn vm::Vms>) -> u8 {
    match try_run(line, vms) {
        Ok(code) => code,
        Err(failure) => {
            say::aside(&failure.text);
            failure.code
        }
    }
}

fn try_run(line: Vec<String>, vms: Arc<dyn vm::Vms>) -> Result<u8, Failure> {
    if variable("MACHINE_PLUGIN_TOKEN").as_deref() == Some("42") {
        let name = variable("MACHINE_PLUGIN_DRIVER_NAME").unwrap_or_default();
        return Err(format!("Unsupported driver: {name}").into());
    }
    let say = Say::new(wants_debug(&line)?);
    let argv0 = line.first().map_or(NAME, String::as_str).to_owned();
    let name = base_name(&argv0);
    let store = call::store_path();
    let globals = global_options(&store);
    let help = || help::application(name, &globals);
    let global = match Given::parse(&globals, line.get(1..).unwrap_or_default(), &variable) {
        Ok(global) => global,
        Err(wrong) => return Ok(misused(&wrong, "", &help())),
    };
    let command = global.words.first().cloned();
    match command.as_deref() {
        _ if global.switch("help") => out!("{}", help()),
        _ if global.switch("version") => outln!("{}", show::version_line(&argv0)),
        None => out!("{}", help()),
        Some("help" | "h") => match global.words.get(1).map(String::as_str) {
            None => out!("{}", help()),
            Some(topic) => match find(topic) {
                Some(spec) => out!("{}", command_help(spec, spec.options, &argv0)),
                None => return Err(unknown(topic, &argv0)),
            },
        },
        Some(word) => match find(word) {
            Some(spec) => return run_command(spec, line, global, say, vms),
            None => return Err(unknown(word, &argv0)),
        },
    }
    Ok(0)
}

fn find(word: &str) -> Option<&'static CommandSpec> {
    COMMANDS.iter().find(|spec| spec.name == word)
}

fn unknown(word: &str, argv0: &str) -> Failure {
    let name = base_name(argv0);
    format!("{name}: '{word}' is not a {name} command. See '{argv0} --help'.").into()
}

/// Any word of the line that asks for it turns debugging on.
fn wants_debug(line: &[String]) -> Result<bool, Failure> {
    if line.iter().any(|word| matches!(word.as_str(), "-D" | "--debug" | "-debug")) {
        return Ok(true);
    }
    let Some(value) = variable("MACHINE_DEBUG") else { return Ok(false) };
    argparse::go_bool(&value).ok_or_else(|| {
        Failure::new(format!(
            "Error parsing boolean value from MACHINE_DEBUG: strconv.ParseBool: parsing {}: \
             invalid syntax",
            gotemplate::go_quote(&value)
        ))
    })
}

/// Tells what is wrong with a line, with help. That it ends well is docker-machine's way.
fn misused(wrong: &Wrong, between: &str, help: &str) -> u8 {
    match wrong {
        Wrong::Usage(text) => {
            out!("Incorrect Usage.\n\n{help}");
            say::aside(text);
        }
        Wrong::TwoForms(text) => {
            out!("{text}\n{between}{help}");
            say::aside(text);
        }
    }
    0
}

fn command_help(spec: &CommandSpec, options: &[Opt<'_>], argv0: &str) -> String {
    let text = help::command(spec, options);
    // Only this line names the program as it was called.
    text.replace("Run 'docker-machine create", &format!("Run '{argv0} create"))
}

fn run_command(
    spec: &'static CommandSpec,
    line: Vec<String>,
    global: Given,
    say: Say,
    vms: Arc<dyn vm::Vms>,
) -> Result<u8, Failure> {
    let argv0 = line.first().cloned().unwrap_or_default();
    let words = &global.words[1..];
    let options = options_of(spec, &line)?;
    let help = command_help(spec, &options, &argv0);
    let given = match spec.name {
        "ssh" => Ok(Given::raw(words)),
        _ => Given::parse_command(&options, words, &variable),
    };
    let given = match given {
        Ok(given) => given,
        Err(wrong) => {
            let code = misused(&wrong, "\n", &help);
            return Ok(if spec.name == "create" { 1 } else { code });
        }
    };
    if given.switch("help") {
        out!("{help}");
        return Ok(0);
    }
    say.debug(format!("Docker Machine Version:  {}", help::VERSION));
    let call = Call::new(line, (global, given), help, say, vms);
    // What is run in our place may need the descriptors that we were given.
    if !matches!(spec.name, "ssh" | "scp" | "mount") {
        skep_sys::close_inherited_on_exec()
            .map_err(|error| format!("cannot read /proc: {error}"))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let result = runtime.block_on(dispatch(&call, spec.name));
    // A name that is still looked up must not keep the command from ending.
    runtime.shutdown_background();
    call.close();
    result.map(|()| 0)
}

/// Returns the options of a command; those of `create` are sorted, with its driver's among them.
fn options_of(spec: &CommandSpec, line: &[String]) -> Result<Vec<Opt<'static>>, Failure> {
    if spec.name != "create" {
        return Ok(spec.options.to_vec());
    }
    let driver = create::driver_name(&line[1..]);
    let Some(own) = options::driver_options(&driver) else {
        return Err(format!(
            "Driver {driver:?} not found. Do you have the plugin binary \
             \"docker-machine-driver-{driver}\" accessible in your PATH?"
        )
        .into());
    };
    let mut options = [&CREATE_OPTIONS, own].concat();
    options.sort_by_key(Opt::line);
    Ok(options)
}

async fn dispatch(call: &Call, command: &str) -> Result<(), Failure> {
    match command {
        "active" => ls::active(call).await,
        "config" => connect::config(call).await,
        "create" => create::create(call).await,
        "env" => env::env(call).await,
        "inspect" => show::inspect(call),
        "ip" => show::ip(call).await,
        "kill" => power::power(call, Action::Kill).await,
        "ls" => ls::ls(call).await,
        "mount" => ssh::mount(call),
        "provision" => power::power(call, Action::Provision).await,
        "regenerate-certs" => power::regenerate_certs(call).await,
        "restart" => power::power(call, Action::Restart).await,
        "rm" => rm::rm(call).await,
        "scp" => ssh::scp(call),
        "ssh" => ssh::ssh(call).await,
        "start" => power::power(call, Action::Start).await,
        "status" => show::status(call).await,
        "stop" => power::power(call, Action::Stop).await,
        "upgrade" => power::power(call, Action::Upgrade).await,
        "url" => show::url(call).await,
        _ => show::version(call).await,
    }
}
