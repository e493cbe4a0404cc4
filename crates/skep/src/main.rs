//! The skep command.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

use std::process::ExitCode;
use std::sync::Arc;

use skep::cli::{Cli, Command, Detail, Refusal};
use skep::context::{Context, program_environment};
use skep::error::code;
use skep::machine::{Machines, line_for};
use skep::{background, logging, privileged_helper};
use skep_print::errln;
use skep_print::streams;

fn main() -> ExitCode {
    let line = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let line: Vec<String> = line.collect();
    if line.first().is_some_and(|argv0| privileged_helper::is_called(argv0)) {
        return privileged_helper::run(&line[1..]);
    }
    if let Some(code) = background::run(&line) {
        return code;
    }
    skep_sys::search_in(std::env::var_os("PATH").unwrap_or_default());
    if line.first().is_some_and(|argv0| skep_machine::is_called(argv0)) {
        let vms = Machines::new(Context::from_env(Detail::Quiet));
        return exit(skep_machine::run(line, Arc::new(vms)));
    }
    skep_sys::change_environment(program_environment());
    let words: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::read(&words, &|name| std::env::var_os(name)) {
        Ok(cli) => cli,
        Err(Refusal::Said(said)) => return say_usage(&said),
        Err(Refusal::Told(error)) => {
            errln!("{error}");
            return exit(error.code);
        }
    };
    if let Ok(context) = Context::from_env(Detail::Quiet)
        && let Some(line) = line_for(&cli, &context)
    {
        return exit(skep_machine::run(line, Arc::new(Machines::new(Ok(context)))));
    }
    // What replaces this process gets all that it was given; what outlives it must hold none.
    let replaces = matches!(cli.command, Command::Ssh(_) | Command::Scp(_) | Command::Docker(_));
    if !replaces && let Err(error) = skep_sys::close_inherited_on_exec() {
        errln!("error: cannot read /proc: {error}");
        return ExitCode::from(code::HOST);
    }
    if let Err(error) = logging::begin(cli.verbosity.debug) {
        errln!("{error}");
        return exit(error.code);
    }
    tracing::info!("skep {}: {}", env!("CARGO_PKG_VERSION"), line.join(" "));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs nothing but memory and descriptors");
    let result = runtime.block_on(skep::commands::run(cli));
    // A blocking wait for a lock must not keep an interrupted command from ending.
    runtime.shutdown_background();
    match result {
        Ok(code) => exit(code),
        Err(error) => {
            let told = error.to_string().replace('\n', " | ");
            tracing::error!("exit code {}: {told}", error.code);
            errln!("{error}");
            // Wrong words need no log to be understood.
            if let Some(log) = logging::path().filter(|_| error.code != code::USAGE) {
                errln!("  log: {}", log.display());
            }
            exit(error.code)
        }
    }
}

/// Prints help, the version, or what is wrong with the command line.
fn say_usage(said: &clap::Error) -> ExitCode {
    if let Err(error) = said.print()
        && !said.use_stderr()
    {
        streams::lost(error);
    }
    exit(u8::try_from(said.exit_code()).unwrap_or(code::USAGE))
}

/// Ends with a command's exit code in view of what became of its output; says what is wrong with it.
///
/// A reader that has seen enough, as `head` has, is no error: the code is the one that a shell knows from programs that
/// such a pipe ends.
fn exit(code: u8) -> ExitCode {
    let Some(error) = streams::failure() else { return ExitCode::from(code) };
    let is_gone = error.kind() == std::io::ErrorKind::BrokenPipe;
    if !is_gone {
        let done = if code == 0 { "; everything else is done" } else { "" };
        errln!("error: cannot write to standard output: {error}{done}");
    }
    ExitCode::from(match (code, is_gone) {
        (0, true) => code::PIPE,
        (0, false) => code::FAILED,
        (failed, _) => failed,
    })
}
