//! `rm`.

use gotemplate::go_quote;
use skep_print::out;
use skep_store::dm::Error::Missing;

use super::call::Call;
use super::confirm::confirm;
use super::failure::Failure;

/// Removes machines.
pub(super) async fn rm(call: &Call) -> Result<(), Failure> {
    let names = call.words();
    if names.is_empty() {
        out!("{}", call.help);
        return Err("Error: Expected to get one or more machine names as arguments".into());
    }
    call.say.info(format!("About to remove {}", names.join(", ")));
    call.say.info("WARNING: This action will delete both local reference and remote instance.");
    let force = call.given.switch("force");
    if !force && !call.given.switch("y") && !confirm("Are you sure?").unwrap_or(false) {
        return Ok(());
    }
    if call.store.is_cluster() {
        return Err(super::clusters::BELONGS.into());
    }
    let mut errors = Vec::new();
    let mut failed = |text: String| {
        if force {
            call.say.error(&text);
        }
        errors.push(text);
    };
    for name in names {
        let removed = remove(call, name).await;
        let gone = removed.is_ok();
        if let Err(failure) = removed {
            failed(format!("Error removing host {}: {}", go_quote(name), failure.text));
        }
        let was_there = call.store.exists(name);
        if !gone && force && was_there {
            // What it was cannot be asked any more, and may run all the same.
            if let Err(error) = call.vms.forget(call.store.root(), name).await {
                failed(format!("Error removing host {}: {error}", go_quote(name)));
            }
        }
        if gone || force {
            match call.store.remove(name) {
                Ok(()) => call.say.info(format!("Successfully removed {name}")),
                // The directory of a machine of ours goes with it.
                Err(Missing(_)) if gone || was_there => {
                    call.say.info(format!("Successfully removed {name}"));
                }
                Err(_) => failed(format!("Can't remove \"{name}\"")),
            }
        }
    }
    if errors.is_empty() || force { Ok(()) } else { Err(errors.join("\n").into()) }
}

async fn remove(call: &Call, name: &str) -> Result<(), Failure> {
    Ok(call.load(name)?.remove().await?)
}
