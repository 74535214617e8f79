//! The TCP connections of the raw side.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, Join, ReadBuf, join},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// A connection that is as fast as the kernel can make it, or as slow as it is if nobody asks.
pub(crate) type Socket = Join<Incoming, OwnedWriteHalf>;

pub(crate) async fn connect(address: String, is_quick: bool) -> io::Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(is_quick)?;
    let (stream, outgoing) = stream.into_split();
    Ok(join(Incoming { stream, is_quick }, outgoing))
}

/// The half that is read.
pub(crate) struct Incoming {
    stream: OwnedReadHalf,
    is_quick: bool,
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_quick {
            // The kernel forgets it again and again.
            SockRef::from(self.stream.as_ref()).set_tcp_quickack(true)?;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
