//! Dead letters as users see them: listed, sent again, given up.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    adapter::DeadLetter,
    error::{Error, ErrorKind, Result},
    message::{Message, Name, ServiceAddress},
};

/// The dead letters of a bridge's deployment, those of all its instances: what [`EventBridge::dead_letters`] returns.
///
/// Listing consumes nothing: the letters stay, in their order, with nothing changed. Who reads them at the same time on a
/// broker that lends each message to one reader, such as RabbitMQ, sees those that nobody else reads at that moment.
///
/// A letter that is sent again goes to the one subscriber that failed, and to no other subscriber of the same event. Its
/// attempts begin anew. If it dies again, the new letter tells how often it was sent
/// ([`redrives`](DeadLetter::redrives)). The letter is removed only after the broker took the message: a crash in
/// between makes it two deliveries, and never none.
///
/// ```
/// use purista_core::{
///     Context, DeadLetterFilter, EventBridge as _, EventBridgeExt as _, Filter, HandledError, RedriveOptions, RetryPolicy,
///     Service, SubscriptionOptions,
/// };
/// use std::sync::{Arc, atomic::{AtomicBool, Ordering::SeqCst}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let is_mended = Arc::new(AtomicBool::new(false));
/// let server = Arc::clone(&is_mended);
/// let mails = Service::new("Mail", "1").subscription_with(
///     "welcome",
///     Filter::event("userRegistered"),
///     SubscriptionOptions::default().with_retry(RetryPolicy::default().with_max_attempts(1)),
///     move |_: Context, _user: String| {
///         let is_mended = server.load(SeqCst);
///         async move { if is_mended { Ok(()) } else { Err(HandledError::bad_request("no mail server").into()) } }
///     },
/// );
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// bridge.serve([mails]).await?;
/// bridge.emit("userRegistered", "Ada").await?;
/// while bridge.stats().dead_lettered == 0 {
///     tokio::task::yield_now().await;
/// }
///
/// let letters = bridge.dead_letters()?;
/// let of_mails = DeadLetterFilter::default().with_subscriber(("Mail", "1", "welcome"));
/// let page = letters.list(&of_mails, 100, None).await?;
/// assert!(page.letters[0].letter.reason.contains("no mail server"));
///
/// is_mended.store(true, SeqCst);
/// letters.redrive(&page.letters[0].id, &RedriveOptions::default()).await?;
/// while bridge.stats().handled == 0 {
///     tokio::task::yield_now().await;
/// }
/// assert!(letters.list(&of_mails, 100, None).await?.letters.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// [`EventBridge::dead_letters`]: crate::EventBridge::dead_letters
#[async_trait]
pub trait DeadLetters: fmt::Debug + Send + Sync + 'static {
    /// Returns letters that match, in the order of the broker, which is the one in which they came as far as it keeps it:
    /// at the most `limit` of them, after the one with the id `after`, or from the first one on.
    ///
    /// A page can hold less than the limit and not be the last one: it ends after 16 MiB of messages, and after 10,000
    /// letters that were looked at. The last one has no [`next`](DeadLetterPage::next). Where the letter `after` is gone
    /// meanwhile, the page goes on where it was, or begins anew.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the limit is none, or larger than 1,000, or the id is not one of this
    /// bridge's. Those of [`EventBridge::emit_message`](crate::EventBridge::emit_message) if the broker does not give them.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn list(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<&DeadLetterId>,
    ) -> Result<DeadLetterPage>;

    /// Returns one letter; `None` if it is not there, or lent to another reader.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn get(&self, id: &DeadLetterId) -> Result<Option<KeptDeadLetter>>;

    /// Sends one letter to its subscriber again, and removes it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if the letter is not there.
    /// [`RedriveLimit`](ErrorKind::RedriveLimit) if it was sent again as often as may be, and
    /// [`Unroutable`](ErrorKind::Unroutable) if its subscriber is not there: it stays then. Otherwise as
    /// [`list`](Self::list); it may have been sent, and stays if it is not known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the letter may be sent.
    async fn redrive(&self, id: &DeadLetterId, options: &RedriveOptions) -> Result<()>;

    /// Sends all letters that match to their subscribers again, and removes them. Those that die meanwhile stay.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list); the letters before have been sent. Letters that cannot be sent stay, and the report counts
    /// them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it after the letter that is under way.
    async fn redrive_all(&self, filter: &DeadLetterFilter, options: &RedriveOptions)
    -> Result<RedriveReport>;

    /// Gives one letter up. Returns whether it was there.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the letter may be removed.
    async fn purge(&self, id: &DeadLetterId) -> Result<bool>;

    /// Gives all letters up that match, and returns how many these were. Those that die meanwhile stay.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list); the letters before are gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it after the letter that is under way.
    async fn purge_all(&self, filter: &DeadLetterFilter) -> Result<u64>;
}

/// Names one dead letter of a deployment, as long as it is kept. What is in it depends on the broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeadLetterId(Arc<str>);

impl DeadLetterId {
    /// Takes an id from its text, such as one that a person types.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A dead letter as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptDeadLetter {
    /// Its id.
    pub id: DeadLetterId,
    /// The letter.
    pub letter: DeadLetter,
}

