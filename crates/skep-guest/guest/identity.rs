//! Makes a guest the node that its host says it is; runs in the guest, once per start.
//!
//! A copy of a running machine has the clock, the random state, the name and the addresses of what
//! it is a copy of, until this has run. One small program without a shared library does in a few
//! system calls what takes a script a dozen programs: under emulation a program's start alone is
//! some 30 ms. It brings a guest to what is asked for: what is so already is left alone, so that it
//! may run again in a node that works.
//!
//! On its standard input are lines of a word and its values, of which `file` is followed by as many
//! bytes as it says and an end of line:
//!
//! ```text
//! clock NANOSECONDS             to add to the clock
//! seed HEX                      randomness from the host
//! hostname NAME
//! address ADDRESS/PREFIX
//! gateway ADDRESS
//! mac MAC
//! link NAME                     of the interface to the host; eth0 where none is given
//! dns ADDRESS[,ADDRESS...]
//! digest TEXT                   of the files: the same as last time, and they are not written
//! file MODE PATH LENGTH
//! service NAME                  is started, or restarted if the files are new
//! ```

mod kernel;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The name of the interface to the host's bridge unless another one is asked for.
const LINK: &str = "eth0";
/// Where that other one is remembered for the next boot.
const LINK_FILE: &str = "/var/lib/skep/link";
/// Where it is remembered which files were delivered.
const DELIVERED: &str = "/var/lib/skep/delivery";
/// Where supervisors keep the pipes through which services are told what to do (runsv(8)).
const SUPERVISORS: &str = "/run/service";
/// When the service `clock` last set the clock, in seconds of uptime.
const CLOCK_MENDED: &str = "/run/skep/clock-mended";
/// Held while this runs.
const TURN: &str = "/run/skep/identity.lock";
/// How long before the order, in seconds, the host may have asked for the time that it goes by.
const JUST: f64 = 5.0;
/// Where services are described.
const SERVICES: &str = "/etc/skep/sv";

