//! Whether a registration consumes: it does when no part of it has a reason not to.

use std::{
    collections::BTreeSet,
    fmt::{self, Display},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use purista_core::adapter::Intake;

use crate::transport::NatsTransport;

/// Why a part of a registration does not consume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// The server does not route a subject to this connection any more.
    NotSubscribed,
    /// The server refuses pull requests.
    NotPulling,
    /// The server refuses acknowledgements: each message would come again and again.
    NotAcknowledging,
    /// A pull request gets neither messages nor heartbeats.
    Silent,
    /// The consumer or its stream is gone or has no leader, and could not be restored yet.
    Lost,
    /// The consumer or its stream is another one than this registration needs.
    Suspended,
    /// An operator has paused the consumer.
    Paused,
    /// The client has ended.
    Ended,
}

impl Why {
    const fn text(self) -> &'static str {
        match self {
            Self::NotSubscribed => "the server does not route a subject any more",
            Self::NotPulling => "the server refuses to hand out messages",
            Self::NotAcknowledging => "the server refuses acknowledgements",
            Self::Silent => "the server does not answer requests for messages",
            Self::Lost => "the consumer is lost",
            Self::Suspended => "the consumer is another one than is needed",
            Self::Paused => "the consumer is paused",
            Self::Ended => "the client has ended",
        }
    }
}

/// The reasons of all parts of one registration.
#[derive(Debug)]
pub(crate) struct Consuming {
    intake: Intake<NatsTransport>,
    /// `None` once the registration has ended.
    reasons: Mutex<Option<BTreeSet<(usize, Why)>>>,
    parts: AtomicUsize,
}

impl Consuming {
    pub(crate) fn new(intake: Intake<NatsTransport>) -> Arc<Self> {
        Arc::new(Self { intake, reasons: Mutex::new(Some(BTreeSet::new())), parts: AtomicUsize::new(0) })
    }

    /// Adds a part, which consumes so far.
    pub(crate) fn part(self: &Arc<Self>) -> PartHealth {
        PartHealth { whole: Arc::clone(self), part: self.parts.fetch_add(1, Ordering::Relaxed) }
    }

    /// Ends it: from now on it has no health.
    pub(crate) fn end(&self) {
        *self.reasons.lock() = None;
    }
}

/// The health of one part of a registration. Cheap to clone: clones speak of the same part.
#[derive(Clone)]
pub(crate) struct PartHealth {
    whole: Arc<Consuming>,
    part: usize,
}

impl PartHealth {
    /// Adds another part of the same registration.
    pub(crate) fn another(&self) -> Self {
        self.whole.part()
    }

    /// Notes that this part never consumes again.
    pub(crate) fn ended(&self) {
        self.down(Why::Ended, &"its subscription has ended");
    }

    /// Notes a reason why this part does not consume.
    pub(crate) fn down(&self, why: Why, cause: &dyn Display) {
        let mut reasons = self.whole.reasons.lock();
        let Some(known) = reasons.as_mut() else { return };
        if known.insert((self.part, why)) {
            tracing::warn!(registration = ?self.whole.intake, %cause, "not consuming: {}", why.text());
            self.whole.intake.consumer_down();
        }
    }

    /// Notes that a reason is over.
    pub(crate) fn up(&self, why: Why) {
        let mut reasons = self.whole.reasons.lock();
        let Some(known) = reasons.as_mut() else { return };
        if known.remove(&(self.part, why)) {
            tracing::info!(registration = ?self.whole.intake, "over: {}", why.text());
            if known.is_empty() {
                self.whole.intake.consumer_up();
            }
        }
    }

    /// Returns whether this part has that reason.
    pub(crate) fn is_down(&self, why: Why) -> bool {
        self.whole.reasons.lock().as_ref().is_some_and(|known| known.contains(&(self.part, why)))
    }

    /// Returns whether this part consumes.
    pub(crate) fn is_well(&self) -> bool {
        let reasons = self.whole.reasons.lock();
        reasons.as_ref().is_none_or(|known| known.iter().all(|(part, _)| *part != self.part))
    }
}

impl fmt::Debug for PartHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartHealth").field("part", &self.part).field("is_well", &self.is_well()).finish()
    }
}
