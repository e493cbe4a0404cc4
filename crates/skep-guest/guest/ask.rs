//! Asks the engine of the guest in which it runs, over its own socket; the body is the standard input.
//!
//! ```text
//! ask METHOD PATH
//! ```
//!
//! It prints the answer, on the standard error if that is a refusal. A copy of a machine can be asked so before its
//! port answers, and without a program that is slow to start under emulation.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

const SOCKET: &str = "/run/docker.sock";
/// The longest answer that is read, in bytes.
const LONGEST: u64 = 1 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [method, path] = &arguments[..] else {
        eprintln!("usage: ask METHOD PATH");
        return ExitCode::FAILURE;
    };
    let mut body = Vec::new();
    let asked = io::stdin().read_to_end(&mut body).and_then(|_| ask(method, path, &body));
    let error = match asked {
        Ok(answer) => match parse(&answer) {
            Some((true, text)) => {
                let _ = io::stdout().write_all(text);
                return ExitCode::SUCCESS;
            }
            Some((false, text)) => String::from_utf8_lossy(text).into_owned(),
            None => "the engine's answer cannot be understood".to_owned(),
        },
        Err(error) => format!("the engine at {SOCKET} does not answer: {error}"),
    };
    eprintln!("ask: {error}");
    ExitCode::FAILURE
}

fn ask(method: &str, path: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut engine = UnixStream::connect(SOCKET)?;
    // Of HTTP/1.0 an answer has no chunks, and ends with the connection.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    engine.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    engine.take(LONGEST).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Tells whether an answer is a success, and what it says.
fn parse(answer: &[u8]) -> Option<(bool, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?;
    Some((status.starts_with('2'), &answer[end + 4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_success() {
        let answer = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n\"id\"\n";
        assert_eq!(parse(answer), Some((true, &b"\"id\"\n"[..])));
        assert_eq!(parse(b"HTTP/1.1 503 x\r\n\r\nno"), Some((false, &b"no"[..])));
        for garbled in ["", "HTTP/1.0 200 OK\r\n", "\r\n\r\n"] {
            assert_eq!(parse(garbled.as_bytes()), None, "{garbled:?}");
        }
    }
}
