//! The TCP connection below everything else.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_io_timeout::TimeoutStream;

/// What the client talks over.
pub(crate) type BoxStream = Box<dyn Stream>;

/// A connection, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// A connection that fails when its peer is silent for too long, in either direction.
pub(crate) type Socket = Pin<Box<TimeoutStream<QuickSocket>>>;

/// Connects to a server. A peer that is there is silent for no longer than `silence`.
pub(crate) async fn connect(host: &str, port: u16, silence: Duration) -> io::Result<Socket> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let mut stream = TimeoutStream::new(QuickSocket(stream));
    stream.set_read_timeout(Some(silence));
    stream.set_write_timeout(Some(silence));
    Ok(Box::pin(stream))
}

/// A connection that acknowledges at once what it receives.
///
/// A broker that collects small packets (Nagle) waits for the acknowledgement of the one before, which the kernel delays by
/// 40 ms if it is let.
#[derive(Debug)]
pub(crate) struct QuickSocket(TcpStream);

impl QuickSocket {
    /// The kernel takes it back whenever it likes.
    fn acknowledge_at_once(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _slower = socket2::SockRef::from(&self.0).set_tcp_quickack(true);
    }
}

impl AsyncRead for QuickSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.acknowledge_at_once();
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for QuickSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
