use std::{sync::atomic::Ordering, time::Duration};

use async_nats::jetstream::{
    self, ErrorCode,
    stream::{Config as StreamConfig, DiscardPolicy, RetentionPolicy, StorageType},
};
use bytes::Bytes;
use purista_core::{ErrorKind, MessageType, Result};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    address::Names,
    config::JetStreamConfig,
    connection::Connection,
    error::error,
    jetstream::body,
    limits::{least_bytes, raise},
    refusal::{is_no_room, refused},
};

/// The release of a message is known for so long, if nobody takes the message meanwhile.
const RELEASES_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// All of these together take about 10 MB.
const MAX_RELEASES: i64 = 100_000;

/// With room to spare.
const MAX_RELEASE_BYTES: u64 = 16 << 20;

/// How long a stream that was there is gone before it is created again. The server tells that it has deleted one before its
/// files are gone: another one of that name finds them, and acknowledges nothing.
const SETTLING: Duration = Duration::from_millis(250);

/// One stream of the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StreamKind {
    /// What is emitted.
    Events,
    /// What is emitted, and the answers to commands and frames of streams, once somebody wants to have them kept.
    EventsAndResponses,
    /// Commands, for subscriptions that want them kept. It never acknowledges, as that would answer the command.
    Commands,
    /// What no attempt could handle.
    DeadLetters,
    /// How often messages had failed that were given back.
    Releases,
}

impl StreamKind {
    pub(crate) fn name(self, names: &Names) -> String {
        names.stream(match self {
            Self::Events | Self::EventsAndResponses => "events",
            Self::Commands => "commands",
            Self::DeadLetters => "dead-letters",
            Self::Releases => "releases",
        })
    }

    fn subjects(self, names: &Names) -> Vec<String> {
        let all_of = |types: &[MessageType]| -> Vec<_> {
            types.iter().map(|message_type| names.all_of_type(*message_type)).collect()
        };
        let emitted = || {
            MessageType::ALL
                .iter()
                .copied()
                .filter(|message_type| message_type.is_info() || *message_type == MessageType::CustomMessage)
        };
        match self {
            Self::Events => all_of(&emitted().collect::<Vec<_>>()),
            Self::EventsAndResponses => {
                let further = [
                    MessageType::CommandSuccessResponse,
                    MessageType::CommandErrorResponse,
                    MessageType::Stream,
                ];
                all_of(&emitted().chain(further).collect::<Vec<_>>())
            }
            Self::Commands => all_of(&[MessageType::Command]),
            Self::DeadLetters => vec![names.of_any_consumer("dead_letter")],
            Self::Releases => vec![names.of_any_consumer("released")],
        }
    }

    fn config(self, names: &Names, config: &JetStreamConfig) -> StreamConfig {
        let limit = |limit: Option<u64>| limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(-1));
        let base = StreamConfig {
            name: self.name(names),
            description: Some("PURISTA".to_owned()),
            subjects: self.subjects(names),
            storage: StorageType::File,
            num_replicas: config.replicas(),
            duplicate_window: config.duplicate_window(),
            discard: DiscardPolicy::New,
            max_messages: -1,
            max_bytes: limit(Some(config.max_bytes())),
            max_messages_per_subject: -1,
            max_consumers: -1,
            ..StreamConfig::default()
        };
        match self {
            Self::Events | Self::EventsAndResponses | Self::Commands => StreamConfig {
                retention: RetentionPolicy::Interest,
                max_messages: limit(config.max_messages),
                max_messages_per_subject: limit(config.max_messages_per_subject),
                discard_new_per_subject: config.max_messages_per_subject.is_some(),
                max_age: config.max_age.unwrap_or_default(),
                no_ack: self == Self::Commands,
                // The window must not be longer than the age.
                duplicate_window: config
                    .max_age
                    .map_or(config.duplicate_window(), |age| age.min(config.duplicate_window())),
                ..base
            },
            Self::DeadLetters => {
                StreamConfig { max_messages: limit(Some(config.max_dead_letters())), ..base }
            }
            Self::Releases => StreamConfig {
                max_bytes: limit(Some(config.max_bytes().min(MAX_RELEASE_BYTES))),
                max_messages: MAX_RELEASES,
                max_messages_per_subject: 1,
                max_age: RELEASES_KEPT,
                discard: DiscardPolicy::Old,
                allow_direct: true,
                ..base
            },
        }
    }
}

/// Creates a stream, or adopts one that exists if it keeps what it has to. Its limits may differ.
pub(crate) async fn ensure(connection: &Connection, kind: StreamKind, until: Instant) -> Result<()> {
    find_or_create(connection, kind, false, until).await
}

