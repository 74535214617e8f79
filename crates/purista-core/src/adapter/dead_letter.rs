use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result},
    message::{Id, Name, ServiceAddress},
};

/// How much of a reason, and of the id that a foreign peer chose, travels with a dead letter, in bytes. Headers are limited:
/// what does not fit could never be kept, and would be tried for ever.
const MAX_TEXT: usize = 1_024;

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
    /// The one instance of the subscriber whose handler failed, if each of them gets the messages.
    pub instance_id: Option<Id>,
    /// How often it was a dead letter before that was sent again.
    pub redrives: u32,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance_id: Option<Id>,
    #[serde(default, skip_serializing_if = "is_none")]
    redrives: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it like that")]
const fn is_none(redrives: &u32) -> bool {
    *redrives == 0
}

impl DeadLetter {
    /// Returns all but the original as one line of JSON, for a header of the broker. A long reason is cut, and so is the id
    /// of a message that is beyond the limits; the original has it.
    #[must_use]
    pub fn metadata(&self) -> String {
        let ServiceAddress { service_name, service_version, service_target } = self.subscriber.clone();
        let cut = |text: &str| text[..text.floor_char_boundary(MAX_TEXT)].to_owned();
        let cut_id = |id: &Id| match id.len() {
            ..=MAX_TEXT => id.clone(),
            _ => cut(id.as_str()).into(),
        };
        let metadata = Metadata {
            message_id: cut_id(&self.message_id),
            service_name,
            service_version,
            service_target,
            reason: cut(&self.reason),
            attempts: self.attempts,
            first_attempt_at: self.first_attempt_at,
            last_attempt_at: self.last_attempt_at,
            instance_id: self.instance_id.as_ref().map(cut_id),
            redrives: self.redrives,
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
            .map_err(|error| Error::new(ErrorKind::InvalidMessage, "dead letter").with_source(error))?;
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
            instance_id: metadata.instance_id,
            redrives: metadata.redrives,
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
            reason: format!("{}\u{65e5}\r\nsecond line", "x".repeat(MAX_TEXT - 1)),
            attempts: 3,
            first_attempt_at: 1,
            last_attempt_at: u64::MAX,
            instance_id: Some(Id::from("i\n")),
            redrives: 7,
        };
        let metadata = letter.metadata();
        assert!(!metadata.contains(['\r', '\n', '\0']), "{metadata}");
        let cut = DeadLetter { reason: "x".repeat(MAX_TEXT - 1), ..letter.clone() };
        assert_eq!(DeadLetter::from_metadata(&metadata, letter.original.clone()).unwrap(), cut);
        assert!(DeadLetter::from_metadata("{}", Bytes::new()).is_err());
        // As letters were before.
        let first = DeadLetter { instance_id: None, redrives: 0, ..letter };
        assert!(!first.metadata().contains("redrives") && !first.metadata().contains("instanceId"));
    }

    #[test]
    fn what_a_foreign_peer_chose_is_cut() {
        let metadata = r#"{"messageId":"1","serviceName":"Mail","serviceVersion":"1","serviceTarget":"welcome",
            "reason":"no","attempts":3,"firstAttemptAt":1,"lastAttemptAt":2}"#;
        let mut letter = DeadLetter::from_metadata(metadata, Bytes::new()).unwrap();
        letter.message_id = Id::from("\u{1}".repeat(100_000));
        letter.reason = "\u{1}".repeat(100_000);
        let metadata = letter.metadata();
        assert!(metadata.len() < 16 * 1_024, "{} bytes", metadata.len());
        assert_eq!(DeadLetter::from_metadata(&metadata, Bytes::new()).unwrap().message_id.len(), MAX_TEXT);
    }
}
