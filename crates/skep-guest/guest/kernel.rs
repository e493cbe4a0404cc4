//! The few calls that the standard library does not have (netdevice(7), random(4)), for the programs
//! that run in guests.

#![allow(unsafe_code)]
// Each program needs some of them.
#![allow(dead_code)]

use std::ffi::c_char;
use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

pub const O_NONBLOCK: i32 = 0o4000;
const CLOCK_REALTIME: i32 = 0;
const RNDADDENTROPY: u64 = 0x4008_5203;
const RNDRESEEDCRNG: u64 = 0x5207;
const SIOCADDRT: u64 = 0x890b;
const SIOCGIFFLAGS: u64 = 0x8913;
const SIOCSIFNAME: u64 = 0x8923;
const SIOCSIFFLAGS: u64 = 0x8914;
const SIOCGIFADDR: u64 = 0x8915;
const SIOCSIFADDR: u64 = 0x8916;
const SIOCSIFBRDADDR: u64 = 0x891a;
const SIOCSIFNETMASK: u64 = 0x891c;
const SIOCSIFHWADDR: u64 = 0x8924;
const AF_INET: u16 = 2;
const SOCK_DGRAM_CLOEXEC: i32 = 0o2_000_002;
const ARPHRD_ETHER: u16 = 1;
const IFF_UP: u16 = 1;
const RTF_UP: u16 = 1;
const RTF_GATEWAY: u16 = 2;
const MFD_ALLOW_SEALING: u32 = 2;
const MFD_EXEC: u32 = 16;
const F_ADD_SEALS: i32 = 1033;
/// F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE: all that runc looks for.
const SEALS: i32 = 1 | 2 | 4 | 8;

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    fn clock_settime(clock: i32, time: *const Time) -> i32;
    fn adjtime(delta: *const MicroTime, old: *mut MicroTime) -> i32;
    fn ioctl(fd: i32, request: u64, argument: *mut u8) -> i32;
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn memfd_create(name: *const c_char, flags: u32) -> i32;
    fn fcntl(fd: i32, command: i32, ...) -> i32;
}

#[repr(C)]
struct Time {
    seconds: i64,
    nanoseconds: i64,
}

/// A struct timeval.
#[repr(C)]
struct MicroTime {
    seconds: i64,
    microseconds: i64,
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls ioctl(2) with an argument that is large enough for what the request reads and writes.
fn control(fd: &impl AsRawFd, request: u64, argument: &mut [u8]) -> io::Result<()> {
    // SAFETY: the descriptor is open, and each caller below passes a buffer of at least the
    // size of the structure that its request is documented to use, which the kernel only
    // reads or fills.
    checked(unsafe { ioctl(fd.as_raw_fd(), request, argument.as_mut_ptr()) })?;
    Ok(())
}

/// Adds nanoseconds to the clock.
pub fn shift_clock(shift: i64) -> io::Result<()> {
    const SECOND: i64 = 1_000_000_000;
    let mut time = Time { seconds: 0, nanoseconds: 0 };
    // SAFETY: `time` is a timespec of this platform, valid for the call.
    checked(unsafe { clock_gettime(CLOCK_REALTIME, &raw mut time) })?;
    let total = time.nanoseconds + shift.rem_euclid(SECOND);
    time.seconds += shift.div_euclid(SECOND) + total / SECOND;
    time.nanoseconds = total % SECOND;
    // SAFETY: as above.
    checked(unsafe { clock_settime(CLOCK_REALTIME, &raw const time) })?;
    Ok(())
}

/// Has the clock gain so many microseconds little by little, in the place of what it still had to gain (adjtime(3)).
pub fn slew_clock(microseconds: i64) -> io::Result<()> {
    const SECOND: i64 = 1_000_000;
    let delta = MicroTime {
        seconds: microseconds.div_euclid(SECOND),
        microseconds: microseconds.rem_euclid(SECOND),
    };
    // SAFETY: `delta` is a timeval of this platform, valid for the call; the old value may be null.
    checked(unsafe { adjtime(&raw const delta, std::ptr::null_mut()) })?;
    Ok(())
}

/// The host's clock, as KVM lets a guest read it.
pub struct HostClock(File);

impl HostClock {
    /// Looks for it among the clocks that can be read precisely (Linux Documentation/ABI/testing/sysfs-ptp).
    pub fn find() -> Option<Self> {
        let clocks = std::fs::read_dir("/sys/class/ptp").ok()?.flatten();
        let name = |clock: &Path| std::fs::read_to_string(clock.join("clock_name")).ok();
        let kvm = clocks
            .map(|it| it.path())
            .find(|clock| name(clock).is_some_and(|name| name.trim() == "KVM virtual PTP"))?;
        File::open(Path::new("/dev").join(kvm.file_name()?)).ok().map(Self)
    }

