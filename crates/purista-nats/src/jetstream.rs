//! Requests to JetStream's API, and publishes that it acknowledges.

use std::time::Duration;

use async_nats::{
    HeaderName, StatusCode, Subject,
    jetstream::{self, ErrorCode, response::Response},
};
use bytes::Bytes;
use purista_core::{ErrorKind, Result, adapter::Backoff};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    codec::message_id_headers,
    connection::Connection,
    error::{error, refused},
    replies::Outcome,
    streams::{StreamKind, ensure},
};

/// How long the API may take to answer.
const API_TIMEOUT: Duration = Duration::from_secs(5);

/// After how long a publish without an acknowledgement is sent again; the server recognises it if it has it.
const PUBLISH_AGAIN: Duration = Duration::from_secs(2);

/// What the API answers where JetStream is off, for the server or for the account.
const NOT_ENABLED: [ErrorCode; 2] =
    [ErrorCode::JETSTREAM_NOT_ENABLED, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT];

/// What is published to a stream.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) stream: StreamKind,
    pub(crate) subject: Subject,
    /// By which the server recognises the message when it is published again.
    pub(crate) id: String,
    pub(crate) header: Option<(HeaderName, String)>,
    pub(crate) payload: Bytes,
}

/// The server's answer to a publish.
#[derive(Deserialize)]
struct PublishAnswer {
    #[serde(rename = "seq")]
    sequence: Option<u64>,
    error: Option<jetstream::Error>,
}

pub(crate) enum Verdict {
    Acknowledged,
    /// There is no room, or no leader, at the moment.
    Busy(jetstream::Error),
    NoStream,
    Refused(jetstream::Error),
    Again,
}

impl Connection {
    /// Asks JetStream's API. The inner result is its answer.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        request: &str,
        body: Bytes,
    ) -> Result<Result<T, jetstream::Error>> {
        match self.ask(request, body).await? {
            Some(message) => match serde_json::from_slice(&message.payload) {
                Ok(Response::Ok(answer)) => Ok(Ok(answer)),
                Ok(Response::Err { error }) => Ok(Err(error)),
                Err(cause) => Err(error(ErrorKind::Unexpected, "JetStream").source(cause)),
            },
            None => Err(error(ErrorKind::Unavailable, "JetStream").context("the server has none")),
        }
    }

    /// Asks JetStream's API; `None` if nobody is there to answer.
    pub(crate) async fn ask(&self, request: &str, body: Bytes) -> Result<Option<async_nats::Message>> {
        let subject = Subject::from(format!("$JS.API.{request}"));
        let mut reply = self.publish_for_reply(subject, None, body, API_TIMEOUT).await?;
        match reply.outcome().await {
            Outcome::Reply(message) if message.status == Some(StatusCode::NO_RESPONDERS) => Ok(None),
            Outcome::Reply(message) => Ok(Some(message)),
            Outcome::Forbidden => Err(error(ErrorKind::Forbidden, "JetStream")),
            Outcome::Lost => Err(error(ErrorKind::Unavailable, "JetStream")),
        }
    }

    /// Returns whether the server has JetStream for us.
    pub(crate) async fn has_jetstream(&self) -> Result<bool> {
        let Some(message) = self.ask("INFO", Bytes::new()).await? else { return Ok(false) };
        match serde_json::from_slice(&message.payload) {
            Ok(Response::<serde_json::Value>::Ok(_)) => Ok(true),
            Ok(Response::Err { error }) if NOT_ENABLED.contains(&error.error_code()) => Ok(false),
            Ok(Response::Err { error }) => Err(refused(&error, "start")),
            Err(cause) => Err(error(ErrorKind::Unexpected, "JetStream").source(cause)),
        }
    }

    /// Publishes to a stream; returns when the server has acknowledged that it keeps the message, or knows that nobody
    /// wants it kept. Lost connections and lost acknowledgements are made up for.
    pub(crate) async fn publish_kept(&self, publication: &Publication, deadline: Instant) -> Result<()> {
        if !self.room.is_waited_for() {
            let verdict = self.try_publish(publication).await?;
            if matches!(verdict, Verdict::Acknowledged) {
                return Ok(());
            }
        }
        // Boxed, as most are acknowledged at once and should not carry room for what follows.
        Box::pin(self.publish_again(publication, deadline)).await
    }

    async fn publish_again(&self, publication: &Publication, deadline: Instant) -> Result<()> {
        let mut turn = self.room.turn_behind_others(&publication.subject, deadline).await?;
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(25));
        loop {
            let busy = match self.try_publish(publication).await? {
                Verdict::Acknowledged => return Ok(()),
                Verdict::Again => None,
                Verdict::NoStream => {
                    // It was deleted, or it is the first one of its kind.
                    ensure(self, publication.stream).await?;
                    None
                }
                Verdict::Busy(busy) => Some(busy),
                Verdict::Refused(refusal)
                    if refusal.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM =>
                {
                    let kind = ErrorKind::payload_too_large(publication.payload.len(), self.max_message());
                    return Err(error(kind, "emit").context(refusal.to_string()));
                }
                Verdict::Refused(refusal) => return Err(refused(&refusal, "emit")),
            };
            let pause = backoff.next_delay();
            if let Some(busy) = busy {
                if Instant::now() + pause >= deadline {
                    sleep_until(deadline).await;
                    return Err(error(ErrorKind::Backpressure, "emit").context(busy.to_string()));
                }
                if turn.is_none() {
                    turn = Some(self.room.turn(&publication.subject, deadline).await?);
                    continue;
                }
            }
            sleep(pause).await;
        }
    }

    async fn try_publish(&self, publication: &Publication) -> Result<Verdict> {
        if !self.is_up() {
            Box::pin(self.ready()).await?;
        }
        let Publication { subject, id, header, payload, .. } = publication;
        let mut headers = message_id_headers(id);
        if let Some((name, value)) = header {
            headers.insert(name.clone(), value.as_str());
        }
        let (subject, payload) = (subject.clone(), payload.clone());
        let mut reply = self.publish_for_reply(subject, Some(headers), payload, PUBLISH_AGAIN).await?;
        match reply.outcome().await {
            Outcome::Reply(message) => Ok(verdict(&message)),
            Outcome::Forbidden => Err(error(ErrorKind::Forbidden, "emit")),
            Outcome::Lost => Ok(Verdict::Again),
        }
    }
}

pub(crate) fn verdict(message: &async_nats::Message) -> Verdict {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Verdict::NoStream;
    }
    match serde_json::from_slice(&message.payload) {
        Ok(PublishAnswer { sequence: Some(_), error: None }) => Verdict::Acknowledged,
        Ok(PublishAnswer { error: Some(error), .. }) if error.code() == 503 => Verdict::Busy(error),
        Ok(PublishAnswer { error: Some(error), .. }) => Verdict::Refused(error),
        // Some subscriber has answered, which is not asked of it: the acknowledgement is lost with that.
        Ok(_) | Err(_) => Verdict::Again,
    }
}

/// Makes the body of a request.
pub(crate) fn body(request: &impl Serialize) -> Bytes {
    // Configurations always have a form in JSON.
    serde_json::to_vec(request).unwrap_or_default().into()
}
