//! Ports for brokers.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    time::Duration,
};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;

/// Below the ports that the kernel gives to outgoing connections, on every common system: a broker that is down keeps
/// its port, and nobody connects to itself.
const PORTS: Range<u16> = 20_000..32_000;

/// How often a broker tries other ports.
const ATTEMPTS: usize = 5;

/// Finds a TCP port of the loopback interface that nobody listens on, and that this process has not been given yet.
///
/// # Errors
///
/// If there is none.
pub fn free_port() -> anyhow::Result<u16> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock();
    let given = given.get_or_insert_default();
    for _ in 0..1000 {
        let port = rand::random_range(PORTS);
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port in {PORTS:?}")
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
    use std::cell::Cell;

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn ports_are_distinct_and_below_the_ephemeral_ones() {
        let ports: HashSet<_> = (0..100).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 100);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
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
