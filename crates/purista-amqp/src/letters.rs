//! The dead letters in their queue.
//!
//! They are taken without an acknowledgement and given back in their order. RabbitMQ puts them before those that nobody has
//! taken yet, but behind others that were given back: so all of these are taken before any is given back. Until then they
//! are lent to this reader, and no other one sees them. A stream could be read by many at once, but nothing can
//! be removed from one.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use lapin::{
    BasicProperties,
    message::BasicGetMessage,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions},
    protocol::AMQPSoftError,
    types::ShortString,
};
use purista_core::{
    DeadLetter, DeadLetterId, ErrorKind, KeptDeadLetter, Result,
    adapter::{Backoff, DeadLetterReader, ReadFrom, async_trait},
};
use tokio::time::{Instant, sleep};

use crate::{
    attach::count,
    channels::OpenChannel,
    codec::{dead_letter_id, deliveries, metadata, put_back},
    connection::Connection,
    error::{error, from_lapin, soft_error},
    session::Session,
    topology::Route,
};

const OPERATION: &str = "dead letters";

/// RabbitMQ 4 takes messages out of a quorum queue after 20 deliveries, unless its declaration says another number, as
/// ours does. In a queue that was declared by somebody else, a letter is put back at the end before that, as a new one.
const MAX_LENT: u32 = 10;

/// How long what is given back may take until it is there; other readers may have some of it by then.
const RETURNING: Duration = Duration::from_secs(2);

/// Reads the dead letters of a system.
pub(crate) struct Reader {
    connection: Arc<Connection>,
    session: Arc<Session>,
    channel: OpenChannel,
    queue: ShortString,
    /// The letter after which reading begins, as long as it did not come.
    after: Option<DeadLetterId>,
    /// The only letter that is wanted.
    wanted: Option<DeadLetterId>,
    /// How many more were there when reading began; known with the first one.
    left: Option<u32>,
    /// The delivery that came last, as long as it is not removed.
    last: Option<u64>,
    /// How many are lent.
    lent: u32,
    /// Whether the last one was given back before: others behind it may have been as well.
    was_lent_before: bool,
    /// What is put back at the end comes again, and is read then.
    has_own_limit: bool,
    put_back: HashSet<DeadLetterId>,
}

impl Reader {
    pub(crate) async fn open(connection: Arc<Connection>, from: ReadFrom) -> Result<Self> {
        connection.ready().await?;
        let session = connection.session();
        let has_own_limit = connection.dead_letters_have_our_limit(&session).await?;
        let channel = session.channel().await?;
        let (after, wanted) = match from {
            ReadFrom::After(id) => (Some(id), None),
            ReadFrom::At(id) => (None, Some(id)),
            _ => (None, None),
        };
        let queue = connection.dead_letters.name.clone();
        Ok(Self {
            connection,
            session,
            channel,
            queue,
            after,
            wanted,
            left: None,
            last: None,
            lent: 0,
            was_lent_before: false,
            has_own_limit,
            put_back: HashSet::new(),
        })
    }

