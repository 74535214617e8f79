//! The request that opens a WebSocket. Its path and query may be signed or hold a token, and a library below the client
//! writes the request to the log, so the client is told a stand-in for them, which is replaced on its way to the broker.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use purista_core::adapter::ServerUrl;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How the request begins that the client writes.
const STAND_IN: &[u8] = b"GET /- ";

/// The path of a URL that has none.
const PATH: &str = "/mqtt";

/// Returns the URL for the client. Host and port are as they are written, as what is signed may include them.
pub(crate) fn url_for_client(server: &ServerUrl) -> String {
    format!("ws://{}/-", server.authority())
}

/// Returns what is asked for: path and query as they are written.
pub(crate) fn target(server: &ServerUrl) -> String {
    let path = if server.path().is_empty() { PATH } else { server.path() };
    match server.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// A connection on which the request of a WebSocket comes first.
#[derive(Debug)]
pub(crate) struct Requesting<S> {
    stream: S,
    /// What is still to be written in the place of [`STAND_IN`].
    beginning: Option<Bytes>,
}

impl<S> Requesting<S> {
    pub(crate) fn new(stream: S, target: &str) -> Self {
        Self { stream, beginning: Some(format!("GET {target} ").into()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Requesting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Requesting<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, beginning } = &mut *self;
        let Some(rest) = beginning else { return Pin::new(stream).poll_write(context, buffer) };
        if !buffer.starts_with(STAND_IN) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "no request of a WebSocket")));
        }
        while rest.has_remaining() {
            match ready!(Pin::new(&mut *stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => rest.advance(written),
            }
        }
        *beginning = None;
        Poll::Ready(Ok(STAND_IN.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn the_beginning_is_replaced_however_little_is_written_at_a_time() {
        for room in [1, 5, 1_000] {
            let (near, mut far) = duplex(room);
            let mut near = Requesting::new(near, "/p?token=a%20b");
            let written = tokio::spawn(async move {
                near.write_all(b"GET /- HTTP/1.1\r\nGET /- \r\n\r\n").await.unwrap();
                near.shutdown().await.unwrap();
            });
            let mut read = String::new();
            far.read_to_string(&mut read).await.unwrap();
            written.await.unwrap();
            assert_eq!(read, "GET /p?token=a%20b HTTP/1.1\r\nGET /- \r\n\r\n");
        }
    }

    #[tokio::test]
    async fn nothing_else_is_let_through() {
        let (near, _far) = duplex(100);
        let error = Requesting::new(near, "/p").write_all(b"POST /- HTTP/1.1").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
