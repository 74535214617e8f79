use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{
    ErrorCode,
    consumer::{AckPolicy, Config, DeliverPolicy},
};
use bytes::Bytes;
use purista_core::{ErrorKind, Filter, Result};
use serde::{Deserialize, Serialize};

use crate::{
    connection::Connection,
    error::{error, refused},
    jetstream::body,
    streams::{StreamKind, ensure},
};

/// After how long the server removes a transient consumer that nobody asks for messages.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// How many messages of one consumer may be unacknowledged, all instances together.
const MAX_ACK_PENDING: i64 = 10_000;

/// Where a consumer keeps its filter to the letter; its subjects are not exact.
const FILTER: &str = "purista.filter";

/// A consumer at the server: a place in a stream that a subscriber's instances share, or one instance has alone.
#[derive(Clone, Debug)]
pub(crate) struct DurableConsumer {
    name: String,
    stream: StreamKind,
    config: Config,
}

/// How a consumer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Adopted,
    Created,
}

#[derive(Deserialize)]
pub(crate) struct Info {
    pub(crate) config: Config,
}

#[derive(Serialize)]
struct Create<'a> {
    stream_name: &'a str,
    config: &'a Config,
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

    /// Creates it, or adopts one that exists. One with another filter is changed if nobody uses it.
    ///
    /// `begin` is where a new one begins. `is_member` tells whether this instance uses it already.
    pub(crate) async fn ensure(
        &self,
        connection: &Connection,
        begin: DeliverPolicy,
        is_member: bool,
    ) -> Result<Found> {
        ensure(connection, self.stream).await?;
        let stream = self.stream.name(&connection.names);
        let info =
            connection.api::<Info>(&format!("CONSUMER.INFO.{stream}.{}", self.name), Bytes::new()).await?;
        let (config, found) = match info {
            Ok(Info { config: found }) if self.agrees(&found) => return Ok(Found::Adopted),
            Ok(Info { config: found }) => {
                let has_other_filter = found.metadata.get(FILTER) != self.config.metadata.get(FILTER);
                if has_other_filter && (is_member || self.has_members(connection).await?) {
                    let context =
                        format!("another instance of the subscriber {} has another filter", self.name);
                    return Err(error(ErrorKind::TopologyMismatch, "register").context(context));
                }
                // Where it began cannot be changed.
                (Config { deliver_policy: found.deliver_policy, ..self.config.clone() }, Found::Adopted)
            }
            Err(refusal) if refusal.error_code() == ErrorCode::CONSUMER_NOT_FOUND => {
                (Config { deliver_policy: begin, ..self.config.clone() }, Found::Created)
            }
            Err(refusal) => return Err(refused(&refusal, "register")),
        };
        let create = Create { stream_name: &stream, config: &config };
        let created =
            connection.api::<Info>(&format!("CONSUMER.CREATE.{stream}.{}", self.name), body(&create)).await?;
        created.map(|_| found).map_err(|refusal| refused(&refusal, "register"))
    }

    fn agrees(&self, found: &Config) -> bool {
        found.filter_subject == self.config.filter_subject
            && found.ack_wait == self.config.ack_wait
            && found.inactive_threshold == self.config.inactive_threshold
            && found.max_ack_pending == self.config.max_ack_pending
            && found.metadata.get(FILTER) == self.config.metadata.get(FILTER)
    }

    async fn has_members(&self, connection: &Connection) -> Result<bool> {
        connection.publish_to_somebody(self.members(connection).into(), None, Bytes::new()).await
    }

    /// Removes a transient consumer if no instance is left.
    pub(crate) async fn leave(&self, connection: &Connection) -> Result<()> {
        if self.is_forgotten_after().is_none() || !connection.is_up() {
            return Ok(());
        }
        if self.has_members(connection).await? {
            return Ok(());
        }
        let stream = self.stream.name(&connection.names);
        let request = format!("CONSUMER.DELETE.{stream}.{}", self.name);
        match connection.api::<serde_json::Value>(&request, Bytes::new()).await? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(()),
            Err(refusal) => Err(refused(&refusal, "unregister")),
        }
    }
}
