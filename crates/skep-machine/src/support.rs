//! What becomes of each option of `create` and of each one before the command: docs/docker-machine.md has this
//! table, and a test compares them.
//!
//! Scripts go on working unmodified, so an option that cannot be honoured is noted, and refused only where the
//! machine would be of no use without it.

use super::argparse::{Given, Opt, Origin};

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does what it does in docker-machine; with what has to be known of it.
    Honoured(&'static str),
    /// It changes nothing, which a line says where it is given; with the reason.
    Noted(&'static str),
}

use Support::{Honoured, Noted};

const IMAGE: &str = "machines boot skep's image, Debian with its engine";
const SCREEN: &str = "machines have no screen";
const CARD: &str = "machines have a virtio network card";
const NETWORK: &str = "the machines of a store share one network of skep's";
const CACHE: &str = "all machines' disks have the same cache and I/O mode";
const USER: &str = "machines have the user docker";
const PROMISCUOUS: &str = "a machine receives only what is sent to its own address";
const CLASSIC: &str = "it is recorded, and no containers of the classic swarm are started, as its image is gone; \
                       use docker swarm init";
const SHARED: &str = "the directory is copied into the machine when it is created, up to 1 GiB; \
                      later changes are not passed on in either direction";

/// The options of virtual machines, without the driver's name before them.
const OF_MACHINES: [(&str, Support); 20] = [
    ("memory", Honoured("more than this host has is refused")),
    ("disk-size", Honoured("3 GiB at least")),
    ("cpu-count", Honoured("")),
    ("boot2docker-url", Noted(IMAGE)),
    ("import-boot2docker-vm", Noted(IMAGE)),
    ("network", Noted(NETWORK)),
    ("cache-mode", Noted(CACHE)),
    ("io-mode", Noted(CACHE)),
    ("ssh-user", Noted(USER)),
    ("host-dns-resolver", Honoured("always so: machines ask this host's DNS servers")),
    ("no-dns-proxy", Honoured("always so: machines ask this host's DNS servers")),
    ("nat-nictype", Noted(CARD)),
    ("hostonly-nictype", Noted(CARD)),
    (
        "hostonly-cidr",
        Honoured(
            "the store's first machine decides; without it the network is 192.168.99.0/24 if that is free, \
             else another one",
        ),
    ),
    ("hostonly-nicpromisc", Noted(PROMISCUOUS)),
    ("hostonly-no-dhcp", Honoured("always so: addresses are fixed")),
    ("ui-type", Noted(SCREEN)),
    ("no-share", Honoured("without --virtualbox-share-folder nothing is shared")),
    ("no-vtx-check", Honoured("always so: without KVM machines are emulated")),
    ("share-folder", Honoured(SHARED)),
];

/// The options that are not a virtual machine's.
const OTHERS: [(&str, Support); 36] = [
    ("driver", Honoured("")),
    (
        "engine-install-url",
        Honoured("hosts only; the image of virtual machines has an engine, which a line says"),
    ),
    ("engine-opt", Honoured("what the engine no longer knows is left out, which a line says")),
    ("engine-insecure-registry", Honoured("")),
    ("engine-registry-mirror", Honoured("")),
    ("engine-label", Honoured("")),
    (
        "engine-storage-driver",
        Honoured("an engine that ends because of it fails `create` with the engine's words"),
    ),
    ("engine-env", Honoured("blanks and quotes in values are kept")),
    ("swarm", Noted(CLASSIC)),
    ("swarm-image", Noted(CLASSIC)),
    ("swarm-master", Noted(CLASSIC)),
    ("swarm-discovery", Noted(CLASSIC)),
    ("swarm-strategy", Noted(CLASSIC)),
    ("swarm-opt", Noted(CLASSIC)),
    ("swarm-join-opt", Noted(CLASSIC)),
    ("swarm-host", Noted(CLASSIC)),
    ("swarm-addr", Noted(CLASSIC)),
    ("swarm-experimental", Noted(CLASSIC)),
    ("tls-san", Honoured("")),
    ("url", Honoured("required with the driver none")),
    ("generic-engine-port", Honoured("")),
    ("generic-ip-address", Honoured("required with the driver generic")),
    ("generic-ssh-user", Honoured("a user with sudo and no password")),
    ("generic-ssh-key", Honoured("a missing file is refused")),
    ("generic-ssh-port", Honoured("")),
    ("debug", Honoured("")),
    ("storage-path", Honoured("")),
    ("tls-ca-cert", Honoured("")),
    ("tls-ca-key", Honoured("")),
    ("tls-client-cert", Honoured("")),
    ("tls-client-key", Honoured("")),
    ("github-api-token", Honoured("nothing asks GitHub")),
    ("native-ssh", Honoured("ssh(1) is used all the same")),
    ("bugsnag-api-token", Honoured("nothing is sent to anybody")),
    ("help", Honoured("")),
    ("version", Honoured("")),
];

/// Returns what becomes of an option.
#[must_use]
pub fn support(option: &str) -> Option<Support> {
    let of_machine =
        super::vm::DRIVERS.iter().find_map(|driver| option.strip_prefix(driver)?.strip_prefix('-'));
    let find = |table: &[(&str, Support)], name: &str| {
        table.iter().find(|(known, _)| *known == name).map(|(_, support)| *support)
    };
    match of_machine {
        Some(name) => find(&OF_MACHINES, name),
        None => find(&OTHERS, option),
    }
}

/// Returns a line for each option that was given, by the environment too, and is not honoured.
#[must_use]
pub fn notes(options: &[Opt], given: &Given) -> Vec<String> {
    let mut notes = Vec::new();
    let mut reasons: Vec<&str> = Vec::new();
    for option in options {
        let name = match given.origin(option) {
            Origin::Default => continue,
            Origin::Line => format!("--{}", option.names[0]),
            Origin::Variable => format!("${}", option.variable.unwrap_or_default()),
        };
        let Some(Noted(reason)) = support(option.names[0]) else { continue };
        // One line for all that have the same reason.
        match reasons.iter().position(|known| *known == reason) {
            Some(place) => {
                let note: &mut String = &mut notes[place];
                *note = format!("{note}, {name}");
            }
            None => {
                reasons.push(reason);
                notes.push(name);
            }
        }
    }
    notes
        .iter()
        .zip(reasons)
        .map(|(names, reason)| format!("{names}: not used; {reason}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::driver_options;
    use crate::table::{CREATE_OPTIONS, global_options};
    use crate::vm::DRIVERS;

    /// All options there are: those before the command, all drivers', and those of the drivers.
    fn all() -> Vec<Opt<'static>> {
        let mut all: Vec<Opt<'static>> = CREATE_OPTIONS.to_vec();
        for driver in ["virtualbox", "kvm", "qemu", "generic", "none"] {
            all.extend(driver_options(driver).unwrap());
        }
        all.extend(global_options(""));
        all
    }

    fn rows() -> Vec<String> {
        let row = |option: &Opt| {
            let name = option.names[0];
            let variable = option.variable.map(|name| format!("`{name}`")).unwrap_or_default();
            let (word, text) = match support(name) {
                Some(Honoured(text)) => ("honoured", text),
                Some(Noted(text)) => ("noted", text),
                None => panic!("support.rs says nothing of --{name}"),
            };
            format!("| `--{name}` | {variable} | {word} | {text} |").replace("  |", " |")
        };
        all().iter().map(row).collect()
    }

    #[test]
    fn the_documents_table_has_each_option_and_says_what_becomes_of_it() {
        let text = include_str!("../../../docs/docker-machine.md");
        let told: Vec<&str> = text.lines().filter(|line| line.starts_with("| `--")).collect();
        assert_eq!(
            told,
            rows(),
            "the table of docs/docker-machine.md should be:\n{}",
            rows().join("\n")
        );
    }

    #[test]
    fn each_row_is_an_options() {
        let names: Vec<_> = all().iter().map(|option| option.names[0]).collect();
        for (name, _) in OTHERS {
            assert!(names.contains(&name), "--{name}");
        }
        for (name, _) in OF_MACHINES {
            let of = |driver: &&str| names.contains(&format!("{driver}-{name}").as_str());
            assert!(DRIVERS.iter().any(of), "{name}");
        }
    }

    #[test]
    fn what_is_not_honoured_is_noted_once_by_the_name_that_was_used() {
        let options = [&CREATE_OPTIONS, driver_options("virtualbox").unwrap()].concat();
        let line = "--virtualbox-ui-type gui --virtualbox-boot2docker-url u --virtualbox-memory 2048 \
                    --swarm --swarm-master --virtualbox-nat-nictype 82540EM";
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let env =
            |name: &str| (name == "VIRTUALBOX_BOOT2DOCKER_IMPORT_VM").then(|| "old".to_owned());
        let given = Given::parse(&options, &words, &env).unwrap();
        let notes = notes(&options, &given);
        assert_eq!(
            notes,
            [
                format!("--swarm, --swarm-master: not used; {CLASSIC}"),
                format!(
                    "--virtualbox-boot2docker-url, $VIRTUALBOX_BOOT2DOCKER_IMPORT_VM: not used; {IMAGE}"
                ),
                format!("--virtualbox-ui-type: not used; {SCREEN}"),
            ]
        );
    }
}