impl KeptDeadLetter {
    /// Creates one; for those who implement [`DeadLetters`].
    #[must_use]
    pub const fn new(id: DeadLetterId, letter: DeadLetter) -> Self {
        Self { id, letter }
    }
}

/// Some of the letters that a filter matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterPage {
    /// The letters.
    pub letters: Vec<KeptDeadLetter>,
    /// After which letter the next page begins; `None` if there is none.
    pub next: Option<DeadLetterId>,
}

/// Which dead letters are meant: those that meet all of its conditions. The default has none, and means all.
///
/// ```
/// use purista_core::DeadLetterFilter;
///
/// let filter = DeadLetterFilter::default()
///     .with_subscriber(("Mail", "1", "welcome"))
///     .with_event_name("userRegistered")
///     .with_died_from(1_700_000_000_000);
/// assert_eq!(filter.event_name.as_deref(), Some("userRegistered"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterFilter {
    /// Whose handler failed.
    pub subscriber: Option<ServiceAddress>,
    /// The name of the event.
    pub event_name: Option<Name>,
    /// Given up at this moment or later, in milliseconds since the Unix epoch.
    pub died_from: Option<u64>,
    /// Given up before this moment, in milliseconds since the Unix epoch.
    pub died_before: Option<u64>,
}

impl DeadLetterFilter {
    /// Asks for the letters of one subscriber.
    #[must_use]
    pub fn with_subscriber(mut self, subscriber: impl Into<ServiceAddress>) -> Self {
        self.subscriber = Some(subscriber.into());
        self
    }

    /// Asks for the letters of one event.
    #[must_use]
    pub fn with_event_name(mut self, event_name: impl Into<Name>) -> Self {
        self.event_name = Some(event_name.into());
        self
    }

    /// Asks for letters that were given up at this moment or later, in milliseconds since the Unix epoch.
    #[must_use]
    pub const fn with_died_from(mut self, milliseconds: u64) -> Self {
        self.died_from = Some(milliseconds);
        self
    }

    /// Asks for letters that were given up before this moment, in milliseconds since the Unix epoch.
    #[must_use]
    pub const fn with_died_before(mut self, milliseconds: u64) -> Self {
        self.died_before = Some(milliseconds);
        self
    }

    /// Returns whether a letter is meant. One that holds no message has no event name.
    #[must_use]
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        self.subscriber.as_ref().is_none_or(|subscriber| letter.subscriber == *subscriber)
            && self.died_from.is_none_or(|from| letter.last_attempt_at >= from)
            && self.died_before.is_none_or(|before| letter.last_attempt_at < before)
            && self.event_name.as_ref().is_none_or(|event_name| {
                let message = Message::decode(letter.original.clone());
                message.is_ok_and(|message| message.event_name.as_ref() == Some(event_name))
            })
    }
}

/// How dead letters are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedriveOptions {
    /// How often one message may be sent again, all in all; 5 by default. What has been is refused with
    /// [`RedriveLimit`](ErrorKind::RedriveLimit), so that a message that cannot be handled goes round no more.
    pub max_redrives: u32,
}

impl Default for RedriveOptions {
    fn default() -> Self {
        Self { max_redrives: 5 }
    }
}

impl RedriveOptions {
    /// Sets how often one message may be sent again, all in all.
    #[must_use]
    pub const fn with_max_redrives(mut self, redrives: u32) -> Self {
        self.max_redrives = redrives;
        self
    }
}

/// What became of the letters that were to be sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedriveReport {
    /// Sent to their subscriber.
    pub redriven: u64,
    /// Kept, as they were sent again as often as may be.
    pub over_limit: u64,
    /// Kept, as their subscriber is not there.
    pub without_subscriber: u64,
}

pub(crate) fn not_found(id: &DeadLetterId) -> Error {
    Error::new(ErrorKind::NotFound, "dead letter").with_context(format!("there is no dead letter {id}"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::EventDraft;

    #[test]
    fn a_filter_means_what_meets_all_of_its_conditions() {
        let event = EventDraft::event(("Other", "1", "sender"), "happened").stamp(&"i".into());
        let metadata = r#"{"messageId":"1","serviceName":"Mail","serviceVersion":"1","serviceTarget":"welcome",
            "reason":"no","attempts":3,"firstAttemptAt":1,"lastAttemptAt":5}"#;
        let letter = DeadLetter::from_metadata(metadata, event.encode()).unwrap();
        let unreadable = DeadLetter::from_metadata(metadata, Bytes::from_static(b"{")).unwrap();
        let all = DeadLetterFilter::default();
        let mine = all.clone().with_subscriber(("Mail", "1", "welcome")).with_event_name("happened");
        for (filter, expected) in [
            (all.clone(), true),
            (all.clone().with_subscriber(("Mail", "2", "welcome")), false),
            (all.clone().with_event_name("other"), false),
            (all.clone().with_died_from(5).with_died_before(6), true),
            (all.clone().with_died_from(6), false),
            (all.clone().with_died_before(5), false),
            (mine.clone(), true),
            (mine.clone().with_died_before(5), false),
        ] {
            assert_eq!(filter.matches(&letter), expected, "{filter:?}");
        }
        assert!(all.matches(&unreadable) && !mine.matches(&unreadable));
    }
}
