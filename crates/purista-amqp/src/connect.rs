use std::{
    io,
    net::Shutdown,
    os::fd::{AsFd as _, BorrowedFd},
};

use lapin::{Connection, tcp::AsyncTcpStream};
use parking_lot::Mutex;
use purista_core::{ErrorKind, Id, Result, adapter::ServerUrl};
use tokio::time::timeout_at;

use crate::{
    config::Config,
    error::{error, from_connect},
    options::{properties, tls, uri},
};

/// Connects to a server: first the socket, then the client over it, as the client would keep a task for ever for a
/// socket that it cannot open, and a thread for a server that does not answer.
pub(crate) async fn connect(
    config: &Config,
    server: &ServerUrl,
    instance_id: &Id,
    role: &str,
) -> Result<Connection> {
    let until = config.connection.connects_until();
    let credentials = config.credentials(until).await?;
    let tls = tls(config).await?;
    let runtime = lapin::runtime::default_runtime().map_err(|cause| from_connect(cause, false))?;
    let connected = async {
        let addresses = runtime.to_socket_addrs((server.host().to_owned(), server.port()));
        let plain = AsyncTcpStream::connect(&runtime, addresses).await?;
        let hang_up = match &plain {
            AsyncTcpStream::Plain(socket) => Some(HangUp::on(socket.get_ref().as_fd())?),
            _ => None,
        };
        let stream = match server.scheme().is_encrypted() {
            true => plain.into_tls(server.host(), tls.as_ref()).await?,
            false => plain,
        };
        let once = Mutex::new(Some(stream));
        let connected = Connection::connector(
            uri(config, server),
            runtime.clone(),
            async move |_, _| {
                once.lock().take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected).into())
            },
            properties(credentials, instance_id, role),
        )
        .await?;
        if let Some(hang_up) = hang_up {
            hang_up.forget();
        }
        Ok(connected)
    };
    match timeout_at(until, connected).await {
        Ok(connected) => {
            connected.map_err(|cause: lapin::Error| from_connect(cause, server.scheme().is_encrypted()))
        }
        Err(_) => Err(error(ErrorKind::Unavailable, "start").with_context("no answer")),
    }
}

/// Ends the connection of a socket unless it is told to forget it.
struct HangUp(Option<std::net::TcpStream>);

impl HangUp {
    fn on(socket: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(Some(socket.try_clone_to_owned()?.into())))
    }

    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            // It may be closed already.
            let _closed = socket.shutdown(Shutdown::Both);
        }
    }
}