fn main() -> ExitCode {
    let mut input = Vec::new();
    let result = io::stdin()
        .read_to_end(&mut input)
        .map_err(|error| format!("cannot read the standard input: {error}"))
        .and_then(|_| Wanted::parse(&input))
        .and_then(|wanted| wanted.apply());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("identity: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the guest is to be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    words: BTreeMap<String, String>,
    files: Vec<File>,
    services: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct File {
    path: String,
    mode: u32,
    content: Vec<u8>,
}

impl Wanted {
    fn parse(mut input: &[u8]) -> Result<Self, String> {
        let mut wanted = Self::default();
        while !input.is_empty() {
            let end = input.iter().position(|byte| *byte == b'\n').ok_or("a line has no end")?;
            let line = std::str::from_utf8(&input[..end]).map_err(|_| "a line is no text")?;
            input = &input[end + 1..];
            let bad = || format!("not understood: {line}");
            let (word, value) = line.split_once(' ').ok_or_else(bad)?;
            match word {
                "service" => wanted.services.push(value.to_owned()),
                "file" => {
                    let parts: Vec<_> = value.split(' ').collect();
                    let [mode, path, length] = parts[..] else { return Err(bad()) };
                    let mode = u32::from_str_radix(mode, 8).map_err(|_| bad())?;
                    let length: usize = length.parse().map_err(|_| bad())?;
                    let content = input.get(..length).ok_or_else(bad)?.to_vec();
                    input = input.get(length + 1..).ok_or_else(bad)?;
                    wanted.files.push(File { path: path.to_owned(), mode, content });
                }
                _ => drop(wanted.words.insert(word.to_owned(), value.to_owned())),
            }
        }
        Ok(wanted)
    }

    fn word(&self, word: &str) -> Option<&str> {
        self.words.get(word).map(String::as_str)
    }

    fn apply(&self) -> Result<(), String> {
        // A host that lost its skep asks again while what the first one asked for is still being done.
        let turn = said("make the lock", fs::File::create(TURN))?;
        let at_once = turn.try_lock().is_ok();
        if !at_once {
            said("wait for its turn", turn.lock())?;
        }
        // First what would be wrong later: the time it takes to get here, and random numbers.
        if let Some(shift) = self.word("clock").filter(|_| at_once && !was_mended()) {
            let shift = shift.parse().map_err(|_| "the clock's shift is no number")?;
            said("set the clock", kernel::shift_clock(shift))?;
        }
        if let Some(seed) = self.word("seed") {
            said("reseed the random number generator", kernel::reseed(&bytes(seed)?))?;
        }
        self.set_names()?;
        let fresh = self.deliver()?;
        if self.set_link()? {
            // The console of a copy is new and empty; this is what a boot says there.
            let name = self.word("hostname").unwrap_or_default();
            let address = self.word("address").unwrap_or_default();
            let text = format!("skep: {name} has {address}, copied while it ran; services start\n");
            let _ = fs::write("/dev/console", text);
        }
        for service in &self.services {
            said(&format!("start {service}"), start(service, fresh))?;
        }
        if let Some(digest) = self.word("digest") {
            said("note the delivery", fs::write(DELIVERED, digest))?;
        }
        Ok(())
    }

    fn set_names(&self) -> Result<(), String> {
        if let Some(name) = self.word("hostname") {
            said("set the host name", fs::write("/proc/sys/kernel/hostname", name))?;
            put("/etc/hostname", &format!("{name}\n"))?;
            let address = self.word("address").and_then(|it| it.split('/').next());
            let address = address.unwrap_or("127.0.1.1");
            let old = fs::read_to_string("/etc/hosts").unwrap_or_default();
            put("/etc/hosts", &hosts(&old, address, name))?;
        }
        if let Some(servers) = self.word("dns") {
            let lines = servers.split(',').map(|server| format!("nameserver {server}\n"));
            put("/etc/resolv.conf", &lines.collect::<String>())?;
        }
        // Empty in an image and in what nodes are copied from; a number of its own from then on.
        if fs::metadata("/etc/machine-id").is_ok_and(|found| found.len() == 0) {
            let random = said("draw a machine ID", random_bytes::<16>())?;
            let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            put("/etc/machine-id", &format!("{id}\n"))?;
        }
        Ok(())
    }

    /// Writes the files, unless they are those of the last time; tells whether it did.
    fn deliver(&self) -> Result<bool, String> {
        let digest = self.word("digest").unwrap_or_default();
        if fs::read_to_string(DELIVERED).is_ok_and(|last| last.trim() == digest) {
            return Ok(false);
        }
        for file in &self.files {
            said(&format!("write {}", file.path), file.write())?;
        }
        Ok(true)
    }

    /// Gives the guest its place in the network, unless it has it; tells whether it did.
    fn set_link(&self) -> Result<bool, String> {
        let Some(address) = self.word("address") else { return Ok(false) };
        let bad = || format!("not an address: {address}");
        let (address, prefix) = address.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let prefix = prefix.parse::<u32>().ok().filter(|prefix| (1..=32).contains(prefix));
        let mask = Ipv4Addr::from(u32::MAX << (32 - prefix.ok_or_else(bad)?));
        let links = said("open a socket", kernel::Links::open())?;
        let link = self.word("link").unwrap_or(LINK);
        let found = device_link().unwrap_or_else(|| link.to_owned());
        let renamed = found != link;
        if renamed {
            put(LINK_FILE, &format!("{link}\n"))?;
            said(&format!("call {found} {link}"), links.rename(&found, link))?;
        }
        if !renamed && links.address(link) == Some(address) {
            return Ok(false);
        }
        if let Some(mac) = self.word("mac") {
            said("set the hardware address", links.set_mac(link, parse_mac(mac)?))?;
            // The engine's bridges are as old as the machine that this one is a copy of.
            for bridge in bridges() {
                let [b, c, d, e] = said("draw a hardware address", random_bytes::<4>())?;
                let mac = [0x02, 0x42, b, c, d, e];
                said(
                    &format!("set the hardware address of {bridge}"),
                    links.set_mac(&bridge, mac),
                )?;
            }
        }
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1");
        said("set the address", links.set_address(link, address, mask))?;
        said(&format!("start {link}"), links.start(link))?;
        if let Some(gateway) = self.word("gateway") {
            let gateway = gateway.parse().map_err(|_| format!("not an address: {gateway}"))?;
            said("set the route", links.route_through(gateway))?;
        }
        Ok(true)
    }
}

impl File {
    /// Writes the file under another name first; its owner is that of the directory.
    fn write(&self) -> io::Result<()> {
        let path = Path::new("/").join(&self.path);
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&self.content)?;
        file.set_permissions(fs::Permissions::from_mode(self.mode))?;
        let dir = fs::metadata(path.parent().expect("a path below /"))?;
        std::os::unix::fs::fchown(&file, Some(dir.uid()), Some(dir.gid()))?;
        fs::rename(&new, &path)
    }
}

/// Tells whether the service `clock` has just set the clock: by what the host has found before, it would
/// be set a second time.
fn was_mended() -> bool {
    let seconds =
        |path| -> Option<f64> { fs::read_to_string(path).ok()?.split(' ').next()?.parse().ok() };
    let ago = seconds("/proc/uptime").zip(seconds(CLOCK_MENDED)).map(|(now, then)| now - then);
    ago.is_some_and(|ago| ago < JUST)
}

/// Starts a service through its supervisor, which may itself still be starting.
fn start(service: &str, fresh: bool) -> io::Result<()> {
    let _ = fs::remove_file(format!("{SERVICES}/{service}/down"));
    let supervisor = format!("{SUPERVISORS}/{service}");
    let mut tries = 0;
    while !Path::new(&supervisor).join("ok").exists() && tries < 500 {
        // wait: a supervisor does not announce itself; it is up as soon as init has started it.
        std::thread::sleep(Duration::from_millis(20));
        tries += 1;
    }
    // Without a reader, opening a pipe so fails at once.
    let mut control = fs::OpenOptions::new()
        .write(true)
        .custom_flags(kernel::O_NONBLOCK)
        .open(format!("{supervisor}/control"))?;
    control.write_all(if fresh { b"tcu" } else { b"u" })
}

/// Returns the one interface that is a device; bridges and tunnels are none.
fn device_link() -> Option<String> {
    let entries = fs::read_dir("/sys/class/net").ok()?.filter_map(Result::ok);
    entries
        .filter(|entry| entry.path().join("device").exists())
        .find_map(|entry| entry.file_name().into_string().ok())
}

fn bridges() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let entries = entries.filter_map(|entry| entry.ok());
    entries
        .filter(|entry| entry.path().join("bridge").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn put(path: &str, text: &str) -> Result<(), String> {
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    said(&format!("write {path}"), fs::write(path, text))
}

fn said<T>(what: &str, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("cannot {what}: {error}"))
}

fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(byte).collect::<Option<_>>().ok_or_else(|| "not hexadecimal".to_owned())
}

fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let parts: Option<Vec<u8>> =
        text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    parts.and_then(|parts| parts.try_into().ok()).ok_or_else(|| format!("not a MAC: {text}"))
}

/// Divides /etc/hosts into our lines and the user's; `setup.sh` writes the same.
const KEPT: &str = "# Lines below this one are kept.\n";

/// Returns /etc/hosts for an address and a name, with what users have added. Of a file without the dividing line
/// the first two lines are ours.
fn hosts(old: &str, address: &str, name: &str) -> String {
    let kept = match old.split_once(KEPT) {
        Some((_, kept)) => kept,
        None => old.splitn(3, '\n').nth(2).unwrap_or_default(),
    };
    format!("127.0.0.1 localhost\n{address} {name}\n{KEPT}{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_users_add_to_the_hosts_stay() {
        let first = hosts("", "192.0.2.2", "node0");
        assert_eq!(first, format!("127.0.0.1 localhost\n192.0.2.2 node0\n{KEPT}"));
        let added = first + "192.0.2.9 db\n\n# mine";
        let second = hosts(&added, "192.0.2.3", "node1");
        assert_eq!(
            second,
            format!("127.0.0.1 localhost\n192.0.2.3 node1\n{KEPT}192.0.2.9 db\n\n# mine")
        );
        let older = "127.0.0.1 localhost\n192.0.2.2 node0\n192.0.2.9 db\n";
        assert!(hosts(older, "192.0.2.2", "node0").ends_with(&format!("{KEPT}192.0.2.9 db\n")));
    }

    #[test]
    fn words_files_and_services_are_told_apart() {
        let input = b"hostname node0\nfile 0600 etc/a 3\nb\nc\nservice tls\nservice sshd\n";
        let wanted = Wanted::parse(input).unwrap();
        assert_eq!(wanted.word("hostname"), Some("node0"));
        assert_eq!(wanted.services, ["tls", "sshd"]);
        let file = File { path: "etc/a".into(), mode: 0o600, content: b"b\nc".to_vec() };
        assert_eq!(wanted.files, [file]);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        for input in ["hostname node0", "hostname\n", "file 0600 a 9\nabc\n", "file 0600 a 3\nabc"]
        {
            assert!(Wanted::parse(input.as_bytes()).is_err(), "{input}");
        }
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        assert_eq!(bytes("00ff10").unwrap(), [0, 255, 16]);
        assert!(bytes("0g").is_err());
        assert_eq!(parse_mac("52:53:0a:c1:00:02").unwrap(), [0x52, 0x53, 10, 193, 0, 2]);
        assert!(parse_mac("52:53").is_err());
    }
}
