use std::{convert::Infallible, future, io};

use parking_lot::Mutex;
use tokio::{
    io::AsyncWriteExt as _,
    net::tcp::{ReadHalf, WriteHalf},
    sync::{mpsc, watch},
    time::{Duration, Instant, sleep_until},
};

use super::{
    line::End,
    weather::{Direction, Lasting, Weather},
};

const CHUNK: usize = 16 * 1024;
/// How many chunks are on the way in one direction: what a delayed connection can hold.
const CHUNKS: usize = 256;
/// A throttled connection carries a second's worth in so many parts.
const PARTS: usize = 20;

/// Carries the bytes of one connection in one direction.
pub(super) struct Pump<'a> {
    pub(super) direction: Direction,
    pub(super) forecast: &'a watch::Receiver<Weather>,
    pub(super) budget: &'a Budget,
    pub(super) throttle: &'a Throttle,
}

/// Bytes with the time they were taken; none mean the end.
type Chunk = (Instant, Vec<u8>);

impl Pump<'_> {
    /// Returns when the sender has ended this direction and the receiver knows it.
    pub(super) async fn run(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Result<(), End> {
        let (queue, way) = mpsc::channel(CHUNKS);
        tokio::try_join!(self.take(from, queue), self.give(way, to)).map(drop)
    }

    async fn take(&self, from: ReadHalf<'_>, queue: mpsc::Sender<Chunk>) -> Result<(), End> {
        loop {
            from.readable().await.map_err(reset)?;
            // Before the read, so that a stalled connection fills up at once.
            self.until_it_flows().await;
            let mut bytes = Vec::with_capacity(CHUNK);
            match from.try_read_buf(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                read => read.map_err(reset)?,
            };
            let is_end = bytes.is_empty();
            let sent = queue.send((Instant::now(), bytes)).await;
            if is_end || sent.is_err() {
                return Ok(());
            }
        }
    }

    async fn give(&self, mut way: mpsc::Receiver<Chunk>, mut to: WriteHalf<'_>) -> Result<(), End> {
        while let Some((taken, bytes)) = way.recv().await {
            self.until_due(taken).await;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(self.permit(rest.len()).await);
                to.write_all(now).await.map_err(reset)?;
                rest = later;
                if self.budget.is_spent(&self.forecast.borrow()) {
                    return Err(End::Close);
                }
            }
            if bytes.is_empty() {
                self.until_it_flows().await;
                to.shutdown().await.map_err(reset)?;
            }
        }
        Ok(())
    }

    /// Waits until some of so many bytes may go, and returns how many.
    async fn permit(&self, wanted: usize) -> usize {
        loop {
            self.until_it_flows().await;
            let weather = *self.forecast.borrow();
            let bytes = match weather.lasting {
                Lasting::Throttle(rate) => {
                    let part = wanted.min((rate / PARTS).max(1));
                    let slot = self.throttle.reserve(self.direction, part, rate);
                    self.until(slot, |weather| weather.lasting != Lasting::Throttle(rate)).await;
                    part
                }
                _ => wanted,
            };
            // It may have changed meanwhile.
            let weather = *self.forecast.borrow();
            if !weather.flows(self.direction) {
                continue;
            }
            match self.budget.spend(bytes, &weather) {
                // The other direction sends the last bytes, and ends the connection then.
                0 => {
                    let Weather { cuts, cut_after, .. } = weather;
                    self.weather(|weather| weather.cuts != cuts || weather.cut_after != cut_after).await;
                }
                bytes => return bytes,
            }
        }
    }

    async fn until_it_flows(&self) {
        if !self.forecast.borrow().flows(self.direction) {
            self.weather(|weather| weather.flows(self.direction)).await;
        }
    }

    async fn until_due(&self, taken: Instant) {
        loop {
            let Lasting::Delay(time) = self.forecast.borrow().lasting else { return };
            if taken.elapsed() >= time {
                return;
            }
            self.until(taken + time, |weather| weather.lasting != Lasting::Delay(time)).await;
        }
    }

    /// Waits for a time, or for other weather.
    async fn until(&self, time: Instant, other: impl FnMut(&Weather) -> bool + Send) {
        tokio::select! {
            () = sleep_until(time) => {}
            () = self.weather(other) => {}
        }
    }

    async fn weather(&self, is_it: impl FnMut(&Weather) -> bool + Send) {
        let mut forecast = self.forecast.clone();
        if forecast.wait_for(is_it).await.is_err() {
            // The proxy is gone, and this connection is about to be.
            future::pending::<Infallible>().await;
        }
    }
}

fn reset(_: io::Error) -> End {
    End::Reset
}

/// How many bytes a connection may carry before it is cut, both directions together.
pub(super) struct Budget(Mutex<(u64, usize)>);

impl Budget {
    /// Creates one that knows the cuts so far: they are not for this connection.
    pub(super) const fn new(cuts: u64) -> Self {
        Self(Mutex::new((cuts, usize::MAX)))
    }

    fn spend(&self, wanted: usize, weather: &Weather) -> usize {
        let Some(after) = weather.cut_after else { return wanted };
        let (known, left) = &mut *self.0.lock();
        if *known != weather.cuts {
            (*known, *left) = (weather.cuts, after);
        }
        let spent = wanted.min(*left);
        *left -= spent;
        spent
    }

    fn is_spent(&self, weather: &Weather) -> bool {
        let (known, left) = *self.0.lock();
        weather.cut_after.is_some() && known == weather.cuts && left == 0
    }
}

/// When the next bytes of all connections may go.
#[derive(Default)]
pub(super) struct Throttle {
    to_broker: Mutex<Option<Instant>>,
    to_bridge: Mutex<Option<Instant>>,
}

impl Throttle {
    fn reserve(&self, direction: Direction, bytes: usize, rate: usize) -> Instant {
        let mut next = match direction {
            Direction::ToBroker => self.to_broker.lock(),
            Direction::ToBridge => self.to_bridge.lock(),
        };
        let now = Instant::now();
        let free = next.map_or(now, |next| next.max(now));
        *next.insert(free + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64))
    }
}
