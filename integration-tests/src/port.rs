//! Ports for brokers.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    time::Duration,
};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;

/// Below the ports that the kernel gives to outgoing connections, on every common system: a broker that is down keeps
/// its port, and nobody connects to itself.
const PORTS: Range<u16> = 20_000..32_000;

/// How many ports a process takes at once. The first of them is never given, but held: so another test process, which
/// may run beside this one or be one of its workers, does not take the port of a broker that is down.
const BLOCK: u16 = 50;

/// How often a broker tries other ports.
const ATTEMPTS: usize = 5;

/// The ports of this process.
struct Ports {
    held: Vec<TcpListener>,
    rest: Range<u16>,
}

impl Ports {
    const fn none() -> Self {
        Self { held: Vec::new(), rest: 0..0 }
    }

    fn next(&mut self) -> anyhow::Result<u16> {
        loop {
            match self.rest.next() {
                Some(port) if bind(port).is_ok() => return Ok(port),
                Some(_) => {}
                None => self.take_block()?,
            }
        }
    }

    fn take_block(&mut self) -> anyhow::Result<()> {
        const BLOCKS: u16 = (PORTS.end - PORTS.start) / BLOCK;
        for _ in 0..1000 {
            let first = PORTS.start + BLOCK * rand::random_range(0..BLOCKS);
            if let Ok(holder) = bind(first) {
                self.held.push(holder);
                self.rest = first + 1..first + BLOCK;
                return Ok(());
            }
        }
        bail!("no free ports in {PORTS:?}")
    }
}

/// Finds a TCP port of the loopback interface that nobody listens on, and that no test process has been given yet.
///
/// # Errors
///
/// If there is none.
pub fn free_port() -> anyhow::Result<u16> {
    static GIVEN: Mutex<Ports> = Mutex::new(Ports::none());
    GIVEN.lock().next()
}

fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

/// Starts a broker, and again on other ports if another process was faster to take one.
pub(crate) fn retry_if_taken<T>(start: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut attempt = 1;
    loop {
        match start() {
            Err(error) if attempt < ATTEMPTS && is_taken(&error) => attempt += 1,
            outcome => return outcome,
        }
    }
}

/// Connects, if somebody listens there.
pub(crate) fn accepts(address: SocketAddr) -> anyhow::Result<TcpStream> {
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).with_context(|| address.to_string())
}

fn is_taken(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    text.contains("address already in use") || text.contains("eaddrinuse")
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::HashSet};

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn ports_are_distinct_and_below_the_ephemeral_ones() {
        let ports: HashSet<_> = (0..100).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 100);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }

    #[test]
    fn processes_share_no_port() {
        let [mut one, mut other] = [Ports::none(), Ports::none()];
        let ports = |of: &mut Ports| -> HashSet<_> { (0..200).map(|_| of.next().unwrap()).collect() };
        assert!(ports(&mut one).is_disjoint(&ports(&mut other)));
    }

    #[test]
    fn a_lost_race_is_run_again_and_nothing_else() {
        let runs = Cell::new(0);
        let lose = |message: &'static str| {
            runs.set(0);
            let outcome = retry_if_taken(|| {
                runs.set(runs.get() + 1);
                if runs.get() < 3 { Err(anyhow!(message).context("start")) } else { Ok(()) }
            });
            (outcome.is_ok(), runs.get())
        };
        assert_eq!(lose("listen tcp 127.0.0.1:20000: bind: address already in use"), (true, 3));
        assert_eq!(lose("no such option"), (false, 1));
    }
}