/// As [`ensure`]; limits that were asked for are raised, never lowered, as others may count on them.
pub(crate) async fn ensure_with_limits(
    connection: &Connection,
    kind: StreamKind,
    until: Instant,
) -> Result<()> {
    find_or_create(connection, kind, true, until).await
}

async fn find_or_create(
    connection: &Connection,
    kind: StreamKind,
    with_limits: bool,
    until: Instant,
) -> Result<()> {
    let Some(config) = connection.jetstream() else { return Ok(()) };
    if kind == StreamKind::Commands {
        connection.keeps_commands.store(true, Ordering::Release);
    }
    let wanted = kind.config(&connection.names, config);
    let name = &wanted.name;
    let mut found = find(connection, name, until).await?;
    if found.is_none() && connection.known_streams.lock().contains(name) {
        sleep(SETTLING).await;
        found = find(connection, name, until).await?;
    }
    let found = match found {
        Some(found) => found,
        None => match create(connection, &wanted, least_bytes(config, &wanted), until).await? {
            Ok(()) => {
                connection.known_streams.lock().insert(name.clone());
                return Ok(());
            }
            // Another instance may have been faster, with other limits.
            Err(refusal) if refusal.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                find(connection, name, until).await?.ok_or_else(|| mismatch(name, &refusal))?
            }
            Err(refusal) => return Err(mismatch(name, &refusal)),
        },
    };
    connection.known_streams.lock().insert(name.clone());
    let typed = serde_json::from_value(found.clone())
        .map_err(|cause| error(ErrorKind::Unexpected, "start").with_source(cause))?;
    check(&wanted, &typed)?;
    let mut more = found.clone();
    let missing = missing_subjects(&wanted, &typed);
    if !missing.is_empty() {
        more["subjects"] = typed.subjects.iter().cloned().chain(missing).collect();
    }
    if with_limits {
        raise(&mut more, kind, config);
    }
    if more == found {
        return Ok(());
    }
    tracing::info!(stream = name, %more, "a stream is changed: it keeps more from now on");
    let updated = connection.api::<Found>(&format!("STREAM.UPDATE.{name}"), body(&more), until).await?;
    updated.map(drop).map_err(|refusal| mismatch(name, &refusal))
}

