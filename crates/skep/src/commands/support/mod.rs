//! `skep support-bundle`: what somebody who is to help asks for first, in one file and without secrets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_core::plan::{UpOptions, plan_up};
use skep_driver::Driver as _;
use skep_driver::qemu::console;
use skep_ops::Run;
use skep_ops::observe::Damage;
use skep_print::{errln, outln};
use skep_store::{ClusterDir, Machine};
use skep_sys::{BoundedLog, Cmd, chain};
use time::OffsetDateTime;

use crate::cli::SupportBundle;
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::redact::Redactor;

/// How much of the end of each log is taken, in bytes.
const LOG: usize = 256 << 10;

/// How long a node may take to answer anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// The services in a node whose logs are taken.
const SERVICES: [&str; 5] = ["docker", "containerd", "tls", "sshd", "agent"];

pub(super) async fn run(context: &Context, args: SupportBundle) -> Result<(), CliError> {
    let clusters = context.session.store.clusters().unwrap_or_default();
    let dir = match (&args.cluster.cluster, &clusters[..]) {
        (Some(name), _) => Some(context.existing(Some(name))?),
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
    };
    let stamp = stamp(OffsetDateTime::now_utc());
    let title = dir.as_ref().map_or_else(|| "host".to_owned(), |dir| dir.name().to_string());
    let name = format!("skep-support-{title}-{stamp}");
    let path = args.output.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    let path = std::path::absolute(&path).context("cannot create the archive")?;

    let mut parts = host(context).await;
    if let Some(dir) = &dir {
        parts.extend(cluster(context, dir).await);
    }
    let redactor = Redactor::of(dir.as_ref().map(ClusterDir::path));
    let clean = |(part, text): (String, String)| (format!("{name}/{part}"), redactor.clean(&text));
    let texts: Vec<_> = parts.into_iter().map(clean).collect();
    skep_sys::bundle::write(&path, &texts).context("no bundle")?;
    if !context.is_quiet() {
        errln!("keys, tokens and passwords are redacted; review it before you share it:");
        errln!("  tar -xzOf {} | less", skep_sys::shell_quoted(&path.to_string_lossy()));
    }
    outln!("{}", path.display());
    Ok(())
}

/// Returns what is told of the host, by the names of files.
async fn host(context: &Context) -> Vec<(String, String)> {
    let doctor = super::doctor::document(context).await;
    vec![
        ("versions.txt".to_owned(), versions().await),
        ("doctor.json".to_owned(), format!("{doctor:#}\n")),
        ("cache.txt".to_owned(), names_below(context.session.cache.root())),
    ]
}

async fn versions() -> String {
    let mut text = format!("skep {}\n", env!("CARGO_PKG_VERSION"));
    let qemu = skep_driver::qemu::program::program().to_string_lossy().into_owned();
    let programs: [&[&str]; 7] = [
        &["uname", "-a"],
        &[&qemu, "--version"],
        &["docker", "--version"],
        &["ssh", "-V"],
        &["nft", "--version"],
        &["ip", "-V"],
        &["ip", "-brief", "address"],
    ];
    for argv in programs {
        let run = Cmd::new(argv[0]).args(&argv[1..]).timeout(PATIENCE).run().await;
        let said = match run {
            Ok(output) => format!("{}{}", output.text(), String::from_utf8_lossy(&output.stderr)),
            Err(error) => chain(&error),
        };
        text += &format!("$ {}\n{}\n", argv.join(" "), said.trim_end());
    }
    text + &std::fs::read_to_string("/etc/os-release").unwrap_or_default()
}

