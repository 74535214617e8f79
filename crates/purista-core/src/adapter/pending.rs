use std::{hash::BuildHasher, sync::Arc};

use hashbrown::{HashTable, hash_table::Entry};
use tokio::sync::oneshot;

use super::{
    gate::{Gate, Pass},
    sync::{Mutex, RandomState},
};
use crate::{
    error::{Error, ErrorKind, Result},
    message::{Id, Message, Name, Receiver},
};

#[cfg(not(purista_loom))]
const SHARDS: usize = 16;
#[cfg(purista_loom)]
const SHARDS: usize = 1;

/// The calls of a bridge that wait for their answer.
///
/// An answer counts only if it answers a pending call and comes from whom was asked. The number of calls is bounded;
/// a call leaves when it is answered, or when its [`PendingCall`] is dropped: at its time limit, or because its caller
/// went away.
#[derive(Debug)]
pub struct PendingCalls {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    inside: Arc<Gate>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Shard {
    calls: HashTable<Call>,
    closed: bool,
}

#[derive(Debug)]
struct Call {
    correlation_id: Id,
    responder: Receiver,
    tenant_id: Option<Name>,
    /// Someone who shares the route has said that it is not for them.
    refused: bool,
    answer: oneshot::Sender<Result<Arc<Message>>>,
}

/// What became of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseVerdict {
    /// It answered its call.
    Answered,
    /// No such call is pending: its time is over, or it never was.
    Late,
    /// The call is pending, but the response was not sent by the service that was asked. The call waits on.
    Forged,
    /// Another instance than the addressed one answered a pending call: the call has failed with
    /// [`OtherInstance`](ErrorKind::OtherInstance), or with [`NoHandler`](ErrorKind::NoHandler) if it was not executed.
    OtherInstance,
}

/// A call that waits for its answer; dropping it gives the call up.
#[derive(Debug)]
pub struct PendingCall<'a> {
    calls: &'a PendingCalls,
    correlation_id: &'a Id,
    answer: oneshot::Receiver<Result<Arc<Message>>>,
    _inside: Pass,
}

