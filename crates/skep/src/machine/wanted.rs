//! What docker-machine's options ask for, as machines of ours have it, or why it cannot be had.

use ipnet::Ipv4Net;
use skep_core::model::{NodeSpec, Role, Size};

use super::vm::VmSpec;
use crate::file::DEFAULT_DISK;

/// The disk of a machine whose user asks for none in particular, in docker-machine's MB. It is as large as
/// other machines' of ours, so that it is a copy of the same warm one.
const USUAL_DISK: u64 = 20_000;

/// The script that installs the engine unless another is asked for.
pub const USUAL_INSTALL_URL: &str = "https://get.docker.com";

/// The one user of our guests.
const USER: &str = "docker";

/// Returns the machine that is wanted.
///
/// # Errors
///
/// If its name cannot be a host's.
pub fn node_spec(wanted: &VmSpec) -> Result<NodeSpec, String> {
    let name = wanted.name.parse();
    let all = || std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    Ok(NodeSpec {
        name: name.map_err(|error: skep_core::model::NameError| error.to_string())?,
        role: Role::Worker,
        cpus: wanted.cpus.unwrap_or_else(all),
        memory: Size::mib(wanted.memory),
        disk: match wanted.disk {
            USUAL_DISK => DEFAULT_DISK,
            megabytes => Size::mib(megabytes.saturating_mul(1_000_000).div_ceil(1 << 20)),
        },
        labels: Default::default(),
        host: None,
        availability: None,
    })
}

/// Returns the subnet that is asked for, if any.
///
/// # Errors
///
/// If the host's address is not the first of it.
pub fn subnet(wanted: &VmSpec) -> Result<Option<Ipv4Net>, String> {
    let Some(text) = &wanted.subnet else { return Ok(None) };
    let unfit = || format!("{text} is not a network with its first address, as in 192.168.99.1/24");
    let given: Ipv4Net = text.parse().map_err(|_| unfit())?;
    let first = u32::from(given.network()) + 1;
    if u32::from(given.addr()) == first { Ok(Some(given.trunc())) } else { Err(unfit()) }
}

/// Refuses what is asked for and cannot be had.
///
/// # Errors
///
/// The reason.
pub fn check(wanted: &VmSpec) -> Result<(), String> {
    subnet(wanted)?;
    let driver = if wanted.driver == "kvm2" { "kvm" } else { &wanted.driver };
    if wanted.user != USER {
        return Err(format!("--{driver}-ssh-user cannot be had: machines have the user {USER}"));
    }
    if wanted.cache_mode.is_some() {
        let reason = "the disks' cache is the same for all machines";
        return Err(format!("--{driver}-cache-mode cannot be had: {reason}"));
    }
    if wanted.io_mode.as_deref().is_some_and(|mode| mode != "threads") {
        return Err(format!("--{driver}-io-mode cannot be had: disks are read by threads"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_store::dm::EngineOptions;

    fn wanted() -> VmSpec {
        VmSpec {
            name: "box".into(),
            driver: "kvm2".into(),
            cpus: Some(2),
            memory: 2048,
            disk: USUAL_DISK,
            subnet: None,
            cache_mode: None,
            io_mode: Some("threads".into()),
            user: "docker".into(),
            engine: EngineOptions::default(),
            tls_sans: Vec::new(),
        }
    }

    #[test]
    fn sizes_are_at_least_what_is_asked_for() {
        let spec = node_spec(&wanted()).unwrap();
        assert_eq!((spec.cpus, spec.memory, spec.disk), (2, Size::gib(2), DEFAULT_DISK));
        let spec = node_spec(&VmSpec { disk: 9000, cpus: None, ..wanted() }).unwrap();
        assert_eq!(spec.disk, Size::mib(8584));
        assert!(spec.disk.bytes() >= 9_000_000_000 && spec.cpus >= 1);
        assert!(node_spec(&VmSpec { name: "a..b".into(), ..wanted() }).is_err());
    }

    #[test]
    fn the_hosts_address_is_the_first() {
        let of = |text: &str| subnet(&VmSpec { subnet: Some(text.into()), ..wanted() });
        assert_eq!(of("10.9.0.1/24").unwrap().unwrap().to_string(), "10.9.0.0/24");
        for bad in ["10.9.0.2/24", "10.9.0.0/24", "10.9.0.1", "x"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        check(&wanted()).unwrap();
        for other in [
            VmSpec { user: "root".into(), ..wanted() },
            VmSpec { cache_mode: Some("none".into()), ..wanted() },
            VmSpec { io_mode: Some("native".into()), ..wanted() },
        ] {
            assert!(check(&other).unwrap_err().starts_with("--kvm-"));
        }
    }
}
