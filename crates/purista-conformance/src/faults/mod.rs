//! Bridges that are wrong on purpose, to test the suite with.
//!
//! [`Wrong`] makes a wrong profile of a right one, with which the row that the [`Fault`] names must fail. [`main`] tries
//! that for many: [`Fault::ALL`] on any profile, [`Fault::WITH_BROKER`] on one whose broker can be broken,
//! [`Fault::WITH_ORIGINAL`] on one whose wire is that of the TypeScript original.

mod bridge;
mod calls;
mod emits;
mod handlers;
mod letters;
mod outage;
mod runner;
mod spoil;

use std::{fmt::Write as _, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use purista_core::{Error, ErrorKind, EventBridge, Result, ServiceAddress, adapter::DeadLetter};

pub use self::runner::main;

use self::bridge::WrongBridge;
use crate::{
    broker::Broker,
    original::{Original, Part},
    profile::{BrokerReport, Deployment, DeploymentOptions, OriginalNames, Profile},
};

macro_rules! faults {
    ($($(#[$doc:meta])* $list:ident { $($fault:ident, $does:literal, caught by $row:literal;)* })*) => {
        /// One way to be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[doc = concat!("It ", $does, ".")] $fault,)*)*
        }

        impl Fault {
            $($(#[$doc])* pub const $list: &'static [Self] = &[$(Self::$fault,)*];)*

            /// Says what is wrong.
            #[must_use]
            pub const fn does(self) -> &'static str {
                match self { $($(Self::$fault => $does,)*)* }
            }

            /// Returns the row that catches it.
            #[must_use]
            pub const fn caught_by(self) -> &'static str {
                match self { $($(Self::$fault => $row,)*)* }
            }
        }
    };
}

faults! {
    /// Those that every bridge can have.
    ALL {
        LosesDigits, "reads payloads as floating-point numbers", caught by "ENV-1";
        AnswersFromTheCallBefore, "gives each caller the answer of the call before", caught by "RPC-1";
        SwapsAnswers, "swaps the answers of calls that run at once", caught by "RPC-2";
        HidesNoHandler, "lets the time limit pass when nobody serves a command", caught by "RPC-4";
        WaitsTooLong, "waits twice the time limit", caught by "TMO-1";
        ExecutesExpired, "keeps the time limit from the service", caught by "TMO-3";
        RoundsTimeLimitsDown, "counts time limits in whole seconds", caught by "TMO-4";
        ForgetsCallers, "does not tell a handler how long its caller waits", caught by "TMO-5";
        BroadcastsShared, "gives each instance what they should share", caught by "GRP-1";
        SharesBroadcast, "gives one instance what each should get", caught by "GRP-2";
        SharesAmongSubscribers, "lets subscribers with one filter share", caught by "GRP-3";
        IgnoresReceiver, "ignores the receiver in filters", caught by "MAT-2";
        AcceptsEmptyFilters, "takes an empty filter value for none", caught by "MAT-3";
        NormalisesNames, "takes `Acme-1` and `acme_1` for the same tenant", caught by "MAT-4";
        ClaimsDurable, "claims durable subscriptions and forgets them", caught by "DUR-1";
        EmitsUnconfirmed, "returns from emit before the broker has the event", caught by "DUR-6";
        IgnoresMustRoute, "accepts must-route and ignores it", caught by "DUR-7";
        SwallowsFailures, "acknowledges what its handler failed to handle", caught by "ACK-2";
        RetriesWithoutEnd, "tries more often than asked", caught by "ACK-3";
        RetriesAtOnce, "ignores the delay between attempts", caught by "ACK-4";
        DropsDeadLetters, "drops what should become a dead letter", caught by "ACK-5";
        ConsumesByListing, "takes dead letters out as it lists them", caught by "DLQ-1";
        RedrivesToAll, "sends a dead letter to everybody who gets its event", caught by "DLQ-2";
        ForgetsRedrives, "sends dead letters again as often as anybody likes", caught by "DLQ-3";
        PurgesEverything, "gives up more dead letters than the filter says", caught by "DLQ-4";
        AcknowledgesTooEarly, "acknowledges before its handler is done", caught by "LIF-10";
        KeepsPlaces, "keeps a handler from others for each message that waits beyond a thousand", caught by "ACK-14";
        LosesPanics, "takes a panic for a success", caught by "ACK-13";
        DropsOneInSeven, "loses every seventh event", caught by "ORD-1";
        Duplicates, "emits each event twice", caught by "GRP-4";
        Reorders, "swaps neighbouring events", caught by "ORD-1";
        IgnoresConcurrency, "runs twice as many handlers as may", caught by "LIM-1";
        RunsHandlersInTurn, "runs a handler where its message came in, and the next one after it", caught by "LIM-6";
        RegistersTooEarly, "returns from a registration before it is live", caught by "LIF-3";
        ReplacesRegistrations, "accepts a second registration of an address", caught by "LIF-5";
        IgnoresUnregister, "goes on delivering after unregistering", caught by "LIF-6";
        ShutsDownAtOnce, "does not wait for handlers at a shutdown", caught by "LIF-7";
        IgnoresShutdown, "reports a shutdown and goes on", caught by "LEK-3";
        HidesLostRuntimes, "stays healthy when its runtime is gone", caught by "LIF-11";
        LosesErrorData, "loses the data of handled errors", caught by "ERR-1";
        LeaksCauses, "tells callers the cause of unhandled errors", caught by "ERR-2";
        ReadyTooEarly, "is ready before it is started", caught by "HLT-1";
        LosesNull, "takes `null` for absent", caught by "PAY-1";
        RoundsNumbers, "rounds the last digits of floating-point numbers", caught by "PAY-7";
        UnderstatesPayload, "takes larger payloads than it says", caught by "PAY-3";
        IgnoresTenant, "ignores the tenant in filters", caught by "IDN-1";
        AcceptsForgedResponses, "accepts a response from anybody", caught by "SEC-6";
        HidesMalformed, "does not count malformed input", caught by "SEC-5";
        LosesTrace, "starts a trace anew with each message", caught by "OBS-1";
        LeaksCalls, "never frees calls that were given up", caught by "LEK-1";
        LeaksTasks, "leaves a task behind with each start", caught by "LEK-2";
    }

    /// Those that show when the broker or the way to it fails: for profiles whose deployments have a
    /// [`Broker`].
    WITH_BROKER {
        LosesSubscriptions, "loses its subscriptions with its connection", caught by "NET-1";
        HidesSilence, "takes a silent connection for a good one", caught by "NET-4";
        LosesCancelledConsumers, "does not bring back what the broker cancelled", caught by "NET-7";
        WaitsForItsBroker, "waits for a broker that is down without end", caught by "NET-8";
        LeaksTasksOfOutages, "leaves a task behind with each outage", caught by "NET-9";
        BuffersEvents, "takes over events that its broker cannot take", caught by "NET-10";
        IgnoresEmitLimits, "waits longer for its broker than it may", caught by "NET-10";
        BlocksThreads, "blocks a thread while its broker reads nothing", caught by "LIM-3";
        AcknowledgesCommandsTooEarly, "acknowledges commands that may not get lost before their handler is done", caught by "CMD-1";
        LosesRedriven, "gives up dead letters whose messages the broker did not take", caught by "DLQ-5";
        HidesDeadConsumers, "does not tell which consumers are gone", caught by "HLT-2";
        FailsNeighbours, "fails what it sends beside something that the broker refuses", caught by "ISO-1";
        HidesStoppages, "is healthy while its registrations consume nothing", caught by "HLT-3";
        HidesRefusedCertificates, "takes a refused certificate for an outage", caught by "SEC-1";
        HidesRefusedLogins, "takes a refused login for an outage", caught by "SEC-2";
        TellsSecrets, "tells the password in an error", caught by "SEC-9";
        TracesSecrets, "writes the password to the trace", caught by "SEC-9";
    }

    /// Those that show beside the TypeScript original: for profiles whose deployments have an
    /// [`Original`].
    WITH_ORIGINAL {
        ExecutesTwice, "executes each command twice", caught by "WIR-1";
        IgnoresOriginalNames, "ignores which names the original has", caught by "WIR-2";
        LosesParameters, "leaves out a parameter that is empty", caught by "WIR-3";
        IgnoresForeignEvents, "ignores what the original emits", caught by "WIR-4";
        EscapesMarkers, "gives names that look like a marker another form", caught by "WIR-5";
        HidesOtherInstances, "waits on when another instance has answered", caught by "WIR-6";
        AsksAnybody, "asks any instance instead of the one that is named", caught by "WIR-7";
        HidesUnreadableAnswers, "waits on when an answer cannot be read", caught by "WIR-8";
        RenamesEvents, "takes letters beyond ASCII out of the names of events", caught by "WIR-9";
        HidesStreams, "does not count frames of streams", caught by "WIR-10";
    }
}

impl Fault {
    fn every() -> impl Iterator<Item = &'static Self> {
        Self::ALL.iter().chain(Self::WITH_BROKER).chain(Self::WITH_ORIGINAL)
    }
}

/// Returns the faults as a Markdown table.
#[must_use]
pub fn table() -> String {
    let mut table = String::from("| a bridge that | is caught by |\n|---|---|\n");
    for fault in Fault::every() {
        // Writing to a string cannot fail.
        let _infallible = writeln!(table, "| {} | {} |", fault.does(), fault.caught_by());
    }
    table
}

impl std::fmt::Debug for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wrong").field("profile", &self.profile.name()).field("fault", &self.fault).finish()
    }
}