impl PendingCalls {
    /// Creates room for so many calls.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Shard::default())),
            hasher: RandomState::default(),
            inside: Gate::new(),
            limit,
        }
    }

    /// Begins to wait for the answer to a command. Do so before the command is sent.
    ///
    /// # Errors
    ///
    /// [`Backpressure`](ErrorKind::Backpressure) if there is no room, [`ShutDown`](ErrorKind::ShutDown) after
    /// [`close`](Self::close), [`InvalidMessage`](ErrorKind::InvalidMessage) if the message has no receiver, or a
    /// correlation id that is missing or taken.
    pub fn begin<'a>(&'a self, command: &'a Message) -> Result<PendingCall<'a>> {
        let refused = |kind| Error::new(kind, "invoke");
        let (Some(correlation_id), Some(receiver)) = (&command.correlation_id, &command.receiver) else {
            return Err(refused(ErrorKind::InvalidMessage)
                .with_context("a command needs receiver and correlation id"));
        };
        let inside = self.inside.enter().ok_or_else(|| refused(ErrorKind::ShutDown))?;
        if self.inside.count() > self.limit {
            return Err(refused(ErrorKind::Backpressure).with_context("too many calls are pending"));
        }
        let (sender, answer) = oneshot::channel();
        let call = Call {
            correlation_id: correlation_id.clone(),
            responder: receiver.clone(),
            tenant_id: command.tenant_id.clone(),
            refused: false,
            answer: sender,
        };
        let (hash, shard) = self.locate(correlation_id);
        let mut shard = shard.lock();
        if shard.closed {
            return Err(refused(ErrorKind::ShutDown));
        }
        match self.entry(&mut shard, hash, correlation_id) {
            Entry::Vacant(vacant) => vacant.insert(call),
            Entry::Occupied(_) => {
                return Err(refused(ErrorKind::InvalidMessage).with_context("the correlation id is taken"));
            }
        };
        drop(shard);
        Ok(PendingCall { calls: self, correlation_id, answer, _inside: inside })
    }

    /// Hands a response to the call that waits for it.
    ///
    /// A response counts if it has the correlation id and the tenant of the call and comes from the address that was
    /// asked. If the caller named an instance and another one has answered, the call fails at once: the original executes
    /// such a command wherever it comes, and nobody else will answer. To go on waiting would protect from nobody, as
    /// whoever knows the correlation id has seen the command, and with it which instance to claim to be.
    pub fn respond(&self, response: Arc<Message>) -> ResponseVerdict {
        let shown = Arc::clone(&response);
        self.respond_with(&shown, || Ok(response))
    }

    /// Ends the call that a response is about, if that counts, with an outcome of one's own.
    pub(super) fn respond_with(
        &self,
        response: &Message,
        outcome: impl FnOnce() -> Result<Arc<Message>>,
    ) -> ResponseVerdict {
        let Some(correlation_id) = &response.correlation_id else { return ResponseVerdict::Late };
        let (hash, shard) = self.locate(correlation_id);
        let mut shard = shard.lock();
        let Entry::Occupied(call) = self.entry(&mut shard, hash, correlation_id) else {
            return ResponseVerdict::Late;
        };
        if !call.get().is_in_the_name_of_who_was_asked(response) {
            return ResponseVerdict::Forged;
        }
        let (call, _) = call.remove();
        drop(shard);
        let (outcome, verdict) = match call.not_asked(response) {
            None => (outcome(), ResponseVerdict::Answered),
            Some(error) => (Err(error), ResponseVerdict::OtherInstance),
        };
        match call.answer.send(outcome) {
            Ok(()) => verdict,
            Err(_) => ResponseVerdict::Late,
        }
    }

    /// Notes that someone who shares the route of a command refused it. The call waits on for whom it is meant.
    pub fn refuse(&self, refusal: &Message) -> ResponseVerdict {
        let Some(correlation_id) = &refusal.correlation_id else { return ResponseVerdict::Late };
        let (hash, shard) = self.locate(correlation_id);
        let mut shard = shard.lock();
        let Entry::Occupied(mut call) = self.entry(&mut shard, hash, correlation_id) else {
            return ResponseVerdict::Late;
        };
        // Another instance than the one that was asked may say so.
        if !call.get().is_in_the_name_of_who_was_asked(refusal) {
            return ResponseVerdict::Forged;
        }
        call.get_mut().refused = true;
        ResponseVerdict::Answered
    }

    /// Fails one call; returns whether it was pending.
    pub fn fail(&self, correlation_id: &Id, error: Error) -> bool {
        let (hash, shard) = self.locate(correlation_id);
        let mut shard = shard.lock();
        let Entry::Occupied(call) = self.entry(&mut shard, hash, correlation_id) else { return false };
        let (call, _) = call.remove();
        drop(shard);
        call.answer.send(Err(error)).is_ok()
    }

    /// Fails the calls of some receivers that are pending now, and returns how many there were.
    pub fn fail_where(&self, is_it: impl Fn(&Receiver) -> bool, error: &Error) -> usize {
        let mut failed = 0;
        for shard in &self.shards {
            let calls: Vec<_> = shard.lock().calls.extract_if(|call| is_it(&call.responder)).collect();
            failed += calls.into_iter().filter_map(|call| call.answer.send(Err(error.clone())).ok()).count();
        }
        failed
    }

    /// Fails all calls with [`ShutDown`](ErrorKind::ShutDown), lets no more begin, and returns how many there were.
    pub fn close(&self) -> usize {
        self.inside.close();
        for shard in &self.shards {
            shard.lock().closed = true;
        }
        self.fail_where(|_| true, &Error::new(ErrorKind::ShutDown, "invoke"))
    }

    /// Returns how many calls are pending.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inside.count()
    }

    /// Waits until no call is pending.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn empty(&self) {
        self.inside.empty().await;
    }

    fn locate(&self, correlation_id: &Id) -> (u64, &Mutex<Shard>) {
        let hash = self.hasher.hash_one(correlation_id);
        // The table uses the highest and the lowest bits; the shard is chosen by others.
        (hash, &self.shards[(hash >> 32) as usize % self.shards.len()])
    }

    fn entry<'s>(&self, shard: &'s mut Shard, hash: u64, correlation_id: &Id) -> Entry<'s, Call> {
        shard.calls.entry(
            hash,
            |call| call.correlation_id == *correlation_id,
            |call| self.hasher.hash_one(&call.correlation_id),
        )
    }
}

impl Call {
    fn is_in_the_name_of_who_was_asked(&self, response: &Message) -> bool {
        response.message_type().is_response()
            && response.sender.address == self.responder.address
            && response.tenant_id == self.tenant_id
    }

    /// Returns how the call fails if another instance answers it than the one that was asked.
    fn not_asked(&self, response: &Message) -> Option<Error> {
        let asked = self.responder.instance_id.as_ref()?;
        let answered = &response.sender.instance_id;
        if asked == answered {
            return None;
        }
        Some(if response.says_not_here() {
            let context = format!("instance {asked} is not there, or cannot be reached past others");
            Error::new(ErrorKind::NoHandler, "invoke").with_context(context)
        } else {
            let context = format!("{asked} was asked, {answered} has answered");
            Error::new(ErrorKind::OtherInstance, "invoke").with_context(context)
        })
    }
}

impl PendingCall<'_> {
    /// Returns whether someone refused the command for whom it was not meant.
    #[must_use]
    pub fn was_refused(&self) -> bool {
        let (hash, shard) = self.calls.locate(self.correlation_id);
        let mut shard = shard.lock();
        match self.calls.entry(&mut shard, hash, self.correlation_id) {
            Entry::Occupied(call) => call.get().refused,
            Entry::Vacant(_) => false,
        }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// [`ShutDown`](ErrorKind::ShutDown) if the calls were closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn answer(&mut self) -> Result<Arc<Message>> {
        match (&mut self.answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(ErrorKind::ShutDown, "invoke")),
        }
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        if self.answer.is_terminated() {
            return;
        }
        let (hash, shard) = self.calls.locate(self.correlation_id);
        if let Entry::Occupied(call) = self.calls.entry(&mut shard.lock(), hash, self.correlation_id) {
            call.remove();
        }
    }
}
