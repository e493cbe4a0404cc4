//! The engine's options as docker-machine's users give them, for the service that starts the engine.

use skep_store::dm::Config;
use skep_sys::shell_quoted;

/// What an engine is started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineSetup {
    /// Options with their values; none for one that is only switched on.
    flags: Vec<(String, Option<String>)>,
    /// Variables of its environment.
    env: Vec<(String, String)>,
}

impl EngineSetup {
    /// Returns what a machine's record asks for. The driver's name is added as a label where anything is
    /// asked for at all: an engine as it is in the image need not be started anew.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let options = &config.host_options.engine_options;
        let mut flags = Vec::new();
        let mut add = |name: &str, value: &str| {
            flags.push((name.to_owned(), Some(value.to_owned())));
        };
        if !options.storage_driver.is_empty() {
            add("storage-driver", &options.storage_driver);
        }
        let lists = [
            ("label", &options.labels),
            ("insecure-registry", &options.insecure_registry),
            ("registry-mirror", &options.registry_mirror),
        ];
        for (name, values) in lists {
            values.iter().flatten().for_each(|value| add(name, value));
        }
        for flag in options.arbitrary_flags.iter().flatten() {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag.as_str(), None),
            };
            flags.push((name.trim_start_matches('-').to_owned(), value));
        }
        let pairs =
            options.env.iter().flatten().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let env: Vec<_> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        if !flags.is_empty() || !env.is_empty() {
            flags.push(("label".to_owned(), Some(format!("provider={}", config.driver_name))));
        }
        Self { flags, env }
    }

    /// Returns the same for a host, whose engine always has the driver's name as a label.
    #[must_use]
    pub fn of_host(config: &Config) -> Self {
        let mut setup = Self::of(config);
        if setup.is_empty() {
            setup
                .flags
                .push(("label".to_owned(), Some(format!("provider={}", config.driver_name))));
        }
        setup
    }

    /// Returns the options as words of a command line of systemd's, and lines that set the variables
    /// (systemd.service(5), systemd.exec(5)).
    #[must_use]
    pub fn render_for_systemd(&self) -> (String, String) {
        let words = self.flags.iter().map(|(name, value)| match value {
            // `$` begins a variable on a command line, and only there.
            Some(value) => systemd_word(&format!("--{name}={value}")).replace('$', "$$"),
            None => systemd_word(&format!("--{name}")),
        });
        let variables = self.env.iter().filter(|(key, _)| is_variable(key));
        let lines = variables.map(|(key, value)| {
            format!("Environment={}\n", systemd_word(&format!("{key}={value}")))
        });
        (words.collect::<Vec<_>>().join(" "), lines.collect())
    }

    /// Tells whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Tells whether an option of that name is among them.
    #[must_use]
    pub fn has_flag(&self, name: &str) -> bool {
        self.flags.iter().any(|(flag, _)| flag == name)
    }

    /// Tells whether a key of the engine's file has to go: the engine refuses what is both there and on its command
    /// line. Options of one log driver mean nothing to another.
    #[must_use]
    pub fn overrides(&self, key: &str) -> bool {
        self.has_flag(key)
            || key == "log-opts" && (self.has_flag("log-driver") || self.has_flag("log-opt"))
    }

    /// Leaves out the option that the engine says it does not know, with all its values, and returns its name; none
    /// if it says nothing of the kind, or of another option.
    pub fn without_unknown(&mut self, said: &str) -> Option<String> {
        let (_, rest) = said.split_once("unknown flag: --")?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
        let name = &rest[..end];
        if !self.has_flag(name) {
            return None;
        }
        self.flags.retain(|(flag, _)| flag != name);
        Some(name.to_owned())
    }

    /// Returns a fragment for sh(1) that sets the arguments which [`Self::render_profile`] cannot have; empty if there
    /// are none.
    #[must_use]
    pub fn render(&self) -> String {
        let words =
            self.flags.iter().filter(|flag| !is_plain(flag)).map(|(name, value)| match value {
                Some(value) => shell_quoted(&format!("--{name}={value}")),
                None => shell_quoted(&format!("--{name}")),
            });
        let words: Vec<_> = words.collect();
        if words.is_empty() {
            return String::new();
        }
        let head = "# Written by skep from what docker-machine has in its record.\n";
        format!("{head}set -- {}\n", words.join(" "))
    }

    /// Returns the profile as docker-machine writes it for boot2docker: scripts read it, and change it with sed(1).
    /// The engine is started with the words of `EXTRA_ARGS`, so what is more than a word is not there. Empty if
    /// nothing is asked for.
    #[must_use]
    pub fn render_profile(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let mut text = "EXTRA_ARGS='\n".to_owned();
        for (name, value) in self.flags.iter().filter(|flag| is_plain(flag)) {
            text += &match (name.as_str(), value) {
                // As docker-machine has them: labels and registries behind a blank, other options behind `=`.
                ("label" | "insecure-registry" | "registry-mirror", Some(value)) => {
                    format!("--{name} {value}\n")
                }
                (_, Some(value)) => format!("--{name}={value}\n"),
                (_, None) => format!("--{name}\n"),
            };
        }
        let storage = self.flags.iter().find(|(name, _)| name == "storage-driver");
        let storage = storage.and_then(|(_, value)| value.as_deref()).unwrap_or("overlay2");
        text += &format!("\n'\n{DIRECTORY}DOCKER_STORAGE={}\n{CERTIFICATES}", quoted(storage));
        for (key, value) in self.env.iter().filter(|(key, _)| is_variable(key)) {
            text += &match value.contains(['"', '$', '`', '\\', '\n']) {
                false => format!("export \"{key}={value}\"\n"),
                true => format!("export {key}={}\n", shell_quoted(value)),
            };
        }
        text
    }
}

