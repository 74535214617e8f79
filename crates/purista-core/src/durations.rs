//! How long work takes, in histograms of the `metrics` facade, by OpenTelemetry's names for messaging.

use std::{sync::OnceLock, time::Instant};

use metrics::{Histogram, Unit, describe_histogram, histogram};

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

/// The durations of the operations of one bridge.
pub(crate) struct Operations {
    bridge: &'static str,
    succeeded: [OnceLock<Histogram>; 2],
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operations").finish_non_exhaustive()
    }
}

impl Operations {
    pub(crate) fn new(bridge: &'static str) -> Self {
        Self { bridge, succeeded: Default::default() }
    }

    /// Tells the recorder what is measured.
    pub(crate) fn describe() {
        describe_histogram!(
            CLIENT,
            Unit::Seconds,
            "Time until a call has its answer, or the broker has an event"
        );
        describe_histogram!(PROCESS, Unit::Seconds, "Time of one attempt of a handler");
    }

    /// Records an operation that began then, and failed so if it did.
    pub(crate) fn record(&self, operation: Operation, began: Instant, error: Option<&'static str>) {
        let (took, bridge, name) = (began.elapsed(), self.bridge, operation.as_str());
        if let Some(error) = error {
            // Rare enough to be looked up.
            let labels =
                [("messaging.system", bridge), ("messaging.operation.name", name), ("error.type", error)];
            return histogram!(CLIENT, &labels).record(took);
        }
        let labels = [("messaging.system", bridge), ("messaging.operation.name", name)];
        self.succeeded[operation as usize].get_or_init(|| histogram!(CLIENT, &labels)).record(took);
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
        began: Instant,
        ended: Ended,
    ) {
        let took = began.elapsed();
        let histogram = || {
            histogram!(
                PROCESS,
                "messaging.system" => bridge,
                "messaging.destination.name" => address.to_string(),
                "outcome" => ended.as_str(),
            )
        };
        self.0[ended as usize].get_or_init(histogram).record(took);
    }
}
