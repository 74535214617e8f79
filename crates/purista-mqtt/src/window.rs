use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use purista_core::{Id, Result};
use rumqttc::{Publish, QoS};

use crate::{
    codec::{failed_attempts, kept, parked},
    connection::Connection,
    error::lost,
    session::Arrival,
};

/// The messages of one session that came and are not settled. When they fill the window of the connection, the broker sends
/// no more.
///
/// Messages that wait for their next attempt must not keep others from coming. Therefore some are parked then: what would
/// be lost with the connection anyway is acknowledged, and of what must survive a copy is kept at the broker first.
#[derive(Clone, Debug)]
pub(crate) struct Window(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// How many messages the broker sends without acknowledgement.
    size: usize,
    unsettled: AtomicUsize,
    /// Those that the broker waits for, in the order in which they came.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    held: BTreeMap<u64, Arc<Held>>,
}

/// A message of a session that is not settled.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) arrival: Arrival,
    number: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// The broker waits for its acknowledgement.
    Open,
    /// It is being parked, and may be settled meanwhile.
    Parking { is_settled: bool },
    /// It is acknowledged; a copy of it may be kept under this topic.
    Parked(Option<String>),
    /// Nothing more happens to it.
    Settled,
}

/// What is left to do to settle a message.
enum Rest {
    Acknowledge,
    Forget(String),
    Nothing,
}

impl Window {
    pub(crate) fn new(size: usize) -> Self {
        Self(Arc::new(Inner { size, unsettled: AtomicUsize::new(0), open: Mutex::default() }))
    }

    /// Returns whether nothing is unsettled.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.unsettled.load(Ordering::Acquire) == 0
    }

    /// Returns whether the broker sends nothing more until something is acknowledged.
    pub(crate) fn is_full(&self) -> bool {
        self.0.open.lock().held.len() >= self.0.size
    }

    /// Adds what has come.
    pub(crate) fn hold(&self, arrival: Arrival) -> Arc<Held> {
        self.0.unsettled.fetch_add(1, Ordering::AcqRel);
        let mut open = self.0.open.lock();
        let number = open.next;
        open.next += 1;
        let state = match &arrival.copy {
            Some(copy) => State::Parked(Some(copy.clone())),
            None => State::Open,
        };
        // One without an acknowledgement takes no room.
        let is_open = matches!(state, State::Open) && arrival.publish.qos != QoS::AtMostOnce;
        let held = Arc::new(Held { arrival, number, state: Mutex::new(state) });
        if is_open {
            open.held.insert(number, Arc::clone(&held));
        }
        held
    }

    /// Tells the broker that it may forget a message.
    pub(crate) async fn settle(&self, held: &Held, connection: &Connection) -> Result<()> {
        let rest = {
            let mut state = held.state.lock();
            match &mut *state {
                State::Open => {
                    // Before it is acknowledged: a second acknowledgement would be taken for that of another message.
                    *state = State::Settled;
                    Rest::Acknowledge
                }
                State::Parking { is_settled } => {
                    *is_settled = true;
                    Rest::Nothing
                }
                State::Parked(copy) => copy.take().map_or(Rest::Nothing, Rest::Forget),
                State::Settled => Rest::Nothing,
            }
        };
        match rest {
            Rest::Acknowledge => self.acknowledge(held).await?,
            Rest::Forget(copy) => forget(connection, &copy).await?,
            Rest::Nothing => {}
        }
        self.0.unsettled.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    }

    /// Keeps how often a message has failed that is parked, for who handles it next.
    pub(crate) async fn note_failures(
        &self,
        held: &Held,
        failed_attempts: u32,
        connection: &Connection,
    ) -> Result<()> {
        let copy = match &*held.state.lock() {
            State::Parked(Some(copy)) => copy.clone(),
            _ => return Ok(()),
        };
        keep(connection, copy, &held.arrival.publish, failed_attempts).await
    }

    async fn acknowledge(&self, held: &Held) -> Result<()> {
        held.arrival.client.ack(&held.arrival.publish).await.map_err(|_| lost("acknowledge"))?;
        self.0.open.lock().held.remove(&held.number);
        Ok(())
    }

    /// Parks the older half of what fills the window. With the topic of copies, each gets one before it is acknowledged.
    pub(crate) async fn park(&self, connection: &Connection, copies: Option<&str>) -> Result<()> {
        let some: Vec<_> = {
            let open = self.0.open.lock();
            let count = open.held.len().div_ceil(2);
            open.held.values().take(count).cloned().collect()
        };
        let parked = join_all(some.iter().map(|held| self.park_one(held, connection, copies)));
        parked.await.into_iter().collect()
    }

    async fn park_one(&self, held: &Held, connection: &Connection, copies: Option<&str>) -> Result<()> {
        {
            let mut state = held.state.lock();
            match *state {
                State::Open => *state = State::Parking { is_settled: false },
                // Somebody is at it, or was.
                State::Parking { .. } | State::Parked(_) | State::Settled => return Ok(()),
            }
        }
        let copy = copies.map(|copies| format!("{copies}/{}", Id::random()));
        let kept = match copy.clone() {
            Some(copy) => {
                let publish = &held.arrival.publish;
                keep(connection, copy, publish, failed_attempts(publish)).await
            }
            None => Ok(()),
        };
        let acknowledged = match kept {
            Ok(()) => self.acknowledge(held).await,
            kept => kept,
        };
        let is_settled = {
            let mut state = held.state.lock();
            let is_settled = matches!(*state, State::Parking { is_settled: true });
            *state = match &acknowledged {
                // What is settled already needs no copy.
                Ok(()) => State::Parked(copy.clone().filter(|_| !is_settled)),
                Err(_) => State::Open,
            };
            is_settled
        };
        match (acknowledged, copy) {
            (Ok(()), Some(copy)) if is_settled => forget(connection, &copy).await,
            (Err(error), Some(copy)) => {
                // It comes again by itself. A copy that stays is handled twice at worst.
                if let Err(error) = forget(connection, &copy).await {
                    tracing::debug!(%error, "the copy of a message is left");
                }
                Err(error)
            }
            (acknowledged, _) => acknowledged,
        }
    }
}

async fn keep(connection: &Connection, copy: String, publish: &Publish, failed_attempts: u32) -> Result<()> {
    let (payload, headers) = (publish.payload.clone(), parked(publish, failed_attempts));
    connection.session().publish_once(copy, payload, headers, "park").await.map(drop)
}

/// Removes the copy of a message.
pub(crate) async fn forget(connection: &Connection, copy: &str) -> Result<()> {
    connection
        .session()
        .publish_once(copy.to_owned(), Bytes::new(), kept(None), "acknowledge")
        .await
        .map(drop)
}
