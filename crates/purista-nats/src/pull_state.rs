use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_nats::jetstream::consumer::DeliverPolicy;
use parking_lot::Mutex;
use purista_core::{
    Error, ErrorKind, Result,
    adapter::{Restore, async_trait},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    connection::{Answer, Connection},
    consuming::{PartHealth, Why},
    durable::{DurableConsumer, Found},
    refusals::Publisher,
    restoring::RESTORE_PATIENCE,
    streams::{created, ensure},
};

/// What the task of a pull consumer and its deliveries share. It lives no longer than they do, as the registration lives
/// as long as this.
#[derive(Debug)]
pub(crate) struct PullState {
    pub(crate) connection: Arc<Connection>,
    pub(crate) consumer: DurableConsumer,
    pub(crate) health: PartHealth,
    /// Whether all pull requests are lost.
    pub(crate) must_pull: AtomicBool,
    /// Whether the server does not allow to look at the consumer.
    cannot_look: AtomicBool,
    /// Wakes the task.
    pub(crate) changed: Notify,
    /// The number in the stream of the last message that came.
    last_sequence: AtomicU64,
    /// When the stream was created that these numbers are of.
    stream_created: Mutex<String>,
    /// Why the server has refused a pull request.
    refusal: Mutex<Option<String>>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

impl PullState {
    pub(crate) fn new(
        connection: Arc<Connection>,
        consumer: DurableConsumer,
        stream_created: String,
        health: PartHealth,
    ) -> Self {
        Self {
            connection,
            consumer,
            health,
            must_pull: AtomicBool::new(true),
            cannot_look: AtomicBool::new(false),
            changed: Notify::new(),
            last_sequence: AtomicU64::new(0),
            stream_created: Mutex::new(stream_created),
            refusal: Mutex::new(None),
            looking: tokio::sync::Mutex::new(()),
        }
    }

    /// Notes that a message came.
    pub(crate) fn came(&self, sequence: u64) {
        self.last_sequence.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Notes that the server answers a pull request.
    pub(crate) fn answered(&self) {
        if self.cannot_look.load(Ordering::Acquire) {
            self.health.up(Why::Lost);
        }
    }

    pub(crate) fn take_refusal(&self) -> Option<String> {
        self.refusal.lock().take()
    }

    /// Tells whether an operator has paused the consumer.
    pub(crate) fn tell_pause(&self, found: Found) {
        if found.is_paused {
            self.health.down(Why::Paused, &"by an operator, or by pause_until");
        } else {
            self.health.up(Why::Paused);
        }
    }

    /// Looks whether the consumer is as it has to be, restores it if it can, and tells health.
    pub(crate) async fn look(&self, until: Instant) {
        if !self.connection.is_up() {
            return;
        }
        if let Err(error) = self.restore_until(until).await {
            tracing::debug!(%error, consumer = self.consumer.name(), "not restored yet");
        }
    }

    async fn restore_until(&self, until: Instant) -> Result<bool> {
        let _alone = self.looking.lock().await;
        let ensured = async {
            let begin = self.begin_again(until).await?;
            self.consumer.ensure(&self.connection, begin, true, until).await
        };
        let found = match ensured.await {
            Ok(found) => found,
            Err(error) => return self.not_found(error),
        };
        self.cannot_look.store(false, Ordering::Release);
        let was_lost = self.health.is_down(Why::Lost) || self.health.is_down(Why::Suspended);
        self.tell_pause(found);
        self.health.up(Why::Suspended);
        self.health.up(Why::Lost);
        if found.was_created || was_lost {
            self.must_pull.store(true, Ordering::Release);
            self.changed.notify_one();
        }
        match self.consumer.takes_acknowledgements(&self.connection, until).await {
            Answer::Given => self.health.up(Why::NotAcknowledging),
            Answer::Forbidden => self.health.down(Why::NotAcknowledging, &"$JS.ACK"),
            // It has no leader at this moment; the heartbeats tell if that stays so.
            Answer::Nobody | Answer::Missing => {}
        }
        self.changed.notify_one();
        Ok(found.was_created)
    }

    fn not_found(&self, error: Error) -> Result<bool> {
        match error.kind() {
            // What comes now is meant for others; to take and filter it would lose it.
            ErrorKind::TopologyMismatch => {
                self.health.down(Why::Suspended, &error);
                Ok(false)
            }
            // To look is not allowed. Whether messages come is known by the heartbeats.
            ErrorKind::Forbidden => {
                self.cannot_look.store(true, Ordering::Release);
                self.must_pull.store(true, Ordering::Release);
                self.changed.notify_one();
                tracing::debug!(%error, consumer = self.consumer.name(), "cannot be looked at");
                Ok(false)
            }
            ErrorKind::ShutDown => Err(error),
            _ => {
                if self.connection.is_up() {
                    self.health.down(Why::Lost, &error);
                }
                Err(error)
            }
        }
    }

    /// Returns where a consumer begins that takes the place of a lost one.
    async fn begin_again(&self, until: Instant) -> Result<DeliverPolicy> {
        let stream = self.consumer.stream();
        ensure(&self.connection, stream, until).await?;
        let created = created(&self.connection, stream, until).await?;
        let mut known = self.stream_created.lock();
        if *known != created {
            // Another stream counts anew, and nothing of it has come yet.
            *known = created;
            self.last_sequence.store(0, Ordering::Release);
            return Ok(DeliverPolicy::All);
        }
        Ok(match self.last_sequence.load(Ordering::Acquire) {
            0 => DeliverPolicy::New,
            last => DeliverPolicy::ByStartSequence { start_sequence: last.saturating_add(1) },
        })
    }
}

#[async_trait]
impl Restore for PullState {
    async fn restore(&self) -> Result<bool> {
        // Until it is finished, it counts as lost: the time for all of them may be over before.
        let mut unfinished = Unfinished(Some(self));
        let restored = self.restore_until(Instant::now() + RESTORE_PATIENCE).await;
        unfinished.0 = None;
        self.must_pull.store(true, Ordering::Release);
        self.changed.notify_one();
        restored
    }
}

/// A restoration that has been given up.
struct Unfinished<'s>(Option<&'s PullState>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.0 {
            state.health.down(Why::Lost, &"it was not restored in time");
            state.changed.notify_one();
        }
    }
}

impl Publisher for PullState {
    fn publish_refused(&self, subject: &str, text: &str) {
        if subject == self.consumer.next_subject(&self.connection) {
            *self.refusal.lock() = Some(text.to_owned());
            // Also when the task does not get to it: nothing comes.
            self.health.down(Why::NotPulling, &text);
            self.changed.notify_one();
        } else if self.consumer.is_acknowledged_at(&self.connection, subject) {
            self.health.down(Why::NotAcknowledging, &text);
            self.changed.notify_one();
        }
    }
}
