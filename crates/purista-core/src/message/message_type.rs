use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! message_types {
    ($($(#[$doc:meta])* $variant:ident = $wire:literal,)*) => {
        /// What kind of message it is (wire format, section 1).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum MessageType {
            $($(#[$doc])* #[serde(rename = $wire)] $variant,)*
        }

        impl MessageType {
            /// All message types.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the name on the wire, such as `customMessage`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire,)* }
            }
        }
    };
}

message_types! {
    /// A request to one instance of a command.
    Command = "command",
    /// The answer of a command that succeeded.
    CommandSuccessResponse = "commandSuccessResponse",
    /// The answer of a command that failed.
    CommandErrorResponse = "commandErrorResponse",
    /// An event or any other message of a service.
    CustomMessage = "customMessage",
    /// A frame of a stream, as version 3 of the original sends it. Services can subscribe to it, but not send it yet.
    Stream = "stream",
    /// A service begins to start.
    InfoServiceInit = "infoServiceInit",
    /// A service is ready.
    InfoServiceReady = "infoServiceReady",
    /// A service cannot work at present.
    InfoServiceNotReady = "infoServiceNotReady",
    /// A service offers one more command.
    InfoServiceFunctionAdded = "infoServiceFunctionAdded",
    /// A service stops taking work.
    InfoServiceDrain = "infoServiceDrain",
    /// A service has shut down.
    InfoServiceShutdown = "infoServiceShutdown",
    /// A call ran into its time limit.
    InfoInvokeTimeout = "infoInvokeTimeout",
    /// A subscription failed.
    InfoSubscriptionError = "infoSubscriptionError",
}

impl MessageType {
    /// Returns whether it is an answer to a command.
    #[must_use]
    pub const fn is_response(self) -> bool {
        matches!(self, Self::CommandSuccessResponse | Self::CommandErrorResponse)
    }

    /// Returns whether it is one of the `info…` types.
    #[must_use]
    pub const fn is_info(self) -> bool {
        !self.is_response() && !matches!(self, Self::Command | Self::CustomMessage | Self::Stream)
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
