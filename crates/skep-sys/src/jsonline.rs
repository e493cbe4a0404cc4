//! JSON documents, one a line, over a stream: what QMP and the QEMU guest agent speak.
//!
//! Written here rather than taken from a library because the other end may be a hostile guest: what
//! it can make us hold in memory is bounded, and what it says is only ever parsed.

use serde_json::Value;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

/// The longest line that is accepted, in bytes.
const LINE_LIMIT: usize = 32 << 20;

/// The most values that a line may have. In memory each takes thirty times its two bytes, so that the
/// bound for a line would be none; what is long are texts.
const VALUE_LIMIT: usize = 100_000;

/// A stream that failed or did not speak JSON.
#[derive(Debug, Error)]
pub enum WireError {
    /// The stream failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The other end closed the stream.
    #[error("the connection was closed")]
    Closed,
    /// A line was longer than any answer can be.
    #[error("a response is longer than {LINE_LIMIT} bytes")]
    TooLong,
    /// A line had more values than any answer can have.
    #[error("a response has more than {VALUE_LIMIT} values")]
    TooMany,
    /// A line was not JSON.
    #[error("a response is not JSON")]
    NotJson(#[from] serde_json::Error),
}

/// A stream of JSON lines in both directions.
#[derive(Debug)]
pub struct JsonLines<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no line's end.
    scanned: usize,
}

impl<S: AsyncRead + AsyncWrite> JsonLines<S> {
    /// Wraps a stream.
    pub fn new(stream: S) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader, writer, buffer: Vec::new(), scanned: 0 }
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    ///
    /// If the stream fails.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.writer.write_all(bytes).await?;
        Ok(self.writer.flush().await?)
    }

    /// Writes a document and a line's end.
    ///
    /// # Errors
    ///
    /// If the stream fails.
    pub async fn send(&mut self, document: &Value) -> Result<(), WireError> {
        let mut line = document.to_string().into_bytes();
        line.push(b'\n');
        self.send_raw(&line).await
    }

    /// Reads the next line that is not empty. Can be cancelled without losing what was read.
    ///
    /// # Errors
    ///
    /// If the stream fails or ends, or the line is too long or no JSON.
    pub async fn receive(&mut self) -> Result<Value, WireError> {
        loop {
            let line = self.line().await?;
            if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                // Those within texts count too; there are few.
                let begins = |byte: &&u8| matches!(**byte, b',' | b'[' | b'{');
                if line.iter().filter(begins).count() > VALUE_LIMIT {
                    return Err(WireError::TooMany);
                }
                return Ok(serde_json::from_slice(&line)?);
            }
        }
    }

    async fn line(&mut self) -> Result<Vec<u8>, WireError> {
        loop {
            let end = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end {
                let rest = self.buffer.split_off(self.scanned + end + 1);
                self.scanned = 0;
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            self.scanned = self.buffer.len();
            if self.scanned > LINE_LIMIT {
                return Err(WireError::TooLong);
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Err(WireError::Closed);
            }
        }
    }

    /// Drops all that was read up to and including the last `mark` of what has arrived.
    ///
    /// # Errors
    ///
    /// If the stream fails or ends before a mark comes.
    pub async fn skip_past(&mut self, mark: u8) -> Result<(), WireError> {
        loop {
            if let Some(at) = self.buffer.iter().rposition(|byte| *byte == mark) {
                self.buffer.drain(..=at);
                self.scanned = 0;
                return Ok(());
            }
            self.buffer.clear();
            self.scanned = 0;
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Err(WireError::Closed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::duplex;

    #[tokio::test]
    async fn documents_come_one_by_one_however_they_were_cut() {
        let (near, far) = duplex(5);
        let mut lines = JsonLines::new(near);
        let mut far = JsonLines::new(far);
        let send = async {
            far.send_raw(b"{\"a\": 1}\r\n\n[2").await.unwrap();
            far.send_raw(b"]\n").await.unwrap();
            drop(far);
        };
        let receive = async {
            assert_eq!(lines.receive().await.unwrap(), json!({"a": 1}));
            assert_eq!(lines.receive().await.unwrap(), json!([2]));
            assert!(matches!(lines.receive().await, Err(WireError::Closed)));
        };
        tokio::join!(send, receive);
    }

    #[tokio::test]
    async fn what_came_before_a_mark_is_dropped() {
        let (near, far) = duplex(64);
        let mut lines = JsonLines::new(near);
        JsonLines::new(far).send_raw(b"stale\xff{\"return\": 7}\n").await.unwrap();
        lines.skip_past(0xff).await.unwrap();
        assert_eq!(lines.receive().await.unwrap(), json!({"return": 7}));
    }

    #[tokio::test]
    async fn a_line_that_would_be_large_only_in_memory_is_refused() {
        for unit in ["0,", "[],", "{},", "{\"a\":1},"] {
            let (near, far) = duplex(1 << 20);
            let (mut near, mut far) = (JsonLines::new(near), JsonLines::new(far));
            let line = format!("[{}0]\n", unit.repeat(VALUE_LIMIT + 1));
            let send = async { far.send_raw(line.as_bytes()).await.unwrap() };
            let ((), received) = tokio::join!(send, near.receive());
            assert!(matches!(received, Err(WireError::TooMany)), "{unit}");
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        let (near, mut far) = duplex(1 << 20);
        let mut lines = JsonLines::new(near);
        let flood = async {
            let chunk = vec![b'x'; 1 << 20];
            while far.write_all(&chunk).await.is_ok() {}
        };
        let receive = async {
            let error = lines.receive().await.unwrap_err();
            drop(lines);
            error
        };
        let (_, error) = tokio::join!(flood, receive);
        assert!(matches!(error, WireError::TooLong));
    }
}
