//! What docker-machine's options ask for, as machines of ours have it, or why it cannot be had.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use skep_core::model::{NodeKind, NodeSpec, Role, Shape, Size};
use skep_core::plan::{PlanError, UsualAddresses};

use super::vm::VmSpec;

/// The disk of a machine whose user asks for none in particular, in docker-machine's MB. It is as large as
/// other machines' of ours, so that it is a copy of the same warm one.
const USUAL_DISK: u64 = 20_000;

/// The script that installs the engine unless another is asked for.
pub const USUAL_INSTALL_URL: &str = "https://get.docker.com";

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
        kind: NodeKind::Vm(Shape {
            cpus: wanted.cpus.unwrap_or_else(all),
            memory: Size::mib(wanted.memory),
            disk: match wanted.disk {
                USUAL_DISK => Shape::DEFAULT.disk,
                megabytes => Size::mib(megabytes.saturating_mul(1_000_000).div_ceil(1 << 20)),
            },
        }),
        labels: Default::default(),
        availability: None,
    })
}

/// Returns the subnet that is asked for, if any, with what cannot be had of it.
///
/// # Errors
///
/// If it is none.
pub fn subnet(wanted: &VmSpec) -> Result<Option<(Ipv4Net, Option<String>)>, String> {
    let Some(text) = &wanted.subnet else { return Ok(None) };
    let unfit = || format!("{CIDR} {text}: not a network with an address, as in 192.168.99.1/24");
    let given: Ipv4Net = text.parse().map_err(|_| unfit())?;
    let first = Ipv4Addr::from(u32::from(given.network()).wrapping_add(1));
    let note = (given.addr() != first)
        .then(|| format!("{CIDR} {text}: this host has the network's first address, {first}"));
    Ok(Some((given.trunc(), note)))
}

/// The option with which users of virtualbox choose the network.
const CIDR: &str = "--virtualbox-hostonly-cidr";

/// Returns where scripts written for a driver expect its machines: the subnet, and the first machine's place in it.
///
/// virtualbox gives 192.168.99.100 and what follows, kvm's network `docker-machines` is 192.168.42.0/24.
#[must_use]
pub fn usual_addresses(driver: &str) -> UsualAddresses {
    let subnet = |third| Ipv4Net::new([192, 168, third, 0].into(), 24).ok();
    match driver {
        "virtualbox" => UsualAddresses { subnet: subnet(99), first: 98 },
        "kvm" | "kvm2" => UsualAddresses { subnet: subnet(42), first: 0 },
        _ => UsualAddresses::default(),
    }
}

/// Tells why a machine has no place in a network, with the option that chooses another one.
#[must_use]
pub fn unplaced(error: &PlanError, wanted: &VmSpec) -> String {
    match error {
        PlanError::SubnetTaken { .. } | PlanError::SubnetUnfit { .. } => {
            format!("{CIDR} {}: {error}", wanted.subnet.as_deref().unwrap_or_default())
        }
        PlanError::NoFreeSubnet { granted: false, .. } => {
            let other = match wanted.driver.as_str() {
                "virtualbox" => format!("{CIDR}, as in {CIDR} 172.30.5.1/24"),
                _ => format!("-d virtualbox {CIDR} 172.30.5.1/24"),
            };
            error.to_string().replace("--subnet", &other)
        }
        _ => error.to_string(),
    }
}

/// Refuses more memory than this host has: QEMU would end when it starts.
///
/// # Errors
///
/// If it is more, with how much there is.
pub fn check_memory(wanted: &VmSpec, meminfo: &str) -> Result<(), String> {
    let kib = |name: &str| -> Option<u64> {
        skep_sys::value_of(meminfo, name)?.trim_end_matches(" kB").trim().parse().ok()
    };
    let Some(total) = kib("MemTotal") else { return Ok(()) };
    let mebibytes = (total + kib("SwapTotal").unwrap_or(0)) >> 10;
    if wanted.memory <= mebibytes {
        return Ok(());
    }
    let driver = if wanted.driver == "kvm2" { "kvm" } else { &wanted.driver };
    let memory = wanted.memory;
    Err(format!(
        "--{driver}-memory {memory}: this host has {mebibytes} MiB, swap included; ask for less"
    ))
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
            share: None,
            engine: EngineOptions::default(),
            tls_sans: Vec::new(),
        }
    }

    #[test]
    fn sizes_are_at_least_what_is_asked_for() {
        let shape = |wanted: &VmSpec| node_spec(wanted).unwrap().shape().unwrap();
        let usual = Shape { cpus: 2, memory: Size::gib(2), disk: Shape::DEFAULT.disk };
        assert_eq!(shape(&wanted()), usual);
        let large = shape(&VmSpec { disk: 9000, cpus: None, ..wanted() });
        assert_eq!(large.disk, Size::mib(8584));
        assert!(large.disk.bytes() >= 9_000_000_000 && large.cpus >= 1);
        assert!(node_spec(&VmSpec { name: "a..b".into(), ..wanted() }).is_err());
    }

    #[test]
    fn the_hosts_address_is_the_first() {
        let of = |text: &str| subnet(&VmSpec { subnet: Some(text.into()), ..wanted() });
        let (found, note) = of("10.9.0.1/24").unwrap().unwrap();
        assert_eq!((found.to_string().as_str(), note), ("10.9.0.0/24", None));
        let (found, note) = of("10.9.0.20/24").unwrap().unwrap();
        assert_eq!(found.to_string(), "10.9.0.0/24");
        assert!(note.unwrap().contains("first address, 10.9.0.1"));
        for bad in ["10.9.0.1", "x"] {
            assert!(of(bad).unwrap_err().starts_with(CIDR), "{bad}");
        }
    }

    #[test]
    fn more_memory_than_there_is_is_refused_before_anything_is_made() {
        let host = "MemTotal:       24576000 kB\nMemFree: 1 kB\nSwapTotal:       0 kB\n";
        check_memory(&wanted(), host).unwrap();
        let error = check_memory(&VmSpec { memory: 99999, ..wanted() }, host).unwrap_err();
        assert_eq!(
            error,
            "--kvm-memory 99999: this host has 24000 MiB, swap included; ask for less"
        );
        check_memory(&VmSpec { memory: 99999, ..wanted() }, "").unwrap();
    }

    #[test]
    fn a_network_that_cannot_be_had_is_told_with_the_option_that_chooses_it() {
        let network = "192.168.99.0/24".parse().unwrap();
        let taken = PlanError::SubnetTaken { subnet: network, used: network, by: "eth9".into() };
        let asked = VmSpec { subnet: Some("192.168.99.1/24".into()), ..wanted() };
        assert_eq!(
            unplaced(&taken, &asked),
            "--virtualbox-hostonly-cidr 192.168.99.1/24: the subnet 192.168.99.0/24 overlaps \
             192.168.99.0/24, which eth9 uses"
        );
        let none = PlanError::NoFreeSubnet { pools: vec![network], granted: false };
        let text = unplaced(&none, &wanted());
        assert!(text.contains("with -d virtualbox --virtualbox-hostonly-cidr "), "{text}");
    }
}