/// A profile whose bridges have a fault.
pub struct Wrong {
    profile: Arc<dyn Profile>,
    fault: Fault,
}

impl Wrong {
    /// Makes a right profile wrong.
    #[must_use]
    pub const fn new(profile: Arc<dyn Profile>, fault: Fault) -> Self {
        Self { profile, fault }
    }
}

#[async_trait]
impl Profile for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    async fn deploy(&self, options: &DeploymentOptions) -> Result<Arc<dyn Deployment>> {
        let mut options = options.clone();
        if self.fault == Fault::IgnoresOriginalNames && options.original_names == OriginalNames::Chosen {
            options.original_names = OriginalNames::ChosenByPeers;
        }
        Ok(Arc::new(WrongDeployment { inner: self.profile.deploy(&options).await?, fault: self.fault }))
    }

    async fn reach(&self, location: &str) -> Result<Arc<dyn Deployment>> {
        let (_fault, location) = location.split_once(' ').unwrap_or_default();
        Ok(Arc::new(WrongDeployment { inner: self.profile.reach(location).await?, fault: self.fault }))
    }
}

/// The profile of a process that a wrong one started: the location says which fault its bridges have.
struct AnyWrong(Arc<dyn Profile>);

#[async_trait]
impl Profile for AnyWrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    async fn deploy(&self, options: &DeploymentOptions) -> Result<Arc<dyn Deployment>> {
        self.0.deploy(options).await
    }

    async fn reach(&self, location: &str) -> Result<Arc<dyn Deployment>> {
        let is_it = |fault: &&Fault| location.starts_with(&format!("{fault:?} "));
        match Fault::every().find(is_it) {
            Some(fault) => Wrong::new(Arc::clone(&self.0), *fault).reach(location).await,
            None => Err(Error::new(ErrorKind::InvalidConfig, "reach").with_context("no such fault")),
        }
    }
}

