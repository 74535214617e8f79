use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{
    ErrorCode,
    consumer::{AckPolicy, Config, DeliverPolicy},
};
use bytes::Bytes;
use purista_core::{ErrorKind, Filter, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    connection::{Answer, Connection},
    error::error,
    jetstream::body,
    merge::{Wanted, concerns_others, merge},
    refusal::refused,
    streams::{StreamKind, ensure, ensure_with_limits},
};

/// After how long the server removes a transient consumer that nobody asks for messages.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// How many messages of one consumer may be unacknowledged, all instances together: as many as they like. Each of them
/// bounds what it has in hand, and asks for no more than it has free handlers; with a limit here, messages that wait for
/// their next attempt in one instance would keep others from all.
const MAX_ACK_PENDING: i64 = -1;

/// Where a consumer keeps its filter to the letter; its subjects are not exact.
pub(crate) const FILTER: &str = "purista.filter";

/// A consumer at the server: a place in a stream that a subscriber's instances share, or one instance has alone.
#[derive(Clone, Debug)]
pub(crate) struct DurableConsumer {
    name: String,
    stream: StreamKind,
    config: Config,
}

/// How a consumer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) was_created: bool,
    /// Whether an operator has paused it.
    pub(crate) is_paused: bool,
}

#[derive(Deserialize)]
pub(crate) struct Info {
    /// As it is: a later server has settings that are not known here, and they have to stay.
    pub(crate) config: Value,
    #[serde(default)]
    paused: bool,
}

/// Somebody else has created or removed the consumer meanwhile.
struct Faster;

#[derive(Serialize)]
struct Change<'a, C> {
    stream_name: &'a str,
    config: &'a C,
    /// So that two instances do not undo what the other one does.
    action: &'static str,
}

impl DurableConsumer {
    pub(crate) fn new(
        name: String,
        stream: StreamKind,
        subjects: String,
        filter: &Filter,
        ack_wait: Duration,
        is_durable: bool,
    ) -> Self {
        let config = Config {
            durable_name: Some(name.clone()),
            name: Some(name.clone()),
            deliver_policy: DeliverPolicy::New,
            ack_policy: AckPolicy::Explicit,
            ack_wait,
            max_deliver: -1,
            max_ack_pending: MAX_ACK_PENDING,
            filter_subject: subjects,
            inactive_threshold: if is_durable { Duration::ZERO } else { FORGOTTEN_AFTER },
            metadata: HashMap::from([(FILTER.to_owned(), filter.exact())]),
            ..Config::default()
        };
        Self { name, stream, config }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn stream(&self) -> StreamKind {
        self.stream
    }

    pub(crate) const fn ack_wait(&self) -> Duration {
        self.config.ack_wait
    }

    /// Returns after how long without a request the server removes it.
    pub(crate) fn is_forgotten_after(&self) -> Option<Duration> {
        Some(self.config.inactive_threshold).filter(|threshold| !threshold.is_zero())
    }

    /// Returns where messages are asked for.
    pub(crate) fn next_subject(&self, connection: &Connection) -> String {
        format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream.name(&connection.names), self.name)
    }

    /// Returns the subject that all instances listen to, by which they find out whether there are others.
    pub(crate) fn members(&self, connection: &Connection) -> String {
        connection.names.of_consumer("member", &self.name)
    }