/// The lines of the profile before and after the storage driver's.
const DIRECTORY: &str = "CACERT=/var/lib/boot2docker/ca.pem\nDOCKER_HOST='-H tcp://0.0.0.0:2376'\n";
const CERTIFICATES: &str = "DOCKER_TLS=auto\nSERVERKEY=/var/lib/boot2docker/server-key.pem\n\
                            SERVERCERT=/var/lib/boot2docker/server.pem\n\n";

/// Tells whether an option is one word for a shell that splits `$EXTRA_ARGS` and looks for files of such names.
fn is_plain((name, value): &(String, Option<String>)) -> bool {
    let fits = |text: &str| !text.contains(|c: char| c.is_whitespace() || "'*?[\\".contains(c));
    fits(name) && value.as_deref().is_none_or(|value| !value.is_empty() && fits(value))
}

fn quoted(word: &str) -> String {
    let is_word = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if is_word { word.to_owned() } else { shell_quoted(word) }
}

/// Quotes a word for systemd, which knows C's escapes and specifiers (systemd.syntax(7)).
fn systemd_word(text: &str) -> String {
    let mut word = String::from("\"");
    for letter in text.chars() {
        match letter {
            '\\' | '"' => word.extend(['\\', letter]),
            '\n' => word.push_str("\\n"),
            '%' => word.push_str("%%"),
            other => word.push(other),
        }
    }
    word.push('"');
    word
}

