use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// How many bytes of one connection are kept.
const MAX_SEEN: usize = 1 << 20;

/// Listens at one port of `127.0.0.1` and `::1`, and tells where clients connect and what they send first, which no broker
/// does. It is silent but for what its script says, and hangs up when that is at its end.
pub struct Witness {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    _listening: JoinSet<()>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// The address it was made to.
    pub address: IpAddr,
    /// What the client sent.
    pub bytes: Vec<u8>,
}

/// What a [`Witness`] does next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a script returns all that there is")]
pub enum Step {
    /// Says this.
    Say(Vec<u8>),
    /// Waits until the client sends more.
    Wait,
    /// Hangs up.
    HangUp,
}

/// Says what to do, by what a client sent so far, and by how often something was said.
type Script = dyn Fn(&[u8], usize) -> Step + Send + Sync;

impl Witness {
    /// Starts to listen. The script gets what a client sent so far, and how often something was said to it.
    ///
    /// # Errors
    ///
    /// If no port is free at both addresses.
    pub async fn start(
        script: impl Fn(&[u8], usize) -> Step + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let (listeners, port) = listen().await.context("a port at both loopback addresses")?;
        let (seen, script) =
            (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Script>::from(Box::new(script) as Box<Script>));
        let mut listening = JoinSet::new();
        for listener in listeners {
            listening.spawn(accept(listener, Arc::clone(&seen), Arc::clone(&script)));
        }
        Ok(Self { port, seen, _listening: listening })
    }

    /// Starts to listen for requests of HTTP; hangs up when one is whole.
    ///
    /// # Errors
    ///
    /// If no port is free at both addresses.
    pub async fn http() -> anyhow::Result<Self> {
        let is_whole = |sent: &[u8]| sent.windows(4).any(|end| end == b"\r\n\r\n");
        Self::start(move |sent, _| if is_whole(sent) { Step::HangUp } else { Step::Wait }).await
    }

    /// Returns the port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Takes what was seen since it was asked for last.
    #[must_use]
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock())
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("port", &self.port).finish_non_exhaustive()
    }
}

async fn listen() -> io::Result<([TcpListener; 2], u16)> {
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..100 {
        let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = one.local_addr()?.port();
        match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(other) => return Ok(([one, other], port)),
            Err(cause) => refused = cause,
        }
    }
    Err(refused)
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>, script: Arc<Script>) {
    let mut clients = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
        clients.spawn(async move {
            let Ok(address) = client.local_addr() else { return };
            let mut bytes = Vec::new();
            // However the connection ends, what came counts.
            let _ended = talk(client, &mut bytes, &*script, |bytes| {
                seen.lock().push(Seen { address: address.ip(), bytes: bytes.to_vec() });
            })
            .await;
        });
        while clients.try_join_next().is_some() {}
    }
}

async fn talk(
    mut client: TcpStream,
    bytes: &mut Vec<u8>,
    script: &Script,
    ended: impl FnOnce(&[u8]),
) -> io::Result<()> {
    let mut said = 0;
    let outcome = loop {
        match script(bytes, said) {
            Step::Say(what) => {
                said += 1;
                if let Err(cause) = client.write_all(&what).await {
                    break Err(cause);
                }
            }
            Step::Wait if bytes.len() < MAX_SEEN => match client.read_buf(bytes).await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(cause) => break Err(cause),
            },
            Step::Wait | Step::HangUp => break Ok(()),
        }
    };
    // Before the client can know that the connection is at its end.
    ended(bytes);
    outcome
}