    /// Returns the host's time of day in nanoseconds since 1970, UTC.
    pub fn now(&self) -> io::Result<i64> {
        // FD_TO_CLOCKID of clock_gettime(2): a clock that a descriptor is of.
        let clock = (!self.0.as_raw_fd() << 3) | 3;
        let mut time = Time { seconds: 0, nanoseconds: 0 };
        // SAFETY: `time` is a timespec of this platform, valid for the call.
        checked(unsafe { clock_gettime(clock, &raw mut time) })?;
        Ok(time.seconds * 1_000_000_000 + time.nanoseconds)
    }
}

/// Gives randomness to the kernel, and has it used from now on.
pub fn reseed(seed: &[u8]) -> io::Result<()> {
    let device = std::fs::OpenOptions::new().write(true).open("/dev/urandom")?;
    let length = i32::try_from(seed.len()).map_err(io::Error::other)?;
    let mut pool = Vec::new();
    pool.extend((length * 8).to_ne_bytes());
    pool.extend(length.to_ne_bytes());
    pool.extend(seed);
    control(&device, RNDADDENTROPY, &mut pool)?;
    control(&device, RNDRESEEDCRNG, &mut [])
}

/// Makes a program in memory that nobody can change any more (memfd_create(2)); programs that are started inherit it.
pub fn sealed_copy(program: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string that lives for ever, and the call keeps none of it.
    let make =
        |flags| checked(unsafe { memfd_create(c"runc".as_ptr(), MFD_ALLOW_SEALING | flags) });
    // Kernels before 6.3 know no flag for what may be executed.
    let fd = make(MFD_EXEC).or_else(|_| make(0))?;
    // SAFETY: the descriptor was just opened.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(program)?;
    // SAFETY: no memory is involved: this command takes a number.
    checked(unsafe { fcntl(file.as_raw_fd(), F_ADD_SEALS, SEALS) })?;
    Ok(file.into())
}

/// A socket to speak of network interfaces through.
pub struct Links(OwnedFd);

impl Links {
    pub fn open() -> io::Result<Self> {
        // SAFETY: no memory is involved, and the descriptor is nobody else's.
        let fd = checked(unsafe { socket(i32::from(AF_INET), SOCK_DGRAM_CLOEXEC, 0) })?;
        // SAFETY: the descriptor was just opened.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn address(&self, link: &str) -> Option<Ipv4Addr> {
        let mut request = named(link);
        control(&self.0, SIOCGIFADDR, &mut request).ok()?;
        Some(Ipv4Addr::from(*request[20..].first_chunk::<4>()?))
    }

    pub fn set_mac(&self, link: &str, mac: [u8; 6]) -> io::Result<()> {
        let mut request = named(link);
        request[16..18].copy_from_slice(&ARPHRD_ETHER.to_ne_bytes());
        request[18..24].copy_from_slice(&mac);
        control(&self.0, SIOCSIFHWADDR, &mut request)
    }

    pub fn set_address(&self, link: &str, at: Ipv4Addr, mask: Ipv4Addr) -> io::Result<()> {
        let broadcast = Ipv4Addr::from(u32::from(at) | !u32::from(mask));
        for (request, value) in
            [(SIOCSIFADDR, at), (SIOCSIFNETMASK, mask), (SIOCSIFBRDADDR, broadcast)]
        {
            let mut argument = named(link);
            argument[16..32].copy_from_slice(&socket_address(value));
            control(&self.0, request, &mut argument)?;
        }
        Ok(())
    }

    pub fn start(&self, link: &str) -> io::Result<()> {
        self.set_flags(link, |flags| flags | IFF_UP)
    }

    /// Gives an interface another name; it is down afterwards, as older kernels rename no other.
    pub fn rename(&self, link: &str, name: &str) -> io::Result<()> {
        self.set_flags(link, |flags| flags & !IFF_UP)?;
        let mut request = named(link);
        request[16..32].copy_from_slice(&named(name)[..16]);
        control(&self.0, SIOCSIFNAME, &mut request)
    }

    fn set_flags(&self, link: &str, change: impl Fn(u16) -> u16) -> io::Result<()> {
        let mut request = named(link);
        control(&self.0, SIOCGIFFLAGS, &mut request)?;
        let flags = change(u16::from_ne_bytes([request[16], request[17]]));
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        control(&self.0, SIOCSIFFLAGS, &mut request)
    }

    /// Sets the default route; one that is there is fine.
    pub fn route_through(&self, gateway: Ipv4Addr) -> io::Result<()> {
        // struct rtentry: a long, then destination, gateway and mask, then the flags.
        let mut route = [0; 120];
        route[8..24].copy_from_slice(&socket_address(Ipv4Addr::UNSPECIFIED));
        route[24..40].copy_from_slice(&socket_address(gateway));
        route[40..56].copy_from_slice(&socket_address(Ipv4Addr::UNSPECIFIED));
        route[56..58].copy_from_slice(&(RTF_UP | RTF_GATEWAY).to_ne_bytes());
        match control(&self.0, SIOCADDRT, &mut route) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }
}

/// Returns a struct ifreq with that name.
fn named(link: &str) -> [u8; 40] {
    let mut request = [0; 40];
    let name = link.as_bytes();
    let length = name.len().min(15);
    request[..length].copy_from_slice(&name[..length]);
    request
}

/// Returns a struct `sockaddr_in`.
fn socket_address(address: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
    bytes[4..8].copy_from_slice(&address.octets());
    bytes
}
