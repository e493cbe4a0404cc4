//! Answers every request with one page, on port 80: what runs in the service by which a routing mesh is
//! verified, on hosts that have no image of ours.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const PAGE: &str = "skep probe\n";

/// How long whoever asks may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // What was not read when a connection is closed makes it end with an error over there.
    let mut request: Vec<u8> = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|it| it == b"\r\n\r\n") && request.len() < 8192 {
        match stream.read(&mut part)? {
            0 => break,
            count => request.extend(&part[..count]),
        }
    }
    let length = PAGE.len();
    let head = format!("HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n");
    stream.write_all(format!("{head}Connection: close\r\n\r\n{PAGE}").as_bytes())
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:80")?;
    for stream in listener.incoming() {
        // Whoever goes away before the answer does no harm.
        let _ = stream.and_then(answer);
    }
    Ok(())
}
