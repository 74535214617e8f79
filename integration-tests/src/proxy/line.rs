use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch, time::timeout};

use super::{
    pump::{Budget, Pump, Throttle},
    weather::{Direction, Lasting, Weather},
};

/// How long the other side may take to close what was closed in order.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long the broker may take to accept.
const PATIENCE: Duration = Duration::from_secs(5);

/// One connection of a bridge to the broker.
pub(super) struct Line {
    forecast: watch::Receiver<Weather>,
    /// The weather when it was opened: what happened once before is not for this connection.
    born: Weather,
    throttle: Arc<Throttle>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Reset,
    Close,
}

impl Line {
    pub(super) fn new(forecast: watch::Receiver<Weather>, throttle: Arc<Throttle>) -> Self {
        let born = *forecast.borrow();
        Self { forecast, born, throttle }
    }

    pub(super) async fn carry(self, mut bridge: TcpStream, broker: SocketAddr) {
        let end = tokio::select! {
            biased;
            end = self.ordered() => Some(end),
            () = self.spoken() => None,
        };
        if let Some(end) = end {
            return finish(bridge, end).await;
        }
        // Not given up in the middle: the broker may have accepted already, and would see an end in order.
        let Ok(Ok(mut broker)) = timeout(PATIENCE, TcpStream::connect(broker)).await else {
            return finish(bridge, End::Reset).await;
        };
        let end = tokio::select! {
            biased;
            end = self.ordered() => end,
            end = self.converse(&mut bridge, &mut broker) => end,
        };
        tokio::join!(finish(bridge, end), finish(broker, end));
    }

    /// Waits while there is silence: a broker that got nothing within its time limit would close the connection.
    async fn spoken(&self) {
        let mut forecast = self.forecast.clone();
        drop(forecast.wait_for(|weather| weather.lasting != Lasting::Silence).await);
    }

    /// Waits until the weather ends this connection.
    async fn ordered(&self) -> End {
        let mut forecast = self.forecast.clone();
        let is_over = |weather: &Weather| self.verdict(weather).is_some();
        match forecast.wait_for(is_over).await {
            Ok(weather) => self.verdict(&weather).unwrap_or(End::Reset),
            Err(_gone) => End::Reset,
        }
    }

    fn verdict(&self, weather: &Weather) -> Option<End> {
        if weather.lasting == Lasting::Down || weather.resets > self.born.resets {
            Some(End::Reset)
        } else if weather.closes > self.born.closes
            || (weather.cuts > self.born.cuts && weather.cut_after == Some(0))
        {
            Some(End::Close)
        } else {
            None
        }
    }

    /// Carries bytes in both directions until both sides have nothing more to say.
    async fn converse(&self, bridge: &mut TcpStream, broker: &mut TcpStream) -> End {
        let ready = bridge.set_nodelay(true).and(broker.set_nodelay(true));
        let budget = Budget::new(self.born.cuts);
        let (from_bridge, to_bridge) = bridge.split();
        let (from_broker, to_broker) = broker.split();
        let pump = |direction| Pump {
            direction,
            forecast: &self.forecast,
            budget: &budget,
            throttle: &self.throttle,
        };
        let carried = tokio::try_join!(
            pump(Direction::ToBroker).run(from_bridge, to_broker),
            pump(Direction::ToBridge).run(from_broker, to_bridge),
        );
        match ready.map_err(|_| End::Reset).and(carried.map(drop)) {
            Ok(()) => End::Close,
            Err(end) => end,
        }
    }
}

async fn finish(mut stream: TcpStream, end: End) {
    if end == End::Reset {
        let _is_reset_already = stream.set_zero_linger();
        return;
    }
    // A socket that is dropped with unread bytes resets the connection, so these are read.
    let _is_closed_already = stream.shutdown().await;
    let mut rest = tokio::io::sink();
    let _gave_up = timeout(FAREWELL, tokio::io::copy(&mut stream, &mut rest)).await;
}