/// Creates a stream, with less room if the server has not as much and that is allowed.
async fn create(
    connection: &Connection,
    wanted: &StreamConfig,
    least_bytes: i64,
    until: Instant,
) -> Result<Result<(), jetstream::Error>> {
    let mut wanted = wanted.clone();
    loop {
        let request = format!("STREAM.CREATE.{}", wanted.name);
        match connection.api::<Found>(&request, body(&wanted), until).await? {
            Ok(_) => return Ok(Ok(())),
            Err(refusal) if is_short_of_room(&refusal) && wanted.max_bytes / 2 >= least_bytes => {
                wanted.max_bytes /= 2;
                tracing::warn!(
                    stream = wanted.name, max_bytes = wanted.max_bytes, %refusal,
                    "the server has less room than a stream takes by default"
                );
            }
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
}

fn is_short_of_room(refusal: &jetstream::Error) -> bool {
    is_no_room(refusal)
        || matches!(
            refusal.error_code(),
            ErrorCode::ACCOUNT_RESOURCES_EXCEEDED | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED
        )
}

/// Refuses to start where a foreign stream would answer commands with its own acknowledgements, and notes whether one
/// keeps commands.
pub(crate) async fn check_commands(connection: &Connection, until: Instant) -> Result<()> {
    if connection.jetstream().is_none() {
        return Ok(());
    }
    let request = serde_json::json!({ "subject": connection.names.all_of_type(MessageType::Command) });
    let known: Known = match connection.api("STREAM.NAMES", body(&request), until).await? {
        Ok(known) => known,
        Err(refusal) => return Err(refused(&refusal, "start")),
    };
    for name in known.streams.into_iter().flatten() {
        let found = find(connection, &name, until).await?;
        if found.is_some_and(|found| found.get("no_ack") != Some(&Value::Bool(true))) {
            let context =
                format!("the stream {name} acknowledges commands, which answers them: set its no_ack");
            return Err(error(ErrorKind::TopologyMismatch, "start").with_context(context));
        }
        connection.keeps_commands.store(true, Ordering::Release);
    }
    Ok(())
}

#[derive(Deserialize)]
pub(crate) struct Found {
    /// As it is: a later server has settings that are not known here, and they have to stay.
    pub(crate) config: Value,
}

/// Returns when a stream was created, which tells it from another one of the same name.
pub(crate) async fn created(connection: &Connection, kind: StreamKind, until: Instant) -> Result<String> {
    let name = kind.name(&connection.names);
    match connection.api::<Created>(&format!("STREAM.INFO.{name}"), Bytes::new(), until).await? {
        Ok(Created { created }) => Ok(created),
        Err(refusal) => Err(refused(&refusal, "start")),
    }
}

#[derive(Deserialize)]
struct Created {
    created: String,
}

#[derive(Deserialize)]
struct Known {
    streams: Option<Vec<String>>,
}

async fn find(connection: &Connection, name: &str, until: Instant) -> Result<Option<Value>> {
    match connection.api::<Found>(&format!("STREAM.INFO.{name}"), Bytes::new(), until).await? {
        Ok(found) => Ok(Some(found.config)),
        Err(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
        Err(refusal) => Err(refused(&refusal, "start")),
    }
}

fn mismatch(name: &str, refusal: &jetstream::Error) -> purista_core::Error {
    let translated = refused(refusal, "start");
    // A store that is too small for the limits is no matter of time.
    let kind = if is_no_room(refusal) { ErrorKind::InvalidConfig } else { translated.kind() };
    error(kind, "start").with_context(format!("the stream {name}: {translated}"))
}

/// Checks what a stream's limits do not change.
fn check(wanted: &StreamConfig, found: &StreamConfig) -> Result<()> {
    let differs = [
        ("retention", wanted.retention != found.retention),
        ("no_ack", wanted.no_ack != found.no_ack),
        ("discard", wanted.discard != found.discard),
        ("sealed", found.sealed),
        ("mirror", found.mirror.is_some()),
        ("allow_direct", wanted.allow_direct && !found.allow_direct),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((what, _)) => {
            let context = format!("the stream {} has another {what}", wanted.name);
            Err(error(ErrorKind::TopologyMismatch, "start").with_context(context))
        }
    }
}

pub(crate) fn missing_subjects(wanted: &StreamConfig, found: &StreamConfig) -> Vec<String> {
    let covered = |subject: &String| found.subjects.iter().any(|known| covers(known, subject));
    wanted.subjects.iter().filter(|subject| !covered(subject)).cloned().collect()
}

/// Returns whether all subjects of one pattern are subjects of the other.
pub(crate) fn covers(pattern: &str, narrower: &str) -> bool {
    let (mut wide, mut narrow) = (pattern.split('.'), narrower.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_keep_what_they_are_for() {
        use StreamKind::{Commands, DeadLetters, Events, EventsAndResponses, Releases};
        let (names, config) = (Names::new("purista", None).unwrap(), JetStreamConfig::default());
        let events = Events.config(&names, &config);
        assert_eq!(events.name, "purista-events");
        assert_eq!(events.subjects.len(), 9);
        assert!(events.subjects.contains(&"purista.custom_message.>".to_owned()));
        let more = EventsAndResponses.config(&names, &config);
        // Both kinds of answers, and streams.
        assert_eq!(missing_subjects(&more, &events).len(), 3);
        assert!(missing_subjects(&events, &more).is_empty());
        let captures_commands = |kind: StreamKind| {
            let config = kind.config(&names, &config);
            !config.no_ack && config.subjects.iter().any(|subject| covers(subject, "purista.command.a"))
        };
        assert!(
            ![Events, EventsAndResponses, Commands, DeadLetters, Releases].into_iter().any(captures_commands)
        );
    }

    #[test]
    fn a_stream_that_differs_is_refused_and_one_with_other_limits_is_not() {
        let (names, config) = (Names::new("purista", None).unwrap(), JetStreamConfig::default());
        let wanted = StreamKind::Events.config(&names, &config);
        let other_limits = StreamConfig { max_bytes: 1, max_messages: 1, num_replicas: 3, ..wanted.clone() };
        assert!(check(&wanted, &other_limits).is_ok());
        for differs in [
            StreamConfig { retention: RetentionPolicy::Limits, ..wanted.clone() },
            StreamConfig { no_ack: true, ..wanted.clone() },
            StreamConfig { discard: DiscardPolicy::Old, ..wanted.clone() },
            StreamConfig { sealed: true, ..wanted.clone() },
        ] {
            assert_eq!(check(&wanted, &differs).unwrap_err().kind(), ErrorKind::TopologyMismatch);
        }
    }

    #[test]
    fn patterns_cover_their_own() {
        for (wide, narrow, covered) in [
            ("a.>", "a.b.>", true),
            ("a.>", "a.b", true),
            ("a.*", "a.b", true),
            ("a.b", "a.b", true),
            ("a.*", "a.>", false),
            ("a.*", "a", false),
            ("a.>", "a", false),
            ("a.b", "a.*", false),
            ("a.b", "a.b.c", false),
        ] {
            assert_eq!(covers(wide, narrow), covered, "{wide} and {narrow}");
        }
    }
}
