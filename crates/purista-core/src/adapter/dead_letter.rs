use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result},
    message::{Id, Name, ServiceAddress},
};

/// How much of a reason travels with a dead letter, in bytes.
const MAX_REASON: usize = 1_024;

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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    message_id: Id,
    service_name: Name,
    service_version: Name,
    service_target: Name,
    reason: String,
    attempts: u32,
    first_attempt_at: u64,
    last_attempt_at: u64,
}

impl DeadLetter {
    /// Returns all but the original as one line of JSON, for a header of the broker. A long reason is cut.
    #[must_use]
    pub fn metadata(&self) -> String {
        let ServiceAddress { service_name, service_version, service_target } = self.subscriber.clone();
        let metadata = Metadata {
            message_id: self.message_id.clone(),
            service_name,
            service_version,
            service_target,
            reason: self.reason[..self.reason.floor_char_boundary(MAX_REASON)].to_owned(),
            attempts: self.attempts,
            first_attempt_at: self.first_attempt_at,
            last_attempt_at: self.last_attempt_at,
        };
        // Text and numbers always have a form in JSON.
        serde_json::to_string(&metadata).unwrap_or_default()
    }

    /// Puts a dead letter together again from its [`metadata`](Self::metadata) and the original.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](ErrorKind::InvalidMessage) if the text is no metadata.
    pub fn from_metadata(metadata: &str, original: Bytes) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(metadata)
            .map_err(|error| Error::new(ErrorKind::InvalidMessage, "dead letter").source(error))?;
        Ok(Self {
            original,
            message_id: metadata.message_id,
            subscriber: ServiceAddress::new(
                metadata.service_name,
                metadata.service_version,
                metadata.service_target,
            ),
            reason: metadata.reason,
            attempts: metadata.attempts,
            first_attempt_at: metadata.first_attempt_at,
            last_attempt_at: metadata.last_attempt_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_one_line_and_can_be_read_back() {
        let letter = DeadLetter {
            original: Bytes::from_static(b"{}"),
            message_id: Id::from("id"),
            subscriber: ServiceAddress::new("Gr\u{fc}\u{df}e", "1\r\n", "\"\0"),
            reason: format!("{}\u{65e5}\r\nsecond line", "x".repeat(MAX_REASON - 1)),
            attempts: 3,
            first_attempt_at: 1,
            last_attempt_at: u64::MAX,
        };
        let metadata = letter.metadata();
        assert!(!metadata.contains(['\r', '\n', '\0']), "{metadata}");
        let cut = DeadLetter { reason: "x".repeat(MAX_REASON - 1), ..letter.clone() };
        assert_eq!(DeadLetter::from_metadata(&metadata, letter.original.clone()).unwrap(), cut);
        assert!(DeadLetter::from_metadata("{}", Bytes::new()).is_err());
    }
}
