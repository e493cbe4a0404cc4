//! A bound on what one answer of an engine may take of our memory.
//!
//! What reads answers holds a whole one, and an engine may be whatever root in a guest puts in its
//! place. So what comes through a connection is counted from when a request was last written to it:
//! its bytes, and its objects, as `{}` takes two of the one and hundreds in memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower_service::Service;

/// The most bytes of an answer. A swarm of a thousand tasks is told in three million.
const BYTES: usize = 16 << 20;

/// The most objects of an answer. A task has about thirty.
const OBJECTS: usize = 200_000;

/// Makes connections whose answers are bounded.
#[derive(Clone)]
pub(super) struct Limited<C>(pub C);

impl<C> Service<Uri> for Limited<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
{
    type Response = ResponseLimit<C::Response>;
    type Error = C::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async { Ok(ResponseLimit { inner: connecting.await?, bytes: 0, objects: 0 }) })
    }
}

/// A connection whose answers are bounded.
pub(super) struct ResponseLimit<S> {
    inner: S,
    bytes: usize,
    objects: usize,
}

impl<S: Read + Unpin> Read for ResponseLimit<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut piece = [0; 16 << 10];
        let room = buffer.remaining().min(piece.len());
        let mut read = hyper::rt::ReadBuf::new(&mut piece[..room]);
        ready!(Pin::new(&mut self.inner).poll_read(context, read.unfilled()))?;
        let filled = read.filled();
        self.bytes += filled.len();
        self.objects += filled.iter().filter(|byte| **byte == b'{').count();
        if self.bytes > BYTES || self.objects > OBJECTS {
            let told = "the engine answers more than there can be to tell";
            return Poll::Ready(Err(io::Error::other(told)));
        }
        buffer.put_slice(filled);
        Poll::Ready(Ok(()))
    }
}

impl<S: Write + Unpin> Write for ResponseLimit<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        (self.bytes, self.objects) = (0, 0);
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<S: Connection> Connection for ResponseLimit<S> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn meter(answer: Vec<u8>) -> TokioIo<ResponseLimit<TokioIo<tokio::io::DuplexStream>>> {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        tokio::spawn(async move {
            let mut request = [0; 4];
            while far.read_exact(&mut request).await.is_ok() {
                if far.write_all(&answer).await.is_err() {
                    break;
                }
            }
        });
        TokioIo::new(ResponseLimit { inner: TokioIo::new(near), bytes: 0, objects: 0 })
    }

    #[tokio::test]
    async fn each_answer_may_be_long_and_none_without_an_end() {
        let length = BYTES - 1;
        let mut engine = meter(vec![b' '; length]);
        let mut answer = vec![0; length];
        for _ in 0..3 {
            engine.write_all(b"ask\n").await.unwrap();
            engine.read_exact(&mut answer).await.unwrap();
        }
        let mut engine = meter(vec![b' '; BYTES + 1]);
        engine.write_all(b"ask\n").await.unwrap();
        let error = engine.read_to_end(&mut answer).await.unwrap_err();
        assert!(error.to_string().contains("more than there can be to tell"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_that_would_be_large_only_in_memory_is_refused() {
        let mut engine = meter(b"{},".repeat(OBJECTS + 1));
        engine.write_all(b"ask\n").await.unwrap();
        assert!(engine.read_to_end(&mut Vec::new()).await.is_err());
    }
}