    /// Takes the next message of those that were there when reading began.
    async fn take(&mut self) -> Result<Option<BasicGetMessage>> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let get = self.channel.basic_get(self.queue.clone(), BasicGetOptions { no_ack: false });
        let taken = match self.session.unless_lost(get).await {
            Some(Ok(taken)) => taken,
            // Nobody has died yet.
            Some(Err(cause)) if soft_error(&cause) == Some(AMQPSoftError::NOTFOUND) => None,
            Some(Err(cause)) => return Err(from_lapin(cause, OPERATION)),
            None => return Err(lost()),
        };
        let Some(taken) = taken else {
            self.left = Some(0);
            return Ok(None);
        };
        self.left = Some(self.left.map_or(taken.message_count, |left| left.saturating_sub(1)));
        self.last = Some(taken.delivery.delivery_tag);
        self.lent += 1;
        self.was_lent_before = taken.delivery.redelivered;
        Ok(Some(taken))
    }

    /// Gives all back that is lent, in its order. Returns when it is there: whoever reads before that would find the
    /// letters behind it, and none of these.
    async fn give_back(&mut self) -> Result<()> {
        while self.was_lent_before && self.lent > 0 && self.take().await?.is_some() {}
        self.last = None;
        let lent = std::mem::take(&mut self.lent);
        if lent == 0 {
            return Ok(());
        }
        let whole = self.count().await?.saturating_add(lent);
        let options = BasicNackOptions { requeue: true, multiple: true };
        // Zero means all.
        match self.session.unless_lost(self.channel.basic_nack(0, options)).await {
            Some(given_back) => given_back.map_err(|cause| from_lapin(cause, OPERATION))?,
            // The broker takes it back by itself.
            None => return Ok(()),
        }
        let deadline = Instant::now() + RETURNING;
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(100));
        while self.count().await? < whole && Instant::now() < deadline {
            sleep(backoff.next_delay()).await;
        }
        Ok(())
    }

    /// Returns how many are there for a reader.
    async fn count(&self) -> Result<u32> {
        match self.session.unless_lost(count(&self.session, &self.queue)).await {
            Some(counted) => Ok(counted?.map_or(0, |count| count.messages)),
            None => Err(lost()),
        }
    }

    /// Begins anew at the first letter.
    async fn rewind(&mut self) -> Result<()> {
        self.give_back().await?;
        (self.after, self.left) = (None, None);
        Ok(())
    }

    /// Puts the letter that came last back at the end, as one that was never delivered.
    async fn move_to_end(&mut self, properties: &BasicProperties, body: Bytes) -> Result<()> {
        let route = Route {
            exchange: ShortString::default(),
            routing_key: self.queue.clone(),
            properties: put_back(properties),
        };
        match self.connection.publish_to_queue(route, body).await? {
            true => self.remove().await,
            false => Err(error(ErrorKind::Unavailable, OPERATION).with_context("the queue is gone")),
        }
    }
}

#[async_trait]
impl DeadLetterReader for Reader {
    async fn next(&mut self) -> Result<Option<KeptDeadLetter>> {
        loop {
            let Some(taken) = self.take().await? else {
                if self.after.is_some() {
                    self.rewind().await?;
                    continue;
                }
                return Ok(None);
            };
            let BasicGetMessage { delivery, .. } = taken;
            let (properties, body) = (delivery.properties, Bytes::from(delivery.data));
            let Some(metadata) = metadata(&properties) else { continue };
            let letter = match DeadLetter::from_metadata(&metadata, body.clone()) {
                Ok(letter) => letter,
                Err(error) => {
                    tracing::debug!(%error, "what is in the queue of dead letters is none");
                    continue;
                }
            };
            let id = dead_letter_id(&properties, &metadata);
            if !self.has_own_limit && deliveries(&properties) >= MAX_LENT && self.put_back.insert(id.clone())
            {
                self.move_to_end(&properties, body).await?;
                self.left = self.left.map(|left| left + 1);
                continue;
            }
            if let Some(after) = &self.after {
                if *after == id {
                    self.after = None;
                }
                continue;
            }
            if self.wanted.as_ref().is_none_or(|wanted| *wanted == id) {
                return Ok(Some(KeptDeadLetter::new(id, letter)));
            }
        }
    }

    async fn remove(&mut self) -> Result<()> {
        let Some(tag) = self.last.take() else { return Ok(()) };
        let ack = self.channel.basic_ack(tag, BasicAckOptions { multiple: false });
        match self.session.unless_lost(ack).await {
            Some(Ok(())) => {
                self.lent -= 1;
                Ok(())
            }
            Some(Err(cause)) => Err(from_lapin(cause, OPERATION)),
            None => Err(lost()),
        }
    }

    /// What is given back before the channel ends is there again for whoever reads next.
    async fn close(mut self: Box<Self>) -> Result<()> {
        self.give_back().await?;
        let close = self.channel.close(200, "the dead letters were read".into());
        match self.session.unless_lost(close).await {
            Some(closed) => closed.map_err(|cause| from_lapin(cause, OPERATION)),
            None => Ok(()),
        }
    }
}

fn lost() -> purista_core::Error {
    error(ErrorKind::Unavailable, OPERATION).with_context("the connection to the broker was lost")
}
