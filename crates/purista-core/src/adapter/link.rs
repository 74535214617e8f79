use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::{PendingCalls, ResponseVerdict, Throttle, registered::Key, runtime::Home};
use crate::{
    durations::Operations,
    error::Error,
    events::{BridgeEvent, BridgeEvents},
    health::{BridgeState, Health},
    message::{Id, Message, MessageType, Receiver, ServiceAddress},
    stats::Counters,
};

const EVENT_BUFFER: usize = 64;

const STATES: [BridgeState; 5] = [
    BridgeState::Created,
    BridgeState::Starting,
    BridgeState::Started,
    BridgeState::Draining,
    BridgeState::ShutDown,
];

/// What a transport tells its engine: responses, bad input, and the state of the connection.
#[derive(Clone, Debug)]
pub struct Link(pub(super) Arc<Shared>);

/// What engine, registrations and transport share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) instance_id: Id,
    pub(super) calls: PendingCalls,
    pub(super) counters: Counters,
    /// How long emits and calls take.
    pub(super) operations: Operations,
    /// For bad input.
    pub(super) throttle: Throttle,
    /// For handlers, apart from bad input, which must not hide them.
    pub(super) handler_throttle: Throttle,
    /// Where its tasks run.
    pub(super) home: Home,
    state: AtomicU8,
    connected: AtomicBool,
    /// Why it is not connected.
    reason: Mutex<Option<String>>,
    not_consuming: Mutex<BTreeSet<Key>>,
    events: broadcast::Sender<BridgeEvent>,
}

impl Shared {
    pub(super) fn new(instance_id: Id, max_pending_calls: usize, bridge: &'static str) -> Self {
        Self {
            instance_id,
            calls: PendingCalls::new(max_pending_calls),
            counters: Counters::new(bridge),
            operations: Operations::new(bridge),
            throttle: Throttle::default(),
            handler_throttle: Throttle::default(),
            home: Home::default(),
            state: AtomicU8::new(BridgeState::Created as u8),
            connected: AtomicBool::new(false),
            reason: Mutex::default(),
            not_consuming: Mutex::default(),
            events: broadcast::Sender::new(EVENT_BUFFER),
        }
    }

    pub(super) fn state(&self) -> BridgeState {
        match self.home.is_forked() {
            true => BridgeState::ShutDown,
            false => STATES[usize::from(self.state.load(Ordering::Acquire))],
        }
    }

    /// Returns whether it takes no more work, ever.
    pub(super) fn is_over(&self) -> bool {
        self.state.load(Ordering::Acquire) == BridgeState::ShutDown as u8
    }

    /// Moves on to a state, and returns the one before; a bridge that drains or is shut down never goes back.
    pub(super) fn advance(&self, to: BridgeState) -> Option<BridgeState> {
        let allowed = |from: u8| (from < BridgeState::Draining as u8 || to as u8 > from).then_some(to as u8);
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, allowed).ok()?;
        Some(STATES[usize::from(before)])
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    pub(super) fn health(&self) -> Health {
        let not_consuming = self.not_consuming.lock().iter().map(|(_, address)| address.clone()).collect();
        let state = self.state();
        let connected = self.is_connected() && state != BridgeState::ShutDown;
        let health = Health::new(state, connected, not_consuming);
        match self.reason.lock().clone().filter(|_| !connected) {
            Some(reason) => health.with_reason(reason),
            None => health,
        }
    }

    pub(super) fn consumer_down(&self, key: Key) {
        let address = key.1.clone();
        if self.not_consuming.lock().insert(key) {
            self.raise(BridgeEvent::ConsumerDown(address));
        }
    }

    pub(super) fn consumer_up(&self, key: &Key) {
        if self.not_consuming.lock().remove(key) {
            self.raise(BridgeEvent::ConsumerUp(key.1.clone()));
        }
    }

    pub(super) fn disconnected(&self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.connected.swap(false, Ordering::AcqRel) {
            *self.reason.lock() = Some(reason.clone());
            self.raise(BridgeEvent::Disconnected(reason));
        }
    }

    pub(super) fn subscribe(&self) -> BridgeEvents {
        BridgeEvents::new(self.events.subscribe())
    }

    pub(super) fn raise(&self, event: BridgeEvent) {
        tracing::debug!(?event, "bridge");
        // Nobody listening is fine.
        let _listeners = self.events.send(event);
    }
}

impl Link {
    /// Returns the instance id of the bridge.
    #[must_use]
    pub fn instance_id(&self) -> &Id {
        &self.0.instance_id
    }

