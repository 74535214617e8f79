//! Requests to JetStream's API, and publishes that it acknowledges.

use std::time::Duration;

use async_nats::{
    HeaderName, StatusCode, Subject,
    jetstream::{self, response::Response},
};
use bytes::Bytes;
use purista_core::{ErrorKind, Result, adapter::Backoff};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{
    codec::message_id_headers,
    connection::Connection,
    error::error,
    refusal::{is_no_room, is_not_enabled, is_not_now, is_too_large, refused},
    replies::NoReply,
    streams::{StreamKind, ensure},
};

/// After how long the API is asked again: in an election, questions are lost.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// How long a stream that was found to be there is not looked for again.
const ENSURED: Duration = Duration::from_millis(100);

/// After how long a publish without an acknowledgement is sent again; the server recognises it if it has it.
const PUBLISH_AGAIN: Duration = Duration::from_secs(2);

/// What is published to a stream.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) stream: StreamKind,
    pub(crate) subject: Subject,
    /// By which the server recognises the message when it is published again.
    pub(crate) id: String,
    pub(crate) header: Option<(HeaderName, String)>,
    pub(crate) payload: Bytes,
    /// Whether it waits for room in the stream, up to its deadline.
    pub(crate) waits_for_room: bool,
}

/// The server's answer to a publish.
#[derive(Deserialize)]
struct PublishAnswer {
    #[serde(rename = "seq")]
    sequence: Option<u64>,
    error: Option<jetstream::Error>,
}

pub(crate) enum Confirm {
    Acknowledged,
    /// There is no room at the moment.
    NoRoom(jetstream::Error),
    /// There is no leader at the moment.
    NotNow(jetstream::Error),
    NoStream,
    Refused(jetstream::Error),
    Again,
}

/// What became of one question to the API.
enum Asked {
    Answer(async_nats::Message),
    Nobody,
    Lost,
}

