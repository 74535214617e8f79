//! What a bridge counts.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What a bridge has counted since it was built, and how much it is doing.
        ///
        /// Every delivery to a subscription ends in exactly one of `handled`, `dead_lettered`, `dropped`, `filtered` and
        /// `released`. The same counters are recorded through the `metrics` facade as `purista_<name>_total`, labelled with
        /// the bridge's name, by the recorder that is installed when the bridge starts.
        ///
        /// ```
        /// use purista_core::{EventBridge as _, EventBridgeExt as _};
        ///
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// let bridge = purista_default::DefaultEventBridge::builder().build()?;
        /// bridge.start().await?;
        /// bridge.emit("happened", "content").await?;
        /// assert_eq!((bridge.stats().emitted, bridge.stats().pending_calls), (1, 0));
        /// # Ok(())
        /// # }
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])* pub $name: u64,)*
            /// Calls that wait for their answer now.
            pub pending_calls: usize,
            /// Messages that are being handled or wait for their next attempt now.
            pub in_hand: usize,
        }

        /// The live counters behind [`Stats`].
        #[derive(Debug)]
        pub(crate) struct Counters {
            $($(#[doc = $doc])* pub(crate) $name: Counter,)*
        }

        impl Counters {
            /// Creates the counters of the bridge with this name.
            #[must_use]
            pub(crate) fn new(bridge: &'static str) -> Self {
                Self {
                    $($name: Counter::new(concat!("purista_", stringify!($name), "_total"), bridge),)*
                }
            }

            /// Has the recorder show what was not counted yet as well, and what all of it is.
            pub(crate) fn show(&self) {
                $(
                    metrics::describe_counter!(self.$name.name, concat!($($doc,)*).trim());
                    self.$name.recorded();
                )*
            }

            pub(crate) fn snapshot(&self, pending_calls: usize, in_hand: usize) -> Stats {
                Stats { $($name: self.$name.get(),)* pending_calls, in_hand }
            }
        }
    };
}

counters! {
    /// Messages that the broker took over from `emit`.
    emitted,
    /// Calls begun.
    invoked,
    /// Calls that ended with an answer.
    answered,
    /// Calls that ran into their time limit, or into the one of the caller on whose behalf they were made: those that began
    /// later were not sent.
    timed_out,
    /// Messages delivered to a subscription of this bridge.
    delivered,
    /// Deliveries whose handler succeeded.
    handled,
    /// Commands executed, whatever their outcome.
    executed,
    /// Attempts of handlers that failed.
    failed_attempts,
    /// Handlers that panicked.
    panicked,
    /// Deliveries kept as dead letters.
    dead_lettered,
    /// Attempts to keep a dead letter that failed.
    dead_letter_failures,
    /// Dead letters that were sent to their subscriber again.
    redriven,
    /// Deliveries given up after their last attempt, as nobody wanted a dead letter.
    dropped,
    /// Commands that came after their time limit and were not executed.
    expired,
    /// Deliveries that the core matcher refused after the broker let them through.
    filtered,
    /// Deliveries given back to the broker unfinished.
    released,
    /// Messages that waited for a handler when their last subscriber went away, and were never delivered.
    abandoned,
    /// Messages lost as too many waited, where the broker gives no back-pressure.
    overflowed,
    /// Commands refused: their exact address is not registered here.
    refused,
    /// Deliveries that were no message.
    malformed,
    /// Responses that came too late, or that nobody asked for.
    late_responses,
    /// Responses to a pending call that were not sent by the service that was asked.
    forged_responses,
    /// Answers from another instance than the addressed one; their calls failed.
    misdirected,
    /// Frames of streams that came to a command or to a caller of this bridge, which has no streams yet.
    stream_frames,
    /// Acknowledgements that failed; the broker will deliver these messages again.
    failed_acknowledgements,
}

/// One counter, recorded here and through the `metrics` facade.
pub(crate) struct Counter {
    value: AtomicU64,
    name: &'static str,
    bridge: &'static str,
    /// Of the recorder that was there when it was needed for the first time.
    recorded: OnceLock<metrics::Counter>,
}

impl Counter {
    const fn new(name: &'static str, bridge: &'static str) -> Self {
        Self { value: AtomicU64::new(0), name, bridge, recorded: OnceLock::new() }
    }

    fn recorded(&self) -> &metrics::Counter {
        self.recorded.get_or_init(|| metrics::counter!(self.name, "bridge" => self.bridge))
    }

    /// Counts one more.
    pub(crate) fn increment(&self) {
        self.value.fetch_add(1, Relaxed);
        self.recorded().increment(1);
    }

    /// Returns the count.
    pub(crate) fn get(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}
