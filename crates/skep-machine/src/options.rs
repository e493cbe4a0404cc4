//! The options of each driver, beside those that all have.

use super::argparse::Opt;

const NONE: [Opt<'static>; 1] = [Opt::text(&["url"], "", "URL of host when no driver is selected")];

const GENERIC: [Opt<'static>; 5] = [
    Opt::number(&["generic-engine-port"], 2376, "Docker engine port")
        .or_variable("GENERIC_ENGINE_PORT"),
    Opt::text(&["generic-ip-address"], "", "IP Address of machine")
        .or_variable("GENERIC_IP_ADDRESS"),
    Opt::text(&["generic-ssh-user"], "root", "SSH user").or_variable("GENERIC_SSH_USER"),
    Opt::text(
        &["generic-ssh-key"],
        "",
        "SSH private key path (if not provided, default SSH key will be used)",
    )
    .or_variable("GENERIC_SSH_KEY"),
    Opt::number(&["generic-ssh-port"], 22, "SSH port").or_variable("GENERIC_SSH_PORT"),
];

const MEMORY: &str = "Size of memory for host in MB";
const DISK: &str = "Size of disk for host in MB";
const CPUS: &str = "Number of CPUs";
const NETWORK: &str = "Name of network to connect to";
const IMAGE: &str = "The URL of the boot2docker image. Defaults to the latest available version";
const CACHE: &str =
    "Disk cache mode: default, none, writethrough, writeback, directsync, or unsafe";
const IO: &str = "Disk IO mode: threads, native";
const USER: &str = "SSH username";

const KVM: [Opt<'static>; 8] = [
    Opt::number(&["kvm-memory"], 1024, MEMORY),
    Opt::number(&["kvm-disk-size"], 20000, DISK),
    Opt::number(&["kvm-cpu-count"], 1, CPUS),
    Opt::text(&["kvm-network"], "default", NETWORK),
    Opt::text(&["kvm-boot2docker-url"], "", IMAGE).or_variable("KVM_BOOT2DOCKER_URL"),
    Opt::text(&["kvm-cache-mode"], "default", CACHE),
    Opt::text(&["kvm-io-mode"], "threads", IO),
    Opt::text(&["kvm-ssh-user"], "docker", USER).or_variable("KVM_SSH_USER"),
];

const QEMU: [Opt<'static>; 8] = [
    Opt::number(&["qemu-memory"], 1024, MEMORY).or_variable("QEMU_MEMORY"),
    Opt::number(&["qemu-disk-size"], 20000, DISK).or_variable("QEMU_DISK_SIZE"),
    Opt::number(&["qemu-cpu-count"], 1, CPUS).or_variable("QEMU_CPU_COUNT"),
    Opt::text(&["qemu-network"], "default", NETWORK),
    Opt::text(&["qemu-boot2docker-url"], "", IMAGE).or_variable("QEMU_BOOT2DOCKER_URL"),
    Opt::text(&["qemu-cache-mode"], "default", CACHE),
    Opt::text(&["qemu-io-mode"], "threads", IO),
    Opt::text(&["qemu-ssh-user"], "docker", USER).or_variable("QEMU_SSH_USER"),
];

const VIRTUALBOX: [Opt<'static>; 16] = [
    Opt::number(&["virtualbox-memory"], 1024, MEMORY).or_variable("VIRTUALBOX_MEMORY_SIZE"),
    Opt::number(
        &["virtualbox-cpu-count"],
        1,
        "number of CPUs for the machine (-1 to use the number of CPUs available)",
    )
    .or_variable("VIRTUALBOX_CPU_COUNT"),
    Opt::number(&["virtualbox-disk-size"], 20000, DISK).or_variable("VIRTUALBOX_DISK_SIZE"),
    Opt::text(&["virtualbox-boot2docker-url"], "", IMAGE).or_variable("VIRTUALBOX_BOOT2DOCKER_URL"),
    Opt::text(&["virtualbox-import-boot2docker-vm"], "", "The name of a Boot2Docker VM to import")
        .or_variable("VIRTUALBOX_BOOT2DOCKER_IMPORT_VM"),
    Opt::switch(&["virtualbox-host-dns-resolver"], "Use the host DNS resolver")
        .or_variable("VIRTUALBOX_HOST_DNS_RESOLVER"),
    Opt::text(&["virtualbox-nat-nictype"], "82540EM", "Specify the Network Adapter Type")
        .or_variable("VIRTUALBOX_NAT_NICTYPE"),
    Opt::text(&["virtualbox-hostonly-cidr"], "192.168.99.1/24", "Specify the Host Only CIDR")
        .or_variable("VIRTUALBOX_HOSTONLY_CIDR"),
    Opt::text(
        &["virtualbox-hostonly-nictype"],
        "82540EM",
        "Specify the Host Only Network Adapter Type",
    )
    .or_variable("VIRTUALBOX_HOSTONLY_NIC_TYPE"),
    Opt::text(
        &["virtualbox-hostonly-nicpromisc"],
        "deny",
        "Specify the Host Only Network Adapter Promiscuous Mode",
    )
    .or_variable("VIRTUALBOX_HOSTONLY_NIC_PROMISC"),
    Opt::text(
        &["virtualbox-ui-type"],
        "headless",
        "Specify the UI Type: (gui|sdl|headless|separate)",
    )
    .or_variable("VIRTUALBOX_UI_TYPE"),
    Opt::switch(&["virtualbox-hostonly-no-dhcp"], "Disable the Host Only DHCP Server")
        .or_variable("VIRTUALBOX_HOSTONLY_NO_DHCP"),
    Opt::switch(&["virtualbox-no-share"], "Disable the mount of your home directory")
        .or_variable("VIRTUALBOX_NO_SHARE"),
    Opt::switch(&["virtualbox-no-dns-proxy"], "Disable proxying all DNS requests to the host")
        .or_variable("VIRTUALBOX_NO_DNS_PROXY"),
    Opt::switch(
        &["virtualbox-no-vtx-check"],
        "Disable checking for the availability of hardware virtualization \
         before the vm is started",
    )
    .or_variable("VIRTUALBOX_NO_VTX_CHECK"),
    Opt::text(
        &["virtualbox-share-folder"],
        "",
        "Mount the specified directory instead of the default home location. Format: dir:name",
    )
    .or_variable("VIRTUALBOX_SHARE_FOLDER"),
];

/// Returns the options of a driver; none if there is no such driver.
#[must_use]
pub fn driver_options(driver: &str) -> Option<&'static [Opt<'static>]> {
    match driver {
        "none" => Some(&NONE),
        "generic" => Some(&GENERIC),
        // The flags of the driver that came after it are the same.
        "kvm" | "kvm2" => Some(&KVM),
        "qemu" => Some(&QEMU),
        "virtualbox" => Some(&VIRTUALBOX),
        _ => None,
    }
}
