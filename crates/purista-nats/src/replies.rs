use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Message, Subject};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

/// What waits for a reply of the server or of another bridge. The answers to commands wait in the engine.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    waiting: Mutex<HashMap<u64, Waiting>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    /// What was published and waits for its reply.
    subject: Subject,
    until: Instant,
    sender: oneshot::Sender<Result<Message, NoReply>>,
}

/// Why no reply comes.
#[derive(Debug)]
pub(crate) enum NoReply {
    /// The connection broke before, or the reply did not come in time.
    Lost,
    /// The server does not allow it.
    Forbidden,
}

/// A reply that is waited for; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Reply {
    replies: Arc<Replies>,
    token: u64,
    receiver: oneshot::Receiver<Result<Message, NoReply>>,
}

impl Replies {
    /// Begins to wait for the reply to a publish, for about so long.
    pub(crate) fn expect(self: &Arc<Self>, subject: Subject, patience: Duration) -> Reply {
        self.expect_by(|_| subject, patience)
    }

    /// Begins to wait for the reply to a publish whose subject depends on the token of the reply.
    pub(crate) fn expect_by(
        self: &Arc<Self>,
        subject: impl FnOnce(u64) -> Subject,
        patience: Duration,
    ) -> Reply {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let subject = subject(token);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(token, Waiting { subject, until: Instant::now() + patience, sender });
        Reply { replies: Arc::clone(self), token, receiver }
    }

    /// Gives a reply to who waits for its token.
    pub(crate) fn deliver(&self, token: &str, message: Message) {
        let waiting = token.parse().ok().and_then(|token: u64| self.waiting.lock().remove(&token));
        if let Some(waiting) = waiting {
            // Who waited may have given up at this moment.
            let _given_up = waiting.sender.send(Ok(message));
        }
    }

    /// Tells all who wait that the connection is lost.
    pub(crate) fn lose_all(&self) {
        for (_, waiting) in std::mem::take(&mut *self.waiting.lock()) {
            let _given_up = waiting.sender.send(Err(NoReply::Lost));
        }
    }

    /// Tells those whose time is over. One look at all of them now and then is cheaper than a timer for each.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        let expired: Vec<_> = self.waiting.lock().extract_if(|_, waiting| waiting.until <= now).collect();
        for (_, waiting) in expired {
            let _given_up = waiting.sender.send(Err(NoReply::Lost));
        }
    }

    /// Tells who published to a subject that it is not allowed.
    pub(crate) fn forbid(&self, subject: &str) {
        self.forbid_where(|waiting| waiting.subject.as_str() == subject);
    }

    /// Tells who published to the longest subject that it is not allowed.
    pub(crate) fn forbid_longest(&self) {
        let longest = self.waiting.lock().values().map(|waiting| waiting.subject.len()).max();
        self.forbid_where(|waiting| Some(waiting.subject.len()) == longest);
    }

    fn forbid_where(&self, is_it: impl Fn(&Waiting) -> bool) {
        let forbidden: Vec<_> = self.waiting.lock().extract_if(|_, waiting| is_it(waiting)).collect();
        for (_, waiting) in forbidden {
            let _given_up = waiting.sender.send(Err(NoReply::Forbidden));
        }
    }
}

impl Reply {
    /// Returns the last token of the subject that the reply comes to.
    pub(crate) const fn token(&self) -> u64 {
        self.token
    }

    /// Waits for the reply, which may be the server's word that nobody is there. Cancel safe.
    pub(crate) async fn received(&mut self) -> Result<Message, NoReply> {
        (&mut self.receiver).await.unwrap_or(Err(NoReply::Lost))
    }

    /// Returns the reply if it is there.
    pub(crate) fn try_received(&mut self) -> Option<Result<Message, NoReply>> {
        self.receiver.try_recv().ok()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.replies.waiting.lock().remove(&self.token);
    }
}
