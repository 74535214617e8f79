//! How often a message had failed when an instance gave it back.
//!
//! The server counts deliveries. A message that was given back unhandled was delivered, and no attempt was made; one that
//! failed three times here was delivered once. So what the count was is noted beside the stream.

use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use purista_core::Result;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{codec::DeliveryInfo, connection::Connection, jetstream::Publication, streams::StreamKind};

/// How long the server may take to keep a note; a message without one has its deliveries counted.
const NOTE_PATIENCE: Duration = Duration::from_secs(3);

/// What is noted of a message that is given back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Release {
    /// How often it had been delivered.
    deliveries: u32,
    /// How many attempts had failed.
    failed_attempts: u32,
}

fn subject(connection: &Connection, consumer: &str, sequence: u64) -> String {
    connection.names.of_consumer("released", &format!("{consumer}.{sequence}"))
}

/// Notes how often a message had failed, unless it was not delivered before and the server's count tells that anyway.
pub(crate) async fn note(
    connection: &Connection,
    consumer: &str,
    info: DeliveryInfo,
    failed_attempts: u32,
) -> Result<()> {
    if info.delivered == 1 && failed_attempts == 1 {
        return Ok(());
    }
    let release = Release { deliveries: info.delivered, failed_attempts };
    let subject = subject(connection, consumer, info.sequence);
    let publication = Publication {
        stream: StreamKind::Releases,
        id: format!("{subject}.{}", info.delivered),
        header: None,
        subject: Subject::from(subject),
        payload: Bytes::from(serde_json::to_vec(&release).unwrap_or_default()),
        waits_for_room: false,
    };
    connection.publish_kept(&publication, Instant::now() + NOTE_PATIENCE).await
}

/// Returns which attempt a delivery is for.
pub(crate) async fn attempt(connection: &Connection, consumer: &str, info: DeliveryInfo) -> u32 {
    if info.delivered <= 1 {
        return 1;
    }
    attempt_after(noted(connection, consumer, info.sequence).await, info)
}

/// Returns which attempt a delivery is for, by what was noted before; others may have written that.
pub(crate) fn attempt_after(noted: Option<Release>, info: DeliveryInfo) -> u32 {
    match noted {
        Some(release) if release.deliveries < info.delivered => {
            release.failed_attempts.saturating_add(info.delivered - release.deliveries)
        }
        _ => info.delivered.max(1),
    }
}

async fn noted(connection: &Connection, consumer: &str, sequence: u64) -> Option<Release> {
    let stream = StreamKind::Releases.name(&connection.names);
    let subject = subject(connection, consumer, sequence);
    let message = connection.last_message(&stream, &subject).await?;
    read(&message.payload)
}

pub(crate) fn read(noted: &[u8]) -> Option<Release> {
    serde_json::from_slice(noted).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_on_from_what_was_noted_and_never_overflow() {
        let attempt = |noted: &str, delivered| {
            attempt_after(read(noted.as_bytes()), DeliveryInfo { delivered, sequence: 1 })
        };
        assert_eq!(attempt(r#"{"deliveries":2,"failed_attempts":4}"#, 3), 5);
        assert_eq!(attempt(r#"{"deliveries":3,"failed_attempts":4}"#, 3), 3);
        assert_eq!(attempt("no JSON", 3), 3);
        assert_eq!(attempt(r#"{"deliveries":0,"failed_attempts":4294967295}"#, 2), u32::MAX);
        assert_eq!(attempt("", 0), 1);
    }
}
