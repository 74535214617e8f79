use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::http::StatusCode;
use bytes::Bytes;
use purista_core::{
    Id, Message, ServiceAddress,
    adapter::{Delivery, Intake, Slot},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    recent::{Claim, Recent, outcome},
    transport::DaprTransport,
};

/// A command that is served. The sidecar delivers it as a request.
#[derive(Debug)]
pub(crate) struct CommandConsumer {
    pub(crate) served: Arc<Served>,
}

/// What is known of a command that is served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) address: ServiceAddress,
    intake: Intake<DaprTransport>,
    is_stopped: AtomicBool,
    /// The sidecar repeats a call whose answer it missed.
    recent: Arc<Recent<Id, Answer>>,
}

/// What a request is answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Where the answer to a command goes.
#[derive(Debug)]
pub(crate) struct Reply(Claim<Id, Answer>);

impl From<StatusCode> for Answer {
    fn from(status: StatusCode) -> Self {
        Self { status, body: Bytes::new() }
    }
}

impl Reply {
    /// Answers with a response.
    pub(crate) fn respond(self, response: &Message) {
        let body = response.encode();
        let bytes = body.len();
        self.0.settle(Answer { status: StatusCode::OK, body }, bytes);
    }

    /// Answers that the command is not served here.
    pub(crate) fn refuse(self) {
        self.0.settle(StatusCode::NOT_FOUND.into(), 0);
    }
}

impl Served {
    pub(crate) fn new(address: ServiceAddress, intake: Intake<DaprTransport>) -> Arc<Self> {
        Arc::new(Self { address, intake, is_stopped: AtomicBool::new(false), recent: Recent::new() })
    }

    /// Takes no more commands.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Tells whether the sidecar can deliver to it.
    pub(crate) fn tell(&self, consumes: bool) {
        match consumes {
            true => self.intake.consumer_up(),
            false => self.intake.consumer_down(),
        }
    }

    /// Returns whether it takes no more commands.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Has a command handled, once. Dropped when its caller does not wait any more; it is not handled then, unless it has
    /// started.
    pub(crate) async fn handle(&self, command: Arc<Message>, deadline: Option<Instant>) -> Answer {
        loop {
            let (claim, answer) = self.recent.claim(command.id.clone());
            let is_mine = claim.is_some();
            if let Some(claim) = claim {
                match self.slot(deadline).await {
                    Ok(slot) => {
                        let delivery = Delivery::new(Arc::clone(&command));
                        self.intake.deliver(slot, delivery.with_reply_to(Reply(claim), deadline));
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
        if self.is_stopped() {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let slot = match deadline {
            Some(deadline) => timeout_at(deadline, self.intake.slot()).await,
            None => Ok(self.intake.slot().await),
        };
        slot.map_err(|_expired| StatusCode::GATEWAY_TIMEOUT)?.ok_or(StatusCode::SERVICE_UNAVAILABLE)
    }
}
