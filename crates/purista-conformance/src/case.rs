//! What a row of the catalogue does.

use std::{future::Future, pin::Pin};

use purista_core::Capability;

use crate::stage::Stage;

/// What a trial returns; the error says what was seen and what was expected.
pub type Outcome = anyhow::Result<()>;

/// A trial, which plays on a stage of its own.
pub type Run = fn(Stage) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The trial of one row.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Case {
    /// The id of the row.
    pub row: &'static str,
    /// When the trial applies.
    pub gate: Gate,
    /// The trial.
    pub run: Run,
}

/// When the trial of a row applies.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Gate {
    /// To every adapter.
    All,
    /// To those who claim a capability.
    Claimed(Capability, Without),
}

/// What is tried of those who do not claim the capability.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Without {
    /// That it is refused where it is asked for.
    Refused(Run),
    /// Nothing, as there is nothing to ask for; the reason.
    NothingToAsk(&'static str),
}

/// Makes a [`Run`] of an `async fn(Stage) -> Outcome`.
macro_rules! run {
    ($function:path) => {
        |stage| Box::pin($function(stage))
    };
}

/// Makes a [`Case`]: `case!("RPC-1", rpc_1)` for every adapter, or
/// `case!("ACK-2", ack_2, Capability::BoundedRetry, else refuses_retry)` and
/// `case!("LIF-6", lif_6, Capability::Unregister, else "reason")` for those who claim a capability.
macro_rules! case {
    ($row:literal, $run:path) => {
        $crate::case::Case { row: $row, gate: $crate::case::Gate::All, run: $crate::case::run!($run) }
    };
    ($row:literal, $run:path, $capability:expr, else $reason:literal) => {
        $crate::case::Case {
            row: $row,
            gate: $crate::case::Gate::Claimed($capability, $crate::case::Without::NothingToAsk($reason)),
            run: $crate::case::run!($run),
        }
    };
    ($row:literal, $run:path, $capability:expr, else $refused:path) => {
        $crate::case::Case {
            row: $row,
            gate: $crate::case::Gate::Claimed(
                $capability,
                $crate::case::Without::Refused($crate::case::run!($refused)),
            ),
            run: $crate::case::run!($run),
        }
    };
}

pub(crate) use {case, run};
