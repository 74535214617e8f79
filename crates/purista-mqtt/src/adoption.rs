use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use purista_core::Result;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    attach::{Attachment, waits},
    codec::{failed_attempts, kept, marker},
    connection::Connection,
    error::lost,
    hand_over::HandOver,
    options::SessionSpec,
    session::{Arrival, Session},
};

/// How long nothing may happen before an adoption is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session that an instance left when it shut down, for the messages that come while no instance of its subscriber is
/// there. One is there now, so the session is emptied and ended.
#[derive(Debug)]
pub(crate) struct Adoption {
    connection: Arc<Connection>,
    hand_over: Arc<HandOver>,
    session: Session,
    arrivals: mpsc::Receiver<Arrival>,
    /// Where it is kept what the session listens to, and what that is.
    record: String,
    offer: Bytes,
    /// What comes last.
    end: String,
}

impl Adoption {
    /// Adopts all that wait for a subscriber that is attached now: nothing new comes to them.
    pub(crate) async fn begin(attachment: &Attachment) -> Result<Vec<Self>> {
        let mut adopted = Vec::new();
        let Some(hand_over) = attachment.hand_over.as_ref().filter(|_| attachment.is_durable) else {
            return Ok(adopted);
        };
        let connection = &attachment.connection;
        for record in connection.kept(&connection.names.sessions(Some(&attachment.subscriber))).await? {
            let topic = String::from_utf8_lossy(&record.topic).into_owned();
            let client_id = topic.rsplit('/').next().unwrap_or_default().to_owned();
            // Others may write there, too.
            let is_ours = connection.names.is_subscriber_client(&attachment.subscriber, &client_id);
            if !waits(&record) || !is_ours || client_id == attachment.spec.client_id {
                continue;
            }
            let spec = SessionSpec { client_id, ..attachment.spec.clone() };
            let (inbox, arrivals) = mpsc::channel(usize::from(spec.receive_maximum) + 1);
            let session = Session::open(&connection.config, &spec, inbox).await?;
            let adoption = Self {
                connection: Arc::clone(connection),
                hand_over: Arc::clone(hand_over),
                session,
                arrivals,
                end: connection.names.round_trip(&spec.client_id),
                offer: record.payload,
                record: topic,
            };
            if adoption.is_still_offered().await? {
                adoption.session.unsubscribe(&String::from_utf8_lossy(&adoption.offer)).await?;
                adopted.push(adoption);
            }
        }
        Ok(adopted)
    }

    /// Returns whether its instance has not come back meanwhile.
    async fn is_still_offered(&self) -> Result<bool> {
        let records = self.connection.kept(&self.record).await?;
        Ok(!self.session.is_lost() && records.iter().any(|record| record.payload == self.offer))
    }

    /// Hands over what waits.
    pub(crate) async fn finish(mut self) {
        let closing = self.connection.closing().clone();
        tokio::select! {
            emptied = self.empty() => if let Err(error) = emptied {
                tracing::debug!(%error, record = self.record, "not all that waits could be handed over");
            },
            () = closing.cancelled() => {}
        }
    }

    async fn empty(&mut self) -> Result<()> {
        if self.session.is_resumed {
            self.session.subscribe(std::slice::from_ref(&self.end), None).await?;
            self.connection.publish_once(self.end.clone(), Bytes::new(), marker(), "adopt").await?;
            loop {
                let arrival = timeout(PATIENCE, self.arrivals.recv()).await.ok().flatten();
                let arrival = arrival.ok_or_else(|| lost("adopt"))?;
                let publish = &arrival.publish;
                if publish.topic == self.end {
                    break;
                }
                if !self.hand_over.give(publish, failed_attempts(publish)).await? {
                    return Err(lost("adopt").context("no instance is there any more"));
                }
                arrival.client.ack(publish).await.map_err(|_| lost("adopt"))?;
            }
        }
        if !self.is_still_offered().await? {
            return Ok(());
        }
        self.session.disconnect(true).await;
        self.connection.publish_once(self.record.clone(), Bytes::new(), kept(None), "adopt").await.map(drop)
    }
}
