use bytes::Bytes;

use crate::message::{Id, ServiceAddress};

/// A message that no attempt could handle, with all one needs to know to handle it after all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The message as it came from the wire, byte by byte.
    pub original: Bytes,
    /// The id of the message.
    pub message_id: Id,
    /// Whose handler failed.
    pub subscriber: ServiceAddress,
    /// Why the last attempt failed.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it came, in milliseconds since the Unix epoch.
    pub first_attempt_at: u64,
    /// When it was given up, in milliseconds since the Unix epoch.
    pub last_attempt_at: u64,
}
