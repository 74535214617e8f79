//! A name that belongs to another address after a while, as that of a service does whose server was replaced.

use std::{env, fs, io::Write as _, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context as _, ensure};
use purista_integration_tests::free_port;
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{brokers::Kind, peer::Peer, worker};

/// A name that no server knows.
const NAME: &str = "broker.purista.test";

pub(crate) async fn are_resolved_anew(kind: Kind) -> anyhow::Result<()> {
    let broker = kind.start(None).await?;
    let peer = Peer::start(&broker.url()).await?;
    let port = free_port()?;
    let (first, second) =
        (SocketAddr::from(([127, 0, 0, 2], port)), SocketAddr::from(([127, 0, 0, 3], port)));

    let folder = TempDir::with_prefix("purista-names-")?;
    let hosts = folder.path().join("hosts");
    write(&hosts, first)?;
    let way = Way::open(first, broker.address()).await?;
    let url = broker.url_at(&format!("{NAME}:{port}"));
    let mut worker = worker::start(with_hosts(&hosts)?, &url)?;
    peer.until_answered().await.context("at the first address")?;

    // The new one is there first, so that whoever asks for the name finds it.
    let other_way = Way::open(second, broker.address()).await?;
    write(&hosts, second)?;
    drop(way);
    peer.until_answered().await.context("at the second address")?;
    ensure!(worker.is_running()?, "the worker is gone");
    drop(other_way);
    let way = Way::open(first, broker.address()).await?;
    write(&hosts, first)?;
    peer.until_answered().await.context("at the first address again")?;
    drop(way);
    Ok(())
}

/// Writes the file in place: another file would not be seen where it is mounted.
fn write(hosts: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let text = format!("127.0.0.1 localhost\n{} {NAME}\n", address.ip());
    let mut file = fs::File::options().create(true).truncate(true).write(true).open(hosts)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Returns a command that runs this program with another `/etc/hosts`.
fn with_hosts(hosts: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let script = "mount --bind \"$1\" /etc/hosts && exec \"$2\"";
    command.args(["sh", "-c", script, "sh"]).arg(hosts).arg(env::current_exe()?);
    Ok(command)
}

/// A way from an address to a broker. Without it, nobody listens there, and connections are lost.
struct Way {
    _task: AbortOnDropHandle<()>,
}

impl Way {
    async fn open(from: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(from).await.with_context(|| from.to_string())?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Some(_ended) = connections.join_next() => {}
                    Ok((mut near, _)) = listener.accept() => {
                        connections.spawn(async move {
                            let mut far = TcpStream::connect(to).await?;
                            copy_bidirectional(&mut near, &mut far).await
                        });
                    }
                    else => return,
                }
            }
        });
        Ok(Self { _task: AbortOnDropHandle::new(task) })
    }
}
