//! Descriptors: those that skep was started with, the host's end of a machine's network interface, and
//! handing one over to another process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Setter, ioctl, opcode};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Marks every descriptor but the standard three to be closed in programs that skep starts.
///
/// Rust opens its own descriptors that way; those that a caller left open (a test runner's, a
/// shell's) would otherwise be held by QEMU for as long as the machine runs, and whoever waits for
/// end-of-file on them would wait as long. Call it before any thread is started.
///
/// # Errors
///
/// If /proc cannot be read.
#[allow(unsafe_code)]
pub fn close_inherited_on_exec() -> io::Result<()> {
    use rustix::io::FdFlags;
    let numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // SAFETY: the descriptor is only borrowed for this call, which neither closes it nor keeps
        // it. If it was closed since it was listed (the listing's own is), the call answers EBADF.
        let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC);
    }
    Ok(())
}

/// What the kernel's TUNSETIFF takes: struct ifreq, as far as it reads it (netdevice(7)).
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// TUNSETIFF (linux/if_tun.h): an int by its declaration, a struct ifreq in fact.
const SET_INTERFACE: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);

/// IFF_TAP, IFF_NO_PI and IFF_VNET_HDR (linux/if_tun.h): frames, with what virtio puts before them.
const TAP: u16 = 0x0002 | 0x1000 | 0x4000;

/// Opens the tap of that name, or makes it; one that was made is gone when the last descriptor of it is
/// closed. `%d` in the name is replaced by a number that is free.
///
/// # Errors
///
/// If the rights or the device are missing, or another process has the tap.
#[allow(unsafe_code)]
pub fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let mut request = InterfaceRequest { name: [0; 16], flags: TAP, rest: [0; 22] };
    let name = name.as_bytes();
    // One byte stays zero: it ends the name.
    if name.is_empty() || name.len() >= request.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..name.len()].copy_from_slice(name);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let tap = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    // SAFETY: the code is TUNSETIFF's, which reads and writes a struct ifreq: 40 bytes on this
    // architecture, as many as the request has.
    let set = unsafe { Setter::<SET_INTERFACE, InterfaceRequest>::new(request) };
    // SAFETY: as above; the call keeps nothing of the request.
    unsafe { ioctl(&tap, set) }?;
    Ok(tap)
}

/// Sends bytes over a unix socket, and a descriptor with them (unix(7), SCM_RIGHTS).
///
/// # Errors
///
/// If the socket does not take all of it at once.
pub fn send_descriptor(
    socket: impl AsFd,
    bytes: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = sendmsg(socket, &[io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Reads from a unix socket to the end, or as much as is allowed, with a descriptor if one comes along.
///
/// # Errors
///
/// If the socket breaks, says more than is allowed, or has not come to its end when the limit is over.
pub fn receive(
    socket: impl AsFd,
    most: usize,
    limit: Duration,
) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let end = Instant::now() + limit;
    let mut bytes = Vec::new();
    let mut descriptor = None;
    let mut piece = [0; 4096];
    loop {
        // A limit for each piece would let it come byte by byte for ever.
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        set_socket_timeout(&socket, Timeout::Recv, Some(left.max(Duration::from_millis(1))))?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [io::IoSliceMut::new(&mut piece)];
        let got = recvmsg(&socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
                descriptor = descriptors.next().or(descriptor);
            }
        }
        if got == 0 {
            return Ok((bytes, descriptor));
        }
        bytes.extend_from_slice(&piece[..got]);
        if bytes.len() > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn what_comes_byte_by_byte_is_not_waited_for() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let drip = std::thread::spawn(move || {
            while std::io::Write::write_all(&mut near, b"x").is_ok() {
                // wait: the sender is slow, which is what is tested.
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let limit = Duration::from_millis(100);
        let kind = receive(&far, 1 << 20, limit).unwrap_err().kind();
        assert!(matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{kind}");
        drop(far);
        drip.join().unwrap();
    }

    #[test]
    fn a_descriptor_goes_to_whoever_reads_the_bytes() {
        let (near, far) = UnixStream::pair().unwrap();
        let (mut kept, given) = UnixStream::pair().unwrap();
        send_descriptor(&near, b"take it\n", given.as_fd()).unwrap();
        drop(given);
        drop(near);
        let (text, received) = receive(&far, 8, LIMIT).unwrap();
        assert_eq!(text, b"take it\n");
        std::io::Write::write_all(&mut UnixStream::from(received.unwrap()), b"mine").unwrap();
        let mut said = String::new();
        kept.read_to_string(&mut said).unwrap();
        assert_eq!(said, "mine");
    }

    #[test]
    fn no_more_is_read_than_is_allowed() {
        let (mut near, far) = UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut near, &[b'x'; 9]).unwrap();
        drop(near);
        assert_eq!(receive(&far, 8, LIMIT).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_name_that_is_too_long_is_no_interface() {
        for name in ["", "sixteen-letters-"] {
            assert_eq!(open_tap(name).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
