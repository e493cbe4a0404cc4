//! `env`: lines that let a shell's docker speak to a machine.

use skep_print::{outln, write_exact};

use super::call::{Call, variable};
use super::connect::check;
use super::failure::Failure;

/// The words of a shell.
struct Words {
    /// Around a name that is set: before it, between it and the value, after the value.
    set: [&'static str; 3],
    /// Around a name that is unset.
    unset: [&'static str; 2],
    /// What a comment begins with.
    comment: &'static str,
    /// Around the command that the user is told.
    run: [&'static str; 2],
}

fn words(shell: &str) -> Words {
    match shell {
        "fish" => Words {
            set: ["set -gx ", " \"", "\";"],
            unset: ["set -e ", ";"],
            comment: "#",
            run: ["eval (", ")"],
        },
        "powershell" => Words {
            set: ["$Env:", " = \"", "\""],
            unset: ["Remove-Item Env:\\\\", ""],
            comment: "#",
            run: ["& ", " | Invoke-Expression"],
        },
        "cmd" => Words {
            set: ["SET ", "=", ""],
            unset: ["SET ", "="],
            comment: "REM",
            run: ["\t@FOR /f \"tokens=*\" %i IN ('", "') DO @%i"],
        },
        "tcsh" => Words {
            set: ["setenv ", " \"", "\";"],
            unset: ["unsetenv ", ";"],
            comment: ":",
            run: ["eval `", "`"],
        },
        "emacs" => Words {
            set: ["(setenv \"", "\" \"", "\")"],
            unset: ["(setenv \"", "\" nil)"],
            comment: ";;",
            run: ["(with-temp-buffer (shell-command \"", "\" (current-buffer)) (eval-buffer))"],
        },
        _ => Words {
            set: ["export ", "=\"", "\""],
            unset: ["unset ", ""],
            comment: "#",
            run: ["eval $(", ")"],
        },
    }
}

/// Prints the lines.
pub(super) async fn env(call: &Call) -> Result<(), Failure> {
    call.say.step_aside();
    let text = if call.given.switch("unset") { unset(call) } else { set(call).await }?;
    write_exact(text.as_bytes());
    Ok(())
}

async fn set(call: &Call) -> Result<String, Failure> {
    let machine = call.only()?;
    let url = check(&machine, call.given.switch("swarm")).await;
    let url = url.map_err(|error| format!("Error checking TLS connection: {error}"))?;
    let shell = shell(call)?;
    let dir = call.store.machine_dir(machine.name());
    let mut variables = vec![
        ("DOCKER_TLS_VERIFY", "1".to_owned()),
        ("DOCKER_HOST", url),
        ("DOCKER_CERT_PATH", dir.to_string_lossy().into_owned()),
        ("DOCKER_MACHINE_NAME", machine.name().to_owned()),
    ];
    if call.given.switch("no-proxy") {
        let ip = machine.ip().map_err(|error| format!("Error getting host IP: {error}"))?;
        let (name, old) = no_proxy();
        let value = match old.as_str() {
            "" => ip,
            old if old.contains(&ip) => old.to_owned(),
            old => format!("{old},{ip}"),
        };
        variables.push((name, value));
    }
    let words = words(&shell);
    let [before, between, after] = words.set;
    let line = |(name, value): (&str, String)| format!("{before}{name}{between}{value}{after}\n");
    let lines: String = variables.into_iter().map(line).collect();
    Ok(lines + &hint(call, &words))
}

fn unset(call: &Call) -> Result<String, Failure> {
    if !call.words().is_empty() {
        return Err("Error: Expected no machine name when the -u flag is present".into());
    }
    let shell = shell(call)?;
    let mut variables = vec![
        ("DOCKER_TLS_VERIFY", String::new()),
        ("DOCKER_HOST", String::new()),
        ("DOCKER_CERT_PATH", String::new()),
        ("DOCKER_MACHINE_NAME", String::new()),
    ];
    if call.given.switch("no-proxy") {
        variables.push(no_proxy());
    }
    let words = words(&shell);
    let [before, after] = words.unset;
    // cmd has one word for both, and docker-machine gives the old value back there.
    let value = |value: String| if shell == "cmd" { value } else { String::new() };
    let line = |(name, old): (&str, String)| format!("{before}{name}{after}{}\n", value(old));
    let lines: String = variables.into_iter().map(line).collect();
    Ok(lines + &hint(call, &words))
}

/// Returns the shell that the lines are for.
fn shell(call: &Call) -> Result<String, Failure> {
    let asked = call.given.text("shell");
    if !asked.is_empty() {
        return Ok(asked.to_owned());
    }
    if let Some(shell) = variable("SHELL") {
        return Ok(shell.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned());
    }
    outln!(
        "The default lines below are for a sh/bash shell, you can specify the shell you're using, \
         with the --shell flag.\n"
    );
    Err("Error: Unknown shell".into())
}

/// Returns the variable that names hosts which are reached directly, and its value.
fn no_proxy() -> (&'static str, String) {
    match variable("no_proxy") {
        Some(value) => ("no_proxy", value),
        None => ("NO_PROXY", variable("NO_PROXY").unwrap_or_default()),
    }
}

/// Returns the comment that says how to use the lines.
fn hint(call: &Call, words: &Words) -> String {
    let mut line = call.line.clone();
    if let Some(argv0) = line.first_mut().filter(|it| it.contains([' ', '\\'])) {
        *argv0 = format!("\"{argv0}\"");
    }
    let (comment, [before, after]) = (words.comment, words.run);
    let command = line.join(" ");
    format!(
        "{comment} Run this command to configure your shell: \n{comment} {before}{command}{after}\n"
    )
}
