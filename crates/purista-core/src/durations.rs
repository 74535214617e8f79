//! How long work takes, in histograms of the `metrics` facade, by OpenTelemetry's names for messaging.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use metrics::{Histogram, IntoF64, Unit, describe_histogram, histogram};

use crate::message::ServiceAddress;

/// What callers wait for: the answer to a command, the broker's word that it has an event.
const CLIENT: &str = "messaging.client.operation.duration";

/// What handlers take.
const PROCESS: &str = "messaging.process.duration";

/// How an attempt of a handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    /// By an error that its caller gets as it is.
    Handled,
    Failed,
}

impl Ended {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "success",
            Self::Handled => "handled_error",
            Self::Failed => "failure",
        }
    }
}

/// What a bridge's users do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Emit,
    Invoke,
}

impl Operation {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Emit => "emit",
            Self::Invoke => "invoke",
        }
    }
}

/// A duration that notes whether a recorder asks for it.
struct Asked<'a>(&'a Cell<bool>);

impl IntoF64 for Asked<'_> {
    fn into_f64(self) -> f64 {
        self.0.set(true);
        0.0
    }
}

/// The durations of the operations of one bridge.
pub(crate) struct Operations {
    bridge: &'static str,
    /// Whether anybody records them: to look at the clock costs more than all else about them.
    are_recorded: AtomicBool,
    succeeded: [OnceLock<Histogram>; 2],
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operations").finish_non_exhaustive()
    }
}

impl Operations {
    pub(crate) fn new(bridge: &'static str) -> Self {
        Self { bridge, are_recorded: AtomicBool::new(false), succeeded: Default::default() }
    }

    /// Tells the recorder what is measured, if there is one.
    pub(crate) fn show(&self) {
        describe_histogram!(
            CLIENT,
            Unit::Seconds,
            "Time until a call has its answer, or the broker has an event"
        );
        describe_histogram!(PROCESS, Unit::Seconds, "Time of one attempt of a handler");
        let is_asked = Cell::new(false);
        for operation in [Operation::Emit, Operation::Invoke] {
            // Nothing is recorded by this, and whether it would be is found out.
            self.succeeded(operation).record_many(Asked(&is_asked), 0);
        }
        self.are_recorded.store(is_asked.get(), Relaxed);
    }

    /// Returns when something begins, if anybody records how long it takes.
    pub(crate) fn begin(&self) -> Option<Instant> {
        self.are_recorded.load(Relaxed).then(Instant::now)
    }

    /// Records an operation that began then, and failed so if it did.
    pub(crate) fn record(&self, operation: Operation, began: Option<Instant>, error: Option<&'static str>) {
        let Some(began) = began else { return };
        let took = began.elapsed();
        match error {
            None => self.succeeded(operation).record(took),
            // Rare enough to be looked up.
            Some(error) => histogram!(
                CLIENT,
                "messaging.system" => self.bridge,
                "messaging.operation.name" => operation.as_str(),
                "error.type" => error,
            )
            .record(took),
        }
    }

    fn succeeded(&self, operation: Operation) -> &Histogram {
        self.succeeded[operation as usize].get_or_init(|| {
            histogram!(
                CLIENT,
                "messaging.system" => self.bridge,
                "messaging.operation.name" => operation.as_str(),
            )
        })
    }
}

/// The durations of the handlers of one registration.
pub(crate) struct Attempts([OnceLock<Histogram>; 3]);

impl Attempts {
    pub(crate) fn new() -> Self {
        Self(Default::default())
    }

    /// Records an attempt that began then.
    pub(crate) fn record(
        &self,
        bridge: &'static str,
        address: &ServiceAddress,
        began: Option<Instant>,
        ended: Ended,
    ) {
        let Some(began) = began else { return };
        let took = began.elapsed();
        let histogram = || {
            histogram!(
                PROCESS,
                "messaging.system" => bridge,
                "messaging.operation.name" => "process",
                "messaging.destination.name" => address.to_string(),
                "outcome" => ended.as_str(),
            )
        };
        self.0[ended as usize].get_or_init(histogram).record(took);
    }
}
