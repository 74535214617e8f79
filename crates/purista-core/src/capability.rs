//! What an adapter gives, as its configured instance declares it.

use std::{fmt, time::Duration};

macro_rules! capabilities {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, proved by $($row:literal)+;)*) => {
        /// One promise of an adapter.
        ///
        /// It is either given, and the rows of the conformance suite that it names prove it, or it is refused with
        /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where someone asks for it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Capability {
            $($(#[$doc])* $variant,)*
        }

        impl Capability {
            /// All capabilities.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the name, such as `durable subscriptions`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns the rows of the conformance suite that fail if an adapter claims it wrongly, or refuses it
            /// wrongly.
            #[must_use]
            pub const fn proved_by(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($row,)+],)* }
            }
        }
    };
}

capabilities! {
    /// A subscription misses nothing while its service is away.
    DurableSubscriptions = "durable subscriptions", proved by "DUR-1" "DUR-3" "DUR-5" "DUR-9";
    /// A subscription gets only what is sent while it is there, and leaves nothing at the broker.
    TransientSubscriptions = "transient subscriptions", proved by "DUR-9" "LEK-3";
    /// A command waits for its service within its time limit.
    DurableCommands = "durable commands", proved by "DUR-8";
    /// What the broker acknowledged survives a kill of its process.
    SurvivesBrokerKill = "survival of a broker kill", proved by "DUR-4" "NET-2";
    /// `emit` returns after the broker's own acknowledgement.
    BrokerConfirm = "broker confirms", proved by "DUR-6";
    /// The instances of a subscriber share its messages.
    SharedSubscriptions = "shared subscriptions", proved by "GRP-1";
    /// Each instance of a subscriber gets each message.
    BroadcastSubscriptions = "broadcast subscriptions", proved by "GRP-2";
    /// The survivors of a group finish what a dead member held.
    GroupHandover = "group hand-over", proved by "GRP-5";
    /// A message is acknowledged after its handler finished.
    ManualAcknowledgement = "acknowledgement after the handler", proved by "ACK-1" "ACK-10" "LIF-10";
    /// The broker counts how often it delivered a message, also across crashes of its consumer.
    RedeliveryCount = "redelivery counts", proved by "ACK-7";
    /// A failing handler is tried again, up to a number of attempts.
    BoundedRetry = "bounded retry", proved by "ACK-2" "ACK-3" "ACK-6";
    /// Attempts are set apart by a delay.
    DelayedRetry = "delayed retry", proved by "ACK-4";
    /// What fails at every attempt is kept apart with its reason.
    DeadLetter = "dead letters", proved by "ACK-5" "ACK-9";
    /// What is kept apart can be listed, sent to its subscriber again, and given up.
    DeadLetterInspection = "dead letters that can be read and sent again", proved by "DLQ-1" "DLQ-2" "DLQ-3" "DLQ-4";
    /// A handler may take longer than the broker's patience.
    LongHandlers = "long handlers", proved by "ACK-12";
    /// An event that nobody gets is refused if its sender asks for that.
    MustRoute = "must-route events", proved by "DUR-7";
    /// A caller hears at once that nobody serves a command.
    NoResponder = "immediate no-handler errors", proved by "RPC-4";
    /// A command that waited longer than its time limit is not executed.
    MessageExpiry = "message expiry", proved by "TMO-3";
    /// A command is delivered again when its instance dies, within its time limit.
    AtLeastOnceCommands = "at-least-once commands", proved by "CMD-1";
    /// Messages of one sender arrive in order at a consumer with concurrency 1.
    SenderOrder = "order per sender", proved by "ORD-1";
    /// Commands and subscriptions can be registered after the start.
    RegisterAfterStart = "registration after start", proved by "LIF-2";
    /// Commands and subscriptions can be unregistered.
    Unregister = "unregistration", proved by "LIF-6";
    /// A lost connection comes back by itself, with all its consumers.
    Reconnect = "reconnection", proved by "NET-1" "NET-3" "NET-4" "NET-6" "NET-7" "NET-9";
    /// Routing fields travel in the broker's own headers as well.
    NativeHeaders = "native headers", proved by "ENV-6";
    /// The wire is that of the TypeScript original.
    WireCompatible = "compatibility with the TypeScript wire", proved by "WIR-1" "WIR-2" "WIR-3" "WIR-4" "WIR-5"
        "WIR-6" "WIR-7" "WIR-8" "WIR-9" "WIR-10";
    /// Messages travel as CloudEvents.
    CloudEvents = "CloudEvents", proved by "ENV-7";
    /// The connection can be encrypted, and the broker's certificate is checked.
    Tls = "TLS", proved by "SEC-1";
    /// The bridge shows credentials to the broker.
    Authentication = "authentication", proved by "SEC-2";
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const _: () = assert!(Capability::ALL.len() <= u64::BITS as usize, "one bit for each capability");

/// What one configured bridge gives: the capabilities it has, and its limits.
///
/// ```
/// use purista_core::{Capabilities, Capability};
///
/// const GIVEN: Capabilities =
///     Capabilities::NONE.with(Capability::SharedSubscriptions).with_max_payload(1024 * 1024);
/// assert!(GIVEN.has(Capability::SharedSubscriptions));
/// assert!(!GIVEN.has(Capability::DurableSubscriptions));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    given: u64,
    max_payload: usize,
    expiry_granularity: Duration,
}

impl Capabilities {
    /// Nothing, and no limit on the payload.
    pub const NONE: Self =
        Self { given: 0, max_payload: usize::MAX, expiry_granularity: Duration::from_millis(1) };

    /// Adds a capability.
    #[must_use]
    pub const fn with(mut self, capability: Capability) -> Self {
        self.given |= 1 << capability as u8;
        self
    }

    /// Adds all capabilities of another set.
    #[must_use]
    pub const fn with_all(mut self, others: Self) -> Self {
        self.given |= others.given;
        self
    }

    /// Takes a capability away.
    #[must_use]
    pub const fn without(mut self, capability: Capability) -> Self {
        self.given &= !(1 << capability as u8);
        self
    }

    /// Limits payload and parameter together, in bytes of JSON text.
    #[must_use]
    pub const fn with_max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Sets the steps in which messages expire.
    #[must_use]
    pub const fn with_expiry_granularity(mut self, granularity: Duration) -> Self {
        self.expiry_granularity = granularity;
        self
    }

    /// Returns whether a capability is given.
    #[must_use]
    pub const fn has(&self, capability: Capability) -> bool {
        self.given & (1 << capability as u8) != 0
    }

    /// Returns the capabilities that are given.
    pub fn iter(&self) -> impl Iterator<Item = Capability> + use<> {
        let given = *self;
        Capability::ALL.iter().copied().filter(move |capability| given.has(*capability))
    }

    /// Returns the largest payload and parameter together, in bytes of JSON text.
    #[must_use]
    pub const fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Returns the steps in which messages expire, if they do.
    #[must_use]
    pub const fn expiry_granularity(&self) -> Duration {
        self.expiry_granularity
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capabilities")
            .field("given", &self.iter().collect::<Vec<_>>())
            .field("max_payload", &self.max_payload)
            .field("expiry_granularity", &self.expiry_granularity)
            .finish()
    }
}
