use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::HARNESS;
use crate::port::accepts;

/// How long a server may take until its figures are settled. It tells them every two seconds.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

const UPTIME: &str = "$SYS/broker/uptime";
const STORED: &str = "$SYS/broker/store/messages/count";
const RETAINED: &str = "$SYS/broker/retained messages/count";

/// What a server tells of itself in its `$SYS` topics.
#[derive(Debug, Default)]
struct Figures {
    uptime: Option<String>,
    stored: Option<usize>,
    retained: Option<usize>,
}

/// Returns how many messages a server holds for clients, as counted after this call.
///
/// It publishes a figure only when it changed, and forgets those that it published a minute ago. Publishing one that is
/// new or forgotten changes the figures themselves, so they are settled when the retained messages are as many as they
/// were the time before.
pub(super) fn queued(server: SocketAddr) -> anyhow::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    let mut before: Option<(String, usize)> = None;
    loop {
        let Figures { uptime, stored, retained } = read(server)?;
        before = match (uptime.zip(retained), stored, before) {
            (Some((uptime, retained)), Some(stored), Some(before)) if uptime != before.0 => {
                if retained == before.1 {
                    return stored.checked_sub(retained).context("fewer messages than retained ones");
                }
                Some((uptime, retained))
            }
            (Some(now), Some(_), before) => before.or(Some(now)),
            _ => None,
        };
        ensure!(Instant::now() < deadline, "the figures of the server are not settled");
        thread::sleep(POLL);
    }
}

/// Connects, and returns without an error if the server takes clients.
pub(super) fn greet(server: SocketAddr) -> anyhow::Result<()> {
    connect(server).map(drop)
}

/// Reads the figures that the server told last. The subscription ends at once: a figure that it sends as news counts as
/// a message of ours if the server is restarted.
fn read(server: SocketAddr) -> anyhow::Result<Figures> {
    const NUMBER: [u8; 2] = [0, 1];
    let mut stream = connect(server)?;
    let (mut subscribe, mut unsubscribe) = (NUMBER.to_vec(), NUMBER.to_vec());
    for topic in [UPTIME, STORED, RETAINED] {
        put_text(&mut subscribe, topic)?;
        subscribe.push(0); // QoS
        put_text(&mut unsubscribe, topic)?;
    }
    stream.write_all(&[packet(0x82, &subscribe)?, packet(0xA2, &unsubscribe)?].concat())?;
    let mut figures = Figures::default();
    loop {
        match read_packet(&mut stream)? {
            (0x30..=0x3F, body) => figures.note(&body)?,
            (0xB0, _) => break,
            _ => {}
        }
    }
    stream.write_all(&packet(0xE0, &[])?)?;
    Ok(figures)
}

impl Figures {
    fn note(&mut self, publish: &[u8]) -> anyhow::Result<()> {
        let (length, rest) = publish.split_first_chunk().context("no topic")?;
        let (topic, payload) =
            rest.split_at_checked(u16::from_be_bytes(*length).into()).context("no payload")?;
        let payload = std::str::from_utf8(payload)?;
        match std::str::from_utf8(topic)? {
            UPTIME => self.uptime = Some(payload.to_owned()),
            STORED => self.stored = Some(payload.parse()?),
            RETAINED => self.retained = Some(payload.parse()?),
            _ => {}
        }
        Ok(())
    }
}

/// Connects with MQTT 3.1.1, as the harness.
fn connect(server: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = accepts(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut body = Vec::new();
    put_text(&mut body, "MQTT")?;
    body.extend([4, 0b1100_0010, 0, 60]); // version; user, password and clean session; seconds of keep-alive
    for text in [HARNESS; 3] {
        put_text(&mut body, text)?;
    }
    stream.write_all(&packet(0x10, &body)?)?;
    let answer = read_packet(&mut stream).context("connect")?;
    ensure!(answer == (0x20, vec![0, 0]), "refused: {answer:?}");
    Ok(stream)
}

fn put_text(body: &mut Vec<u8>, text: &str) -> anyhow::Result<()> {
    body.extend(u16::try_from(text.len())?.to_be_bytes());
    body.extend(text.as_bytes());
    Ok(())
}

/// Writes a short packet, whose length is a single byte or two.
fn packet(kind: u8, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (high, low) = (body.len() / 128, u8::try_from(body.len() % 128)?);
    let mut packet = if high == 0 { vec![kind, low] } else { vec![kind, low | 0x80, u8::try_from(high)?] };
    packet.extend(body);
    Ok(packet)
}

fn read_packet(stream: &mut TcpStream) -> anyhow::Result<(u8, Vec<u8>)> {
    let mut byte = || -> anyhow::Result<u8> {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        Ok(byte[0])
    };
    let kind = byte()?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let part = byte()?;
        length |= usize::from(part & 0x7F) << shift;
        shift += 7;
        if part & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((kind, body))
}
