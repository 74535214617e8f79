//! What the consumer's task asks of the server, and what the server says to that.

use std::{sync::atomic::Ordering, time::Duration};

use async_nats::{StatusCode, Subject};
use bytes::Bytes;
use purista_core::adapter::Acknowledgement as _;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    consuming::Why,
    pull_consumer::Task,
    pull_status::{Said, what_is_said},
};

/// How long a pull request waits for messages.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// After how long a pull request that the server does not refuse counts as accepted.
const ACCEPTED_AFTER: Duration = Duration::from_millis(500);

/// How long a consumer that could not be looked at is not asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How often the server shows that a pull request is still waiting.
pub(crate) const PULL_HEARTBEAT: Duration = Duration::from_secs(3);

/// The server refuses pull requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    /// When it is tried again; if that was done, when it counts as accepted.
    pub(crate) next: Instant,
    pub(crate) is_tried: bool,
}

impl Task {
    /// Asks for as many messages as there are free handlers, when it is worth it.
    pub(crate) async fn pull(&mut self) {
        let is_replaced = self.subscription.take_replaced();
        if self.state.must_pull.swap(false, Ordering::AcqRel) || is_replaced {
            self.asked_for = 0;
            let health = &self.state.health;
            if !health.is_down(Why::Lost) && !health.is_down(Why::NotPulling) {
                self.refusal = None;
            }
        }
        if self.refusal.is_some_and(|refusal| refusal.is_tried || Instant::now() < refusal.next) {
            return;
        }
        let expected = self.asked_for + self.waiting.len() + self.counting;
        let free = self.intake.free_slots().saturating_sub(expected);
        let is_suspended = self.state.health.is_down(Why::Suspended);
        if free == 0 || is_suspended || (self.asked_for > 0 && free < self.capacity.div_ceil(2)) {
            return;
        }
        let free = free.min(self.max_batch);
        if self.request(free, json!({})).await {
            self.asked_for += free;
            if self.refusal.is_some() {
                self.refusal = Some(Refusal { next: Instant::now() + ACCEPTED_AFTER, is_tried: true });
            }
        }
    }

    /// Tries again later what the server refuses.
    fn refused(&mut self, text: &str) {
        self.asked_for = 0;
        self.state.health.down(Why::NotPulling, &text);
        self.refusal = Some(Refusal { next: Instant::now() + self.backoff.next_delay(), is_tried: false });
    }

    /// Asks again what was refused, or notes that it is not refused any more.
    pub(crate) async fn try_again(&mut self) {
        if self.refusal.is_some_and(|refusal| refusal.is_tried) {
            return self.accepted();
        }
        self.pull().await;
        // Not now: all handlers are busy, or there is no connection.
        if let Some(refusal) = self.refusal.as_mut().filter(|refusal| !refusal.is_tried) {
            refusal.next = Instant::now() + ACCEPTED_AFTER;
        }
    }

    /// Heeds what was found beside the task: a refused pull request, a consumer that is lost.
    pub(crate) fn heed_change(&mut self) {
        if let Some(text) = self.state.take_refusal() {
            self.refused(&text);
        }
        if !self.state.health.is_well() {
            self.look_soon();
        }
    }

    /// Notes that the server answers pull requests.
    pub(crate) fn accepted(&mut self) {
        self.state.answered();
        self.was_gone = false;
        self.look_backoff.reset();
        if self.refusal.take().is_some() || self.state.health.is_down(Why::NotPulling) {
            self.backoff.reset();
            self.state.health.up(Why::NotPulling);
        }
    }

    async fn request(&mut self, batch: usize, more: serde_json::Value) -> bool {
        let connection = &self.state.connection;
        if !connection.is_up() {
            // When it is up again, everything is asked for anew.
            return false;
        }
        let mut request = json!({
            "batch": batch,
            "expires": PULL_EXPIRES.as_nanos() as u64,
            "idle_heartbeat": PULL_HEARTBEAT.as_nanos() as u64,
        });
        if let (Some(request), serde_json::Value::Object(more)) = (request.as_object_mut(), more) {
            request.extend(more);
        }
        let subject = Subject::from(self.state.consumer.next_subject(connection));
        let payload = Bytes::from(request.to_string());
        self.pulled = Instant::now();
        match connection.publish(subject, Some(self.inbox.clone()), None, payload).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "a pull request could not be sent");
                false
            }
        }
    }

    /// Restores a consumer that is gone: at once, as the stream keeps nothing for it meanwhile; with pauses if it is gone
    /// again before anything came.
    fn is_gone(&mut self) {
        // It is asked again when it is there.
        self.refusal = Some(Refusal { next: Instant::now() + LONGEST_WAIT, is_tried: false });
        if std::mem::replace(&mut self.was_gone, true) {
            self.look_soon();
        } else {
            self.next_look = Instant::now();
        }
    }

    /// Takes what the server says of a pull request instead of a message.
    pub(crate) fn take_status(&mut self, status: StatusCode, message: &async_nats::Message) {
        if status == StatusCode::IDLE_HEARTBEAT {
            return self.accepted();
        }
        let description = message.description.as_deref().unwrap_or_default().to_ascii_lowercase();
        // The server says how many messages of a pull request did not come.
        let left = message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
        let left: Option<usize> = left.and_then(|left| left.as_str().parse().ok());
        match what_is_said(status, &description) {
            Said::Gone => {
                self.asked_for = 0;
                if self.state.connection.is_up() {
                    self.state.health.down(Why::Lost, &description);
                    self.is_gone();
                }
            }
            Said::Moved => {
                self.asked_for = 0;
                let soon = Refusal { next: Instant::now() + self.backoff.next_delay(), is_tried: false };
                self.refusal = Some(soon);
                self.look_soon();
            }
            Said::Refused(most) => {
                self.max_batch = most.unwrap_or(self.max_batch);
                self.refused(&description);
            }
            Said::Over => {
                self.accepted();
                match left {
                    Some(left) => self.asked_for = self.asked_for.saturating_sub(left),
                    None if description.contains("maxbytes") => {}
                    None => self.asked_for = 0,
                }
            }
        }
    }

    /// Keeps alive what waits here, and notices a server that forgot us.
    pub(crate) async fn look_after(&mut self) {
        for item in &self.waiting {
            if let Err(error) = item.acknowledgement.extend().await {
                tracing::debug!(%error, "a lease could not be extended");
            }
        }
        if self.asked_for > 0 && self.heard.max(self.pulled).elapsed() > 2 * PULL_HEARTBEAT {
            self.asked_for = 0;
            if self.state.connection.is_up() {
                self.state.health.down(Why::Silent, &"neither messages nor heartbeats");
                self.look_soon();
            }
        }
        let forgotten_after = self.state.consumer.is_forgotten_after();
        if self.asked_for == 0 && forgotten_after.is_some_and(|idle| self.pulled.elapsed() > idle / 3) {
            // The server removes a consumer that nobody asks, also while all handlers are busy. No message is so small.
            self.request(1, json!({ "no_wait": true, "max_bytes": 1, "idle_heartbeat": 0 })).await;
        }
    }
}