impl Connection {
    /// Asks JetStream's API, again and again while the answer is "not now". The inner result is its answer.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        request: &str,
        body: Bytes,
        until: Instant,
    ) -> Result<Result<T, jetstream::Error>> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            let not_now = |text: &str| {
                error(ErrorKind::Unavailable, "JetStream").with_context(format!("{request}: {text}"))
            };
            let not_now = match self.ask(request, body.clone(), until).await? {
                Asked::Answer(message) => match serde_json::from_slice(&message.payload) {
                    Ok(Response::Ok(answer)) => return Ok(Ok(answer)),
                    Ok(Response::Err { error }) if is_not_now(&error) => not_now(&error.to_string()),
                    Ok(Response::Err { error }) => return Ok(Err(error)),
                    Err(cause) => return Err(error(ErrorKind::Unexpected, "JetStream").with_source(cause)),
                },
                Asked::Nobody => not_now("nobody answers"),
                Asked::Lost => not_now("no answer"),
            };
            let pause = backoff.next_delay();
            if Instant::now() + pause >= until {
                return Err(not_now);
            }
            tracing::debug!(error = %not_now, "JetStream is asked again");
            sleep(pause).await;
        }
    }

    /// Asks JetStream's API once.
    async fn ask(&self, request: &str, body: Bytes, until: Instant) -> Result<Asked> {
        let subject = Subject::from(format!("$JS.API.{request}"));
        let patience = ASK_AGAIN.min(until.saturating_duration_since(Instant::now()));
        let mut reply = self.publish_for_reply(subject, None, body, patience).await?;
        match timeout_at(until, reply.received()).await {
            Ok(Ok(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => Ok(Asked::Nobody),
            Ok(Ok(message)) => Ok(Asked::Answer(message)),
            Ok(Err(NoReply::Forbidden)) => {
                Err(error(ErrorKind::Forbidden, "JetStream").with_context(format!("$JS.API.{request}")))
            }
            Ok(Err(NoReply::Lost)) | Err(_) => Ok(Asked::Lost),
        }
    }

    /// Returns the last message of a subject, if there is one and it can be had now.
    pub(crate) async fn last_message(&self, stream: &str, subject: &str) -> Option<async_nats::Message> {
        let until = Instant::now() + ASK_AGAIN;
        match self.ask(&format!("DIRECT.GET.{stream}.{subject}"), Bytes::new(), until).await {
            Ok(Asked::Answer(message)) if message.status.is_none_or(|status| status == StatusCode::OK) => {
                Some(message)
            }
            Ok(_) | Err(_) => None,
        }
    }

    /// Returns whether the server has JetStream for us.
    pub(crate) async fn has_jetstream(&self, until: Instant) -> Result<bool> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            let not_now = match self.ask("INFO", Bytes::new(), until).await? {
                Asked::Nobody => return Ok(false),
                Asked::Answer(message) => match serde_json::from_slice(&message.payload) {
                    Ok(Response::<serde_json::Value>::Ok(_)) => return Ok(true),
                    Ok(Response::Err { error }) if is_not_enabled(&error) => return Ok(false),
                    Ok(Response::Err { error }) if is_not_now(&error) => refused(&error, "start"),
                    Ok(Response::Err { error }) => return Err(refused(&error, "start")),
                    Err(cause) => return Err(error(ErrorKind::Unexpected, "JetStream").with_source(cause)),
                },
                Asked::Lost => {
                    error(ErrorKind::Unavailable, "start").with_context("JetStream does not answer")
                }
            };
            let pause = backoff.next_delay();
            if Instant::now() + pause >= until {
                return Err(not_now);
            }
            sleep(pause).await;
        }
    }

    /// Publishes to a stream; returns when the server has acknowledged that it keeps the message, or knows that nobody
    /// wants it kept. It is published again when a connection or an acknowledgement was lost.
    pub(crate) async fn publish_kept(&self, publication: &Publication, deadline: Instant) -> Result<()> {
        if !self.room.is_waited_for() {
            let confirm = self.try_publish(publication).await?;
            if matches!(confirm, Confirm::Acknowledged) {
                return Ok(());
            }
        }
        // Boxed, as most are acknowledged at once and should not carry room for what follows.
        Box::pin(self.publish_again(publication, deadline)).await
    }

    async fn publish_again(&self, publication: &Publication, deadline: Instant) -> Result<()> {
        let mut turn = self.room.turn_behind_others(&publication.subject, deadline).await?;
        let mut room = Backoff::new(Duration::from_millis(1), Duration::from_millis(25));
        let mut election = Backoff::new(Duration::from_millis(5), Duration::from_millis(250));
        loop {
            let (later, pause) = match self.try_publish(publication).await? {
                Confirm::Acknowledged => return Ok(()),
                Confirm::NoRoom(refusal) => {
                    if !publication.waits_for_room {
                        return Err(refused(&refusal, "emit"));
                    }
                    let pause = room.next_delay();
                    if turn.is_none() && Instant::now() + pause < deadline {
                        turn = Some(self.room.turn(&publication.subject, deadline).await?);
                        continue;
                    }
                    (refused(&refusal, "emit"), pause)
                }
                Confirm::NotNow(refusal) => (refused(&refusal, "emit"), election.next_delay()),
                Confirm::Again => {
                    let context = "the server did not acknowledge";
                    (error(ErrorKind::Timeout, "emit").with_context(context), election.next_delay())
                }
                // It was deleted, it is the first one of its kind, or it has no leader.
                Confirm::NoStream => match self.ensure_together(publication.stream, deadline).await {
                    Ok(()) => {
                        let context = "nobody takes messages for the stream";
                        (error(ErrorKind::Unavailable, "emit").with_context(context), election.next_delay())
                    }
                    Err(error) if error.kind().is_temporary() => (error, election.next_delay()),
                    Err(error) => return Err(error),
                },
                Confirm::Refused(refusal) if is_too_large(&refusal) => {
                    let kind = ErrorKind::payload_too_large(publication.payload.len(), self.max_message());
                    return Err(error(kind, "emit").with_context(refusal.to_string()));
                }
                Confirm::Refused(refusal) => return Err(refused(&refusal, "emit")),
            };
            if Instant::now() + pause >= deadline {
                sleep_until(deadline).await;
                return Err(later);
            }
            sleep(pause).await;
        }
    }

    /// Has all those who miss a stream at the same time ask for it once.
    async fn ensure_together(&self, stream: StreamKind, deadline: Instant) -> Result<()> {
        let Ok(mut ensured) = timeout_at(deadline, self.ensured.lock()).await else {
            return Err(
                error(ErrorKind::Unavailable, "emit").with_context("nobody takes messages for the stream")
            );
        };
        if ensured.is_some_and(|(known, at)| known == stream && at.elapsed() < ENSURED) {
            return Ok(());
        }
        ensure(self, stream, deadline).await?;
        *ensured = Some((stream, Instant::now()));
        Ok(())
    }

    async fn try_publish(&self, publication: &Publication) -> Result<Confirm> {
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
        match reply.received().await {
            Ok(message) => Ok(confirm(&message)),
            Err(NoReply::Forbidden) => Err(error(ErrorKind::Forbidden, "emit")),
            Err(NoReply::Lost) => Ok(Confirm::Again),
        }
    }
}

pub(crate) fn confirm(message: &async_nats::Message) -> Confirm {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Confirm::NoStream;
    }
    match serde_json::from_slice(&message.payload) {
        Ok(PublishAnswer { sequence: Some(_), error: None }) => Confirm::Acknowledged,
        Ok(PublishAnswer { error: Some(error), .. }) if is_no_room(&error) => Confirm::NoRoom(error),
        Ok(PublishAnswer { error: Some(error), .. }) if is_not_now(&error) => Confirm::NotNow(error),
        Ok(PublishAnswer { error: Some(error), .. }) => Confirm::Refused(error),
        // Some subscriber has answered, which is not asked of it: the acknowledgement is lost with that.
        Ok(_) | Err(_) => Confirm::Again,
    }
}

/// Makes the body of a request.
pub(crate) fn body(request: &impl Serialize) -> Bytes {
    // Configurations always have a form in JSON.
    serde_json::to_vec(request).unwrap_or_default().into()
}
