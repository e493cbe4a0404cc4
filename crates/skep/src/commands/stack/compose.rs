//! What can be known of compose files before anything is deployed: docker's own command reads them,
//! as Compose is not made again here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_ops::DockerCommand;
use skep_print::errln;

use super::{env_file, variables};
use crate::cli::StackOptions;
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::file::{Reference, file_references, format_version, service_images};

/// The most that is read from the standard input.
const INPUT: u64 = 4 << 20;

/// How long the docker command may take to read the files.
const READING: Duration = Duration::from_secs(30);

/// Compose files in which nothing was found wrong.
pub(in crate::commands) struct Checked {
    /// The files.
    pub files: Vec<PathBuf>,
    /// The variables for them, beside those of the environment.
    pub env: BTreeMap<String, String>,
    /// What `-` stands for.
    pub input: Vec<u8>,
    /// Their configs and secrets; none if the docker command cannot tell.
    pub objects: Vec<Reference>,
    /// Their services' images; none if the docker command cannot tell.
    pub images: BTreeSet<String>,
    /// The version of the files' format.
    pub version: String,
}

/// Compose files that are wrong.
pub(super) enum Wrong {
    /// The docker command said why, and ended with this code.
    Said(String, u8),
    /// In our own words.
    Told(CliError),
}

impl From<CliError> for Wrong {
    fn from(error: CliError) -> Self {
        Self::Told(error)
    }
}

impl Checked {
    /// Checks compose files, without a word to an engine.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, the docker command finds it wrong, or a file of a secret or a config
    /// is not there.
    pub(super) async fn check(
        context: &Context,
        cluster: Option<&skep_store::ClusterDir>,
        files: &[PathBuf],
        how: &StackOptions,
    ) -> Result<Self, Wrong> {
        let environment = |key: &str| std::env::var(key).ok();
        let env = env_file::read(&how.env_file, environment)?;
        let mut input = Vec::new();
        if files.iter().any(|file| file == Path::new("-")) {
            let mut standard_input = std::io::stdin().lock().take(INPUT);
            standard_input.read_to_end(&mut input).context("cannot read standard input")?;
        }
        let (objects, images, version) = (Vec::new(), BTreeSet::new(), String::new());
        let mut checked = Self { files: files.to_vec(), env, input, objects, images, version };
        let docker = DockerCommand::alone(&context.session, cluster)
            .map_err(CliError::from)?
            .with(&checked.env, &checked.input);
        let args = ["stack".into(), "config".into()].into_iter().chain(checked.arguments());
        let cmd = docker.call(args, READING);
        let (status, output) = cmd.status().await.context("cannot check the compose file")?;
        // docker 20 and older cannot tell before they deploy.
        let unable = String::from_utf8_lossy(&output.stderr).contains("is not a docker command");
        if unable {
            return Ok(checked);
        }
        if !status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Err(Wrong::Said(said, code));
        }
        checked.warn_of_unset_variables(environment);
        let text = output.text();
        checked.objects = file_references(&text);
        checked.images = service_images(&text);
        checked.version = format_version(&text).unwrap_or_default();
        let missing: Vec<_> = checked
            .objects
            .iter()
            .filter_map(|it| {
                let error = std::fs::File::open(&it.path).err()?;
                Some(format!("{} {}: cannot read {}: {error}", it.kind, it.name, it.path))
            })
            .collect();
        match missing.is_empty() {
            true => Ok(checked),
            false => Err(CliError::usage(missing.join("\n")).into()),
        }
    }

    /// Names the variables of the files for which the docker command puts nothing.
    fn warn_of_unset_variables(&self, environment: impl Fn(&str) -> Option<String>) {
        let is_set = |name: &str| self.env.contains_key(name) || environment(name).is_some();
        for file in &self.files {
            let text = match file == Path::new("-") {
                true => self.input.clone(),
                false => std::fs::read(file).unwrap_or_default(),
            };
            for name in variables::unset(&String::from_utf8_lossy(&text), is_set) {
                let file = file.display();
                errln!("warning: {file}: variable {name} is not set, and counts as empty");
            }
        }
    }

    /// Returns the options that name the files.
    pub(super) fn arguments(&self) -> impl Iterator<Item = std::ffi::OsString> {
        self.files.iter().flat_map(|file| ["-c".into(), file.as_os_str().to_owned()])
    }
}