struct WrongDeployment {
    inner: Arc<dyn Deployment>,
    fault: Fault,
}

#[async_trait]
impl Deployment for WrongDeployment {
    fn bridge(&self) -> Result<Arc<dyn EventBridge>> {
        Ok(Arc::new(WrongBridge::new(self.inner.bridge()?, self.fault)))
    }

    async fn inject(&self, bytes: Bytes) -> Result<()> {
        self.inner.inject(bytes).await
    }

    async fn misroute(&self, to: &ServiceAddress, bytes: Bytes) -> Result<bool> {
        self.inner.misroute(to, bytes).await
    }

    async fn original(&self, part: &Part) -> Result<Box<dyn Original>> {
        self.inner.original(part).await
    }

    fn shares_subscriptions_with_original(&self) -> bool {
        self.inner.shares_subscriptions_with_original()
    }

    fn hands_on_to_original(&self) -> bool {
        self.inner.hands_on_to_original()
    }

    fn refuses_when_full(&self) -> bool {
        self.inner.refuses_when_full()
    }

    fn can_forbid_one_event(&self) -> bool {
        self.inner.can_forbid_one_event()
    }

    fn can_limit_messages(&self) -> bool {
        self.inner.can_limit_messages()
    }

    async fn take_dead_letters(&self) -> Result<Vec<DeadLetter>> {
        self.inner.take_dead_letters().await
    }

    async fn inspect(&self) -> Result<BrokerReport> {
        self.inner.inspect().await
    }

    fn broker(&self) -> Option<&dyn Broker> {
        self.inner.broker()
    }

    fn location(&self) -> Option<String> {
        self.inner.location().map(|location| format!("{:?} {location}", self.fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_this_one() {
        assert_eq!(include_str!("../../wrong-bridges.md"), table(), "write it anew");
    }

    #[test]
    fn the_rows_exist() {
        let mut rows = Fault::every().map(|fault| fault.caught_by());
        assert!(rows.all(|id| crate::catalogue::row(id).is_some()));
    }
}
