//! Commands that are called by requests.

use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use purista_core::{
    Id, Message, ServiceAddress,
    adapter::{Delivery, Intake, Slot, Transport},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    admission::Admission,
    recent::{Claim, Recent, outcome},
};

/// A command that is called by requests, and answered in their responses. A call that is repeated, as its answer was
/// missed, is executed once.
#[derive(Debug)]
pub struct Served<T: Transport<ReplyTo = Reply>> {
    address: ServiceAddress,
    /// Whether it is let in, and where it is handled.
    pub admission: Admission<T>,
    recent: Arc<Recent<Id, Answer>>,
}

/// What a request is answered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The message, empty unless the status is [`StatusCode::OK`].
    pub body: Bytes,
}

/// Where the answer to a command goes.
#[derive(Debug)]
pub struct Reply(Claim<Id, Answer>);

impl From<StatusCode> for Answer {
    fn from(status: StatusCode) -> Self {
        Self { status, body: Bytes::new() }
    }
}

impl Reply {
    /// Answers with a response.
    pub fn respond(self, response: &Message) {
        let body = response.encode();
        let bytes = body.len();
        self.0.settle(Answer { status: StatusCode::OK, body }, bytes);
    }

    /// Answers that the command is not served here.
    pub fn not_served(self) {
        self.0.settle(StatusCode::NOT_FOUND.into(), 0);
    }
}

impl<T: Transport<ReplyTo = Reply>> Served<T> {
    /// Creates a command with where it is handled.
    #[must_use]
    pub fn new(address: ServiceAddress, intake: Intake<T>) -> Arc<Self> {
        Arc::new(Self { address, admission: Admission::new(intake), recent: Recent::new() })
    }

    /// Returns its address.
    #[must_use]
    pub const fn address(&self) -> &ServiceAddress {
        &self.address
    }

    /// Has a command handled, once, and returns its answer: 503 if it takes no more, 504 if no handler was free before the
    /// deadline.
    ///
    /// # Cancel safety
    ///
    /// A handler that has started goes on if this is dropped, as its caller does not wait any more; one that has not is
    /// given up.
    pub async fn handle(&self, command: Arc<Message>, deadline: Option<Instant>) -> Answer {
        loop {
            let (claim, answer) = self.recent.claim(command.id.clone());
            let is_mine = claim.is_some();
            if let Some(claim) = claim {
                match self.slot(deadline).await {
                    Ok(slot) => {
                        let delivery = Delivery::new(Arc::clone(&command));
                        self.admission.intake.deliver(slot, delivery.with_reply_to(Reply(claim), deadline));
                    }
                    Err(refusal) => return refusal.into(),
                }
            }
            match outcome(answer).await {
                Some(answer) => return answer,
                None if is_mine && deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                    return StatusCode::GATEWAY_TIMEOUT.into();
                }
                None if is_mine => return StatusCode::SERVICE_UNAVAILABLE.into(),
                // Whoever brought it before has given up.
                None => {}
            }
        }
    }

    async fn slot(&self, deadline: Option<Instant>) -> Result<Slot, StatusCode> {
        if self.admission.is_stopped() {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let slot = match deadline {
            Some(deadline) => timeout_at(deadline, self.admission.intake.slot()).await,
            None => Ok(self.admission.intake.slot().await),
        };
        slot.map_err(|_expired| StatusCode::GATEWAY_TIMEOUT)?.ok_or(StatusCode::SERVICE_UNAVAILABLE)
    }
}
