use std::{sync::Arc, time::Duration};

use purista_core::Result;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    attach::{ARRIVALS, Attachment, copies_in},
    codec::failed_attempts,
    connection::Connection,
    end_marker::{EndMarker, Place},
    error::lost,
    hand_over::HandOver,
    options::SessionSpec,
    session::{Arrival, Session},
    session_record::{SessionRecord, SessionState},
    window::forget,
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
    /// Where its record is kept.
    record: String,
    /// Where its end marker comes.
    end: String,
    /// Where copies of messages are kept that its instance had in hand.
    copies: String,
}

impl Adoption {
    /// Adopts all that wait for a subscriber that is attached now: nothing new comes to them when this returns, and what is
    /// in them is handed over in the background.
    pub(crate) async fn begin_all(attachment: &Attachment) -> Result<()> {
        let Some(hand_over) = attachment.hand_over.as_ref().filter(|_| attachment.is_durable) else {
            return Ok(());
        };
        let connection = &attachment.connection;
        for kept in connection.kept(&connection.names.sessions(Some(&attachment.subscriber))).await? {
            let topic = String::from_utf8_lossy(&kept.topic).into_owned();
            let client_id = topic.rsplit('/').next().unwrap_or_default().to_owned();
            let is_ours = connection.names.is_subscriber_client(&attachment.subscriber, &client_id);
            let Some(found) = SessionRecord::read(&kept.payload).filter(|_| is_ours) else { continue };
            if found.state == SessionState::Attached || client_id == attachment.spec.client_id {
                continue;
            }
            let spec = SessionSpec { client_id, ..attachment.spec.clone() };
            let (inbox, arrivals) = mpsc::channel(ARRIVALS);
            let session = Session::open(&connection.config, &spec, inbox).await?;
            let adoption = Self {
                connection: Arc::clone(connection),
                hand_over: Arc::clone(hand_over),
                session,
                arrivals,
                end: connection.names.round_trip(&spec.client_id),
                copies: connection.names.parked(&attachment.subscriber, &spec.client_id),
                record: topic,
            };
            if adoption.still_has(&found).await? {
                // First, as it does not take what comes after this.
                let leaving = SessionRecord::new(SessionState::Leaving, &found.filter);
                leaving.keep(&adoption.session, &adoption.record, attachment.spec.expiry).await?;
                adoption.session.unsubscribe(&found.filter).await?;
                tokio::spawn(adoption.finish());
            }
        }
        Ok(())
    }

    /// Returns whether its instance has not come back meanwhile.
    async fn still_has(&self, record: &SessionRecord) -> Result<bool> {
        let kept = self.connection.kept(&self.record).await?;
        Ok(kept.iter().any(|kept| SessionRecord::read(&kept.payload).as_ref() == Some(record)))
    }

    /// Hands over what waits.
    async fn finish(mut self) {
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
            let end = EndMarker::send(&self.session, &self.end, "adopt").await?;
            loop {
                let arrival = timeout(PATIENCE, self.arrivals.recv()).await.ok().flatten();
                let arrival = arrival.ok_or_else(|| lost("adopt"))?;
                let publish = &arrival.publish;
                match end.place_of(publish) {
                    Place::End => break,
                    Place::Nowhere => continue,
                    Place::Before => {}
                }
                if !self.hand_over.give(publish, failed_attempts(publish)).await? {
                    return Err(lost("adopt").with_context("no instance is there any more"));
                }
                arrival.client.ack(publish).await.map_err(|_| lost("adopt"))?;
            }
        }
        for copy in copies_in(&self.connection, &self.copies).await? {
            if !self.hand_over.give(&copy, failed_attempts(&copy)).await? {
                return Err(lost("adopt").with_context("no instance is there any more"));
            }
            forget(&self.connection, &String::from_utf8_lossy(&copy.topic)).await?;
        }
        SessionRecord::forget(&self.session, &self.record).await?;
        self.session.disconnect(true).await;
        Ok(())
    }
}
