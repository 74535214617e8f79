//! The TCP connection below everything else.

use std::{io, pin::Pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_io_timeout::TimeoutStream;

use crate::tapped::{Tap, Tapped};

/// What the client talks over.
pub(crate) type BoxStream = Box<dyn Stream>;

/// A connection, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// A connection that fails when its peer is silent for too long, in either direction.
pub(crate) type Socket = Pin<Box<TimeoutStream<Tapped<TcpStream, AtOnce>>>>;

/// Connects to a server. A peer that is there is silent for no longer than `silence`.
pub(crate) async fn connect(host: &str, port: u16, silence: Duration) -> io::Result<Socket> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let mut stream = TimeoutStream::new(Tapped::new(stream, AtOnce));
    stream.set_read_timeout(Some(silence));
    stream.set_write_timeout(Some(silence));
    Ok(Box::pin(stream))
}

/// Acknowledges at once what is received.
///
/// A broker that collects small packets (Nagle) waits for the acknowledgement of the one before, which the kernel delays by
/// 40 ms if it is let.
#[derive(Debug)]
pub(crate) struct AtOnce;

impl Tap<TcpStream> for AtOnce {
    /// The kernel takes it back whenever it likes.
    fn before(&mut self, stream: &TcpStream) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _slower = socket2::SockRef::from(stream).set_tcp_quickack(true);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _no_delay_to_avoid = stream;
    }
}