fn is_variable(key: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.chars().all(fits) && key.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn all_options_arrive_as_they_were_given() {
        let mut config = Config::new(Path::new("/s"), "box", "kvm");
        assert_eq!(EngineSetup::of(&config).render(), "");
        let list = |values: &[&str]| Some(values.iter().map(|it| (*it).to_owned()).collect());
        let options = &mut config.host_options.engine_options;
        options.storage_driver = "vfs".into();
        options.labels = list(&["a=b c"]);
        options.insecure_registry = list(&["r.example:5000"]);
        options.registry_mirror = list(&["https://m.example"]);
        options.arbitrary_flags = list(&["log-driver=none", "--experimental", "dns=192.0.2.1"]);
        options.env = list(&["A=it's $HOME \"x\"", "B", "bad-name=1"]);
        let setup = EngineSetup::of(&config);
        assert!(setup.has_flag("log-driver") && setup.has_flag("experimental"));
        insta::assert_snapshot!(format!("{}\n{}", setup.render(), setup.render_profile()));
        let (words, lines) = setup.render_for_systemd();
        insta::assert_snapshot!("options_for_systemd", format!("{words}\n{lines}"));
    }
    #[test]
    fn what_the_engine_does_not_know_is_left_out_and_the_rest_stays() {
        let mut config = Config::new(Path::new("/s"), "box", "kvm");
        let list = |values: &[&str]| Some(values.iter().map(|it| (*it).to_owned()).collect());
        let options = &mut config.host_options.engine_options;
        options.labels = list(&["a=b"]);
        options.arbitrary_flags =
            list(&["cluster-store=consul://x:8500", "cluster-advertise=eth1:2376"]);
        let mut setup = EngineSetup::of(&config);
        // As dockerd 26.1 says it, within what the command that was run is told with.
        let said = |flag: &str| {
            format!(
                "it failed (exit status 125): unknown flag: --{flag}\nSee 'dockerd --help'., end"
            )
        };
        assert_eq!(setup.without_unknown(&said("cluster-store")).as_deref(), Some("cluster-store"));
        assert_eq!(setup.without_unknown(&said("cluster-store")), None, "it is gone already");
        let advertise = "cluster-advertise";
        assert_eq!(setup.without_unknown(&said(advertise)).as_deref(), Some(advertise));
        assert_eq!(setup.without_unknown("failed to start daemon"), None);
        let rendered = setup.render_profile();
        assert!(rendered.contains("--label a=b") && !rendered.contains("cluster"), "{rendered}");
    }

    /// A shell splits and expands the words of `EXTRA_ARGS`, as the service does.
    #[tokio::test]
    async fn an_engine_gets_every_option_once_from_the_two_files() {
        let mut config = Config::new(Path::new("/s"), "box", "virtualbox");
        let list = |values: &[&str]| Some(values.iter().map(|it| (*it).to_owned()).collect());
        let options = &mut config.host_options.engine_options;
        options.labels = list(&["a=b c", "glob=/*", "plain=1", "empty="]);
        options.insecure_registry = list(&["10.0.0.0/8"]);
        options.arbitrary_flags = list(&["experimental", "log-opt=tag={{.Name}}", "bip="]);
        options.env = list(&["A=it's $HOME", "B=two words"]);
        let setup = EngineSetup::of(&config);
        let script = format!(
            "set --\n{}\n{}\nset -- \"$@\" $EXTRA_ARGS\nprintf '<%s>\\n' \"$@\" \"$A\" \"$B\"",
            setup.render(),
            setup.render_profile()
        );
        let output = skep_sys::Cmd::new("sh").args(["-c", &script]).run().await.unwrap();
        let words = [
            "--label=a=b c",
            "--label=glob=/*",
            "--bip=",
            "--label",
            "plain=1",
            "--label",
            "empty=",
            "--insecure-registry",
            "10.0.0.0/8",
            "--experimental",
            "--log-opt=tag={{.Name}}",
            "--label",
            "provider=virtualbox",
            "it's $HOME",
            "two words",
        ];
        let wanted: String = words.iter().map(|word| format!("<{word}>\n")).collect();
        assert_eq!(output.text(), wanted.trim_end());
    }

    #[test]
    fn the_images_profile_is_what_a_machine_without_options_would_get() {
        let image = include_str!("../../../skep-driver/src/image/guest/profile");
        let config = Config::new(Path::new("/s"), "box", "kvm");
        let rendered = EngineSetup::of_host(&config).render_profile();
        assert_eq!(rendered.replace("--label provider=kvm\n", "").trim_end(), image.trim_end());
    }
}