    /// Takes a response that arrived for this bridge. A frame of a stream, which may arrive there as well, is counted.
    pub fn respond(&self, response: Arc<Message>) {
        if response.message_type() == MessageType::Stream {
            return self.0.counters.stream_frames.increment();
        }
        let correlation_id = response.correlation_id.clone();
        let from = response.sender.address.clone();
        self.judge(self.0.calls.respond(response), correlation_id.as_ref(), &from);
    }

    /// Reads the body of a response that arrived for this bridge, and ends the call that waits for it.
    ///
    /// `is_refusal` says that the response is the refusal of a service that shares the command's route with its receiver. The
    /// call then goes on to wait for the receiver, and ends with [`NoHandler`](crate::ErrorKind::NoHandler) if no answer comes
    /// within its time limit.
    pub fn receive(&self, body: &Bytes, is_refusal: bool) {
        match Message::decode(body.clone()) {
            Ok(response) if is_refusal => self.refused(&response),
            Ok(response) => self.respond(Arc::new(response)),
            Err(error) => self.unreadable_response(error, body),
        }
    }

    fn refused(&self, refusal: &Message) {
        let verdict = self.0.calls.refuse(refusal);
        self.judge(verdict, refusal.correlation_id.as_ref(), &refusal.sender.address);
    }

    /// Fails the call with this correlation id, if it is pending.
    pub fn fail_call(&self, correlation_id: &Id, error: Error) {
        self.0.calls.fail(correlation_id, error);
    }

    /// Fails all calls that are pending: those that were sent over a connection which is lost.
    pub fn fail_calls(&self, error: &Error) {
        self.fail_calls_to(|_| true, error);
    }

    /// Fails the pending calls of some receivers.
    pub fn fail_calls_to(&self, is_it: impl Fn(&Receiver) -> bool, error: &Error) {
        self.0.calls.fail_where(is_it, error);
    }

    fn judge(&self, verdict: ResponseVerdict, correlation_id: Option<&Id>, from: &ServiceAddress) {
        let counters = &self.0.counters;
        match verdict {
            ResponseVerdict::Answered => {}
            ResponseVerdict::OtherInstance => {
                counters.misdirected.increment();
                tracing::debug!(?correlation_id, %from, "another instance has answered than was asked");
            }
            ResponseVerdict::Late => {
                counters.late_responses.increment();
                tracing::debug!(?correlation_id, %from, "a response came late");
            }
            ResponseVerdict::Forged => {
                counters.forged_responses.increment();
                self.0.throttle.log(|suppressed| {
                    tracing::warn!(?correlation_id, %from, suppressed, "a response is not from whom was asked");
                });
            }
        }
    }

    /// Counts and logs what came as a response and is none. If it tells which call it is about, and comes from whom was
    /// asked, the call fails with the error: nothing else will come.
    fn unreadable_response(&self, error: Error, bytes: &[u8]) {
        self.malformed(&error);
        if let Some(response) = Message::unread_response(bytes) {
            let (correlation_id, from) = (response.correlation_id.clone(), response.sender.address.clone());
            let verdict = self.0.calls.respond_with(&response, || Err(error));
            // As a failure, it is no answer.
            if verdict != ResponseVerdict::Late {
                self.judge(verdict, correlation_id.as_ref(), &from);
            }
        }
    }

    /// Counts and logs input that is no message.
    pub fn malformed(&self, error: &Error) {
        self.0.counters.malformed.increment();
        self.0.throttle.log(|suppressed| tracing::warn!(%error, suppressed, "malformed message"));
    }

    /// Counts and logs a message that was lost before it reached a registration, because its queue stayed full.
    pub fn overflowed(&self) {
        self.0.counters.overflowed.increment();
        self.0
            .throttle
            .log(|suppressed| tracing::warn!(suppressed, "a message was not taken over: it is lost"));
    }

    /// Tells that the connection is up and everything is consuming.
    pub fn connected(&self) {
        if !self.0.connected.swap(true, Ordering::AcqRel) {
            self.0.raise(BridgeEvent::Connected);
        }
    }

    /// Tells that the connection is lost.
    pub fn disconnected(&self, reason: impl Into<String>) {
        self.0.disconnected(reason);
    }

    /// Tells why an attempt to connect again failed, for those who look at the health of the bridge.
    pub fn not_connected_again(&self, error: &Error) {
        if !self.0.is_connected() {
            *self.0.reason.lock() = Some(error.to_string());
        }
    }

    /// Tells that the broker forgot the session.
    pub fn session_lost(&self) {
        self.0.raise(BridgeEvent::SessionLost);
    }
}