    /// Creates it, or adopts one that exists: see [`merge`] for what becomes of one with other settings.
    ///
    /// `begin` is where a new one begins. `is_member` tells whether this instance uses it already.
    pub(crate) async fn ensure(
        &self,
        connection: &Connection,
        begin: DeliverPolicy,
        is_member: bool,
        until: Instant,
    ) -> Result<Found> {
        if is_member {
            ensure(connection, self.stream, until).await?;
        } else {
            ensure_with_limits(connection, self.stream, until).await?;
        }
        let stream = self.stream.name(&connection.names);
        let config = Config { deliver_policy: begin, ..self.config.clone() };
        // Another instance may be about to create or to remove it.
        for _attempt in 0..4 {
            let Some(Info { config: known, paused }) = self.find(connection, until).await? else {
                let change = Change { stream_name: &stream, config: &config, action: "create" };
                match self.change(connection, &stream, body(&change), until).await? {
                    Ok(()) => return Ok(Found { was_created: true, is_paused: false }),
                    Err(_) => continue,
                }
            };
            let wanted = Wanted {
                name: &self.name,
                filter_subject: &self.config.filter_subject,
                filter: self.config.metadata.get(FILTER).map_or("", String::as_str),
                ack_wait: self.config.ack_wait,
                inactive_threshold: self.config.inactive_threshold,
            };
            let is_shared =
                is_member || (concerns_others(&wanted, &known) && self.has_members(connection).await?);
            let Some(merged) = merge(&wanted, &known, is_shared)? else {
                return Ok(Found { was_created: false, is_paused: paused });
            };
            let change = Change { stream_name: &stream, config: &merged, action: "update" };
            if self.change(connection, &stream, body(&change), until).await?.is_ok() {
                return Ok(Found { was_created: false, is_paused: paused });
            }
        }
        let context = format!("the consumer {} is changed by somebody else all the time", self.name);
        Err(error(ErrorKind::Unavailable, "register").with_context(context))
    }

    /// Changes it, unless somebody else was faster.
    async fn change(
        &self,
        connection: &Connection,
        stream: &str,
        change: Bytes,
        until: Instant,
    ) -> Result<Result<(), Faster>> {
        let request = format!("CONSUMER.CREATE.{stream}.{}", self.name);
        match connection.api::<Value>(&request, change, until).await? {
            Ok(_) => Ok(Ok(())),
            Err(refusal) => match refusal.error_code() {
                ErrorCode::CONSUMER_ALREADY_EXISTS
                | ErrorCode::CONSUMER_NAME_EXIST
                | ErrorCode::CONSUMER_DOES_NOT_EXIST
                | ErrorCode::CONSUMER_NOT_FOUND => Ok(Err(Faster)),
                _ => Err(refused(&refusal, "register")),
            },
        }
    }

    async fn find(&self, connection: &Connection, until: Instant) -> Result<Option<Info>> {
        let stream = self.stream.name(&connection.names);
        let request = format!("CONSUMER.INFO.{stream}.{}", self.name);
        match connection.api::<Info>(&request, Bytes::new(), until).await? {
            Ok(info) => Ok(Some(info)),
            Err(refusal) if refusal.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(None),
            Err(refusal) => Err(refused(&refusal, "register")),
        }
    }

    async fn has_members(&self, connection: &Connection) -> Result<bool> {
        connection.publish_to_somebody(self.members(connection).into(), None, Bytes::new()).await
    }

    /// Removes a transient consumer if no instance is left.
    pub(crate) async fn leave(&self, connection: &Connection, until: Instant) -> Result<()> {
        if self.is_forgotten_after().is_none() || !connection.is_up() {
            return Ok(());
        }
        if self.has_members(connection).await? {
            return Ok(());
        }
        // Another instance may have made it durable.
        let is_transient =
            |info: Info| info.config.get("inactive_threshold").and_then(Value::as_u64) > Some(0);
        if !self.find(connection, until).await?.is_some_and(is_transient) {
            return Ok(());
        }
        let stream = self.stream.name(&connection.names);
        let request = format!("CONSUMER.DELETE.{stream}.{}", self.name);
        match connection.api::<Value>(&request, Bytes::new(), until).await? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(()),
            Err(refusal) => Err(refused(&refusal, "unregister")),
        }
    }

    /// Asks the consumer, by an acknowledgement of nothing, whether it takes acknowledgements.
    pub(crate) async fn takes_acknowledgements(&self, connection: &Connection, until: Instant) -> Answer {
        let stream = self.stream.name(&connection.names);
        let subject = format!("$JS.ACK.{stream}.{}.1.{}.1.1.0", self.name, i64::MAX);
        connection.ping(subject.into(), Bytes::from_static(b"+WPI"), until).await
    }

    /// Returns whether a subject is where its messages are acknowledged.
    pub(crate) fn is_acknowledged_at(&self, connection: &Connection, subject: &str) -> bool {
        let stream = self.stream.name(&connection.names);
        subject.starts_with("$JS.ACK.") && subject.contains(&format!(".{stream}.{}.", self.name))
    }
}
