//! What is sent to find out something: whether all has arrived, whether others are there, whether they can share.

use std::time::Duration;

use bytes::Bytes;
use purista_core::{Capability, ErrorKind, Result};
use rumqttc::Publish;
use tokio::time::timeout;

use crate::{
    codec::{self, marker, probe, question},
    connection::Connection,
    error::{error, lost},
    routes::ROUND_TRIP,
};

/// How long others may take to say that they are there.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// How long a message may take to whom it is shared with: a start fails for good without it.
const SHARE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a way to the broker and back may take.
const ROUND_TRIP_PATIENCE: Duration = Duration::from_secs(10);

impl Connection {
    /// Waits until everything has arrived that the broker had for us before.
    pub(crate) async fn round_trip(&self) -> Result<()> {
        let (number, back) = self.round_trips().begin();
        let topic = self.names.round_trip(self.client_id());
        let session = self.session();
        session.publish_once(topic, Bytes::copy_from_slice(&number.to_be_bytes()), marker(), "send").await?;
        tokio::select! {
            back = timeout(ROUND_TRIP_PATIENCE, back) => match back {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(lost("send")),
            },
            () = session.lost() => Err(lost("send")),
        }
    }

    /// Asks those who listen to a topic whether they are there, and whether they listen to the same; returns what the first
    /// one answers. That the broker has somebody for it says little: others may listen to everything.
    pub(crate) async fn ask(&self, topic: String, listens_to: Option<&str>) -> Result<Option<bool>> {
        let (number, back) = self.round_trips().begin();
        let headers = question(self.names.round_trip(self.client_id()), listens_to);
        let number = Bytes::copy_from_slice(&number.to_be_bytes());
        if !self.session().publish_once(topic, number, headers, "ask").await? {
            return Ok(None);
        }
        Ok(timeout(ANSWER_PATIENCE, back).await.ok().and_then(Result::ok))
    }

    /// Answers somebody who asks whether we are there.
    pub(crate) async fn answer(&self, question: &Publish, listens_to: &str) {
        let topic = question.properties.as_ref().and_then(|properties| properties.response_topic.clone());
        let Some(topic) = topic.filter(|topic| self.names.is_round_trip(topic)) else { return };
        let mut answer = question.payload.to_vec();
        if codec::listens_to(question).is_some_and(|other| other != listens_to) {
            answer.push(0);
        }
        // Who asks goes on without an answer.
        let _lost = self.session().send(topic, answer.into(), probe()).await;
    }

    /// Makes sure that shared subscriptions get what they ask for: Mosquitto takes them behind a mount point, and delivers
    /// nothing.
    pub(crate) async fn can_share(&self) -> Result<()> {
        let topic = format!("{}-shared", self.names.round_trip(self.client_id()));
        let filter = format!("$share/{}/{topic}", self.client_id());
        let session = self.session();
        session.subscribe(std::slice::from_ref(&filter), Some(ROUND_TRIP)).await?;
        let (number, back) = self.round_trips().begin();
        let number = Bytes::copy_from_slice(&number.to_be_bytes());
        let has_taker = session.publish_once(topic, number, probe(), "start").await?;
        let came = has_taker && timeout(SHARE_PATIENCE, back).await.is_ok();
        session.unsubscribe(&filter).await?;
        if came || session.is_lost() {
            return Ok(());
        }
        let kind = ErrorKind::Unsupported(Capability::SharedSubscriptions);
        Err(error(kind, "start")
            .with_context("shared subscriptions get nothing: is it the listener's mount_point?"))
    }
}
