//! `skep doctor`, and the checks that `up` makes before it touches anything.

use serde_json::json;
use skep_core::model::ImageSpec;
use skep_host::preflight::{Check, Needs, Verdict, check};

use crate::cli::{Doctor, Output};
use crate::context::Context;
use crate::error::{CliError, Context as _, code};
use crate::outln;
use crate::render::write_document;

pub(super) async fn run(context: &Context, args: Doctor) -> Result<u8, CliError> {
    let checks = check(needs(context, true)).await;
    match args.output {
        Output::Json | Output::Yaml => {
            write_document(args.output, &json!({"format": 1, "checks": checks}));
        }
        Output::Table => checks.iter().for_each(|check| outln!("{}", line(check))),
    }
    let bad = checks.iter().any(|check| check.verdict == Verdict::Bad);
    Ok(if bad { code::HOST } else { 0 })
}

/// Refuses to go on where something is missing that the host must have.
pub(crate) async fn require(context: &Context, image: &ImageSpec) -> Result<(), CliError> {
    let build = context.cache.find(image).context("cannot look for the image")?.is_none();
    let checks = check(needs(context, build)).await;
    let bad: Vec<_> = checks.iter().filter(|check| check.verdict == Verdict::Bad).collect();
    if bad.is_empty() {
        return Ok(());
    }
    let found: Vec<_> =
        bad.iter().map(|check| format!("{}: {}", check.name, check.found)).collect();
    let mut error = CliError::host(format!("this host is not ready\n{}", found.join("\n")));
    error.hints =
        bad.iter().map(|check| check.remedy.clone()).filter(|it| !it.is_empty()).collect();
    Err(error)
}

fn needs(context: &Context, build: bool) -> Needs<'_> {
    Needs { store: context.store.root(), cache: context.cache.root(), build }
}

fn line(check: &Check) -> String {
    let mark = match check.verdict {
        Verdict::Good => "good",
        Verdict::Poor => "poor",
        Verdict::Bad => "BAD ",
    };
    let line = format!("{mark}  {}: {}", check.name, check.found);
    if check.remedy.is_empty() { line } else { format!("{line}\n      try: {}", check.remedy) }
}