/// Returns what is told of a cluster, by the names of files. What cannot be had says why.
async fn cluster(context: &Context, dir: &ClusterDir) -> Vec<(String, String)> {
    let run = context.run(None);
    let mut parts = Vec::new();
    parts.push(("cluster.json".to_owned(), end_of(&dir.path().join("cluster.json"))));
    parts.push(("files.txt".to_owned(), names_below(dir.path())));
    let log = BoundedLog::files(&context.session.store.log_file(dir.name()));
    let log: String = log.iter().filter(|it| it.exists()).map(|it| end_of(it)).collect();
    parts.push(("skep.log".to_owned(), log));
    let all = skep_store::pki::survey(dir.path()).unwrap_or_default();
    let list: Vec<_> = all.iter().map(super::certs::document).collect();
    let list = serde_json::Value::from(list);
    parts.push(("certificates.json".to_owned(), format!("{list:#}\n")));
    match run.observe_within(dir, Damage::List, PATIENCE).await {
        Ok(seen) => {
            let status = super::status::json(dir, &seen);
            parts.push(("status.json".to_owned(), format!("{status:#}\n")));
            let plan = seen.cluster.as_ref().map(|record| {
                let spec = record.spec(seen.nodes.values().map(|node| &node.record));
                match plan_up(&spec, &seen, UpOptions::default()) {
                    Ok(plan) if plan.is_empty() => "nothing to do\n".to_owned(),
                    Ok(plan) => plan.to_string(),
                    Err(error) => format!("{error}\n"),
                }
            });
            parts.push(("plan.txt".to_owned(), plan.unwrap_or_default()));
        }
        Err(error) => parts.push(("status.json".to_owned(), format!("{error}\n"))),
    }
    for (name, record) in dir.nodes().unwrap_or_default() {
        let path = dir.path().join("machines").join(&name);
        parts.push((format!("{name}/config.json"), end_of(&path.join("config.json"))));
        let Ok(record) = record else { continue };
        let machine = Machine { dir: path, record };
        if machine.record.spec.is_vm() {
            let text = console(&machine).map_or_else(|error| chain(&error), |text| tail(&text));
            parts.push((format!("{name}/console.log"), text));
            parts.push((format!("{name}/qemu.log"), end_of(&machine.dir.join("qemu.log"))));
        }
        parts.extend(logs(&run, &name, &machine).await);
    }
    parts
}

/// Returns the ends of a node's logs.
async fn logs(run: &Run<'_>, name: &str, machine: &Machine) -> Vec<(String, String)> {
    if machine.record.spec.is_host() {
        let argv = ["journalctl", "-q", "-u", "docker.service", "-n", "2000", "--no-pager"];
        let shell = run.driver.shell(machine);
        let text = match shell.run(&argv, b"", PATIENCE).await {
            Ok(output) => tail(&output.stdout),
            Err(error) => chain(&error),
        };
        return vec![(format!("{name}/docker.log"), text)];
    }
    let mut parts = Vec::new();
    for service in SERVICES {
        let log = run.service_log(machine, service).await;
        let gone = log.is_err();
        let text = log.map_or_else(|error| format!("{error}\n"), |text| tail(&text));
        parts.push((format!("{name}/{service}.log"), text));
        if gone {
            // A node that does not answer once costs its limit once.
            break;
        }
    }
    parts
}

/// Returns the end of a file, or why it cannot be read.
fn end_of(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG as u64)))?;
        let mut text = Vec::new();
        file.take(LOG as u64).read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    read().map_or_else(|error| format!("{}: {error}\n", path.display()), |text| tail(&text))
}

fn tail(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG)..]).into_owned()
}

/// Lists what is below a directory, with modes, sizes and no contents.
fn names_below(root: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let mut text = String::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&dir).into_iter().flatten().flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let Ok(found) = entry.metadata() else { continue };
            let (mode, path) = (found.permissions().mode(), entry.path());
            text += &format!("{mode:06o} {:>12} {}\n", found.len(), path.display());
            if found.is_dir() && text.len() < LOG {
                open.push(path);
            }
        }
    }
    text
}

fn stamp(now: OffsetDateTime) -> String {
    let (hour, minute, second) = now.to_hms();
    format!("{}-{hour:02}{minute:02}{second:02}", now.date())
}
