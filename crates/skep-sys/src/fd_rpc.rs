//! One request and one answer over a unix socket that is a program's standard input, with a descriptor if one was
//! asked for.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Cmd, CmdError, receive, send_descriptor};

/// How long an answer may take to come from a program that has ended: all of it was sent before.
const ANSWER: Duration = Duration::from_secs(10);

/// What kept a program from answering.
#[derive(Debug)]
pub enum RpcError {
    /// The socket.
    Socket(io::Error),
    /// The program.
    Program(CmdError),
}

/// Gives a program a request, and returns its answer of `most` bytes and the descriptor that came along. Both fit
/// into what a socket holds, so neither side has to wait for the other.
///
/// # Errors
///
/// If the program cannot be run or fails, or the socket breaks.
pub async fn call_program(
    command: Cmd,
    request: &[u8],
    most: usize,
) -> Result<(Vec<u8>, Option<OwnedFd>), RpcError> {
    let (mut near, far) = UnixStream::pair().map_err(RpcError::Socket)?;
    near.write_all(request).map_err(RpcError::Socket)?;
    near.shutdown(Shutdown::Write).map_err(RpcError::Socket)?;
    let command = command.input(far.into());
    let ran = command.run().await;
    drop(command);
    ran.map_err(RpcError::Program)?;
    receive(&near, most, ANSWER).map_err(RpcError::Socket)
}

/// Sends an answer, and a descriptor with it if there is one.
///
/// # Errors
///
/// If the socket breaks.
pub fn answer(
    socket: BorrowedFd<'_>,
    mut bytes: &[u8],
    descriptor: Option<OwnedFd>,
) -> io::Result<()> {
    if let Some(descriptor) = descriptor {
        return send_descriptor(socket, bytes, descriptor.as_fd());
    }
    while !bytes.is_empty() {
        let sent = rustix::net::send(socket, bytes, rustix::net::SendFlags::NOSIGNAL)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}
