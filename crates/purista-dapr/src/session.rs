use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use purista_core::{Error, Id};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{
    component_health::ComponentHealth,
    routes::Routes,
    sidecar::{Failure, Metadata, Reach, Sidecar},
};

/// How often in a row the sidecar may get no answer from this process in time before that counts.
const MAX_UNANSWERED: u8 = 2;

/// A sidecar that knows what is registered, and is watched.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) sidecar: Sidecar,
    pub(crate) app_id: String,
    pub(crate) pubsub_name: String,
    /// The type of the component that it had.
    pub(crate) component_type: Option<String>,
    pub(crate) topics: Vec<String>,
    pub(crate) has_app: bool,
    pub(crate) routes: Arc<Routes>,
    pub(crate) component: Arc<ComponentHealth>,
    /// Where to publish something to see whether the component works.
    pub(crate) health_topic: Option<String>,
    pub(crate) keep_alive: Duration,
    /// Asks for a look, as a request got no answer.
    pub(crate) suspicion: Arc<Notify>,
}

impl Session {
    /// Says what the sidecar lacks of what it had, or should have by now.
    pub(crate) fn missing(&self, metadata: &Metadata) -> Option<String> {
        if let Some(had) = self.component_type.as_deref() {
            let name = &self.pubsub_name;
            match metadata.component_type(name) {
                None => return Some(format!("the sidecar has no component {name} any more")),
                Some(has) if has != had => {
                    return Some(format!("the type of the component {name} is {has} now, and not {had}"));
                }
                Some(_) => {}
            }
        }
        let is_missing = |topic: &&String| !metadata.is_subscribed(&self.pubsub_name, topic);
        let topic = self.topics.iter().find(is_missing)?;
        // It may have asked an app that ran here before; or it is told to ask as soon as we are well.
        Some(format!(
            "the sidecar has not subscribed to {topic}: does it need a restart, or is disable-init-endpoints set?"
        ))
    }

    /// Waits until the sidecar is lost, and tells meanwhile which registrations consume. Returns why it is lost.
    pub(crate) async fn lost(&self) -> String {
        let mut unanswered = 0;
        loop {
            tokio::select! {
                () = sleep(self.keep_alive / 2) => {}
                () = self.suspicion.notified() => {}
            }
            let metadata = match self.sidecar.metadata().await {
                Ok(metadata) => metadata,
                Err(Failure::Lost(reason)) => return reason,
                Err(Failure::Refused(error)) => return error.to_string(),
            };
            if let Some(missing) = self.missing(&metadata) {
                return missing;
            }
            // Who shuts down may be unwell to the sidecar by now, as it should.
            if self.routes.is_empty() || self.routes.is_stopped() {
                continue;
            }
            let unreached = self.unreached(&metadata, &mut unanswered).await;
            self.look_at_component().await;
            self.routes.tell(unreached.map(|error| error.to_string()), self.component_failure());
        }
    }

    /// Returns why the sidecar does not reach us.
    async fn unreached(&self, metadata: &Metadata, unanswered: &mut u8) -> Option<Error> {
        if !self.has_app {
            return None;
        }
        match self.sidecar.reach(&self.app_id).await {
            Ok(Reach::Reached | Reach::Unknown(_)) => *unanswered = 0,
            Ok(Reach::Unreached(error)) => return Some(error),
            // With a limit, it calls us when it is this call's turn.
            Err(_) if metadata.is_app_limited() => {}
            Err(failure) => {
                *unanswered = unanswered.saturating_add(1).min(MAX_UNANSWERED);
                if *unanswered == MAX_UNANSWERED {
                    return Some(
                        failure.into_error("receive").with_context("the sidecar gets no answer from us"),
                    );
                }
            }
        }
        None
    }

    /// Publishes something to the topic that is for that.
    async fn look_at_component(&self) {
        let Some(topic) = self.health_topic.as_ref().filter(|_| self.component_type.is_some()) else {
            return;
        };
        // Other events that it takes meanwhile tell as much.
        self.component.fails("the component takes no event");
        let published = timeout(self.keep_alive, self.sidecar.publish(topic, self.event(), "health")).await;
        match published {
            Ok(Ok(())) => self.component.works(),
            Ok(Err(Failure::Refused(error))) if error.kind().is_temporary() => {
                let now = Instant::now();
                let since = now.checked_sub(self.keep_alive).unwrap_or(now);
                self.component.failed_since(since, error.to_string());
            }
            // What is not allowed tells nothing.
            Ok(Err(Failure::Refused(error))) => {
                tracing::debug!(%error, "the component cannot be looked at");
                self.component.works();
            }
            Ok(Err(Failure::Lost(_))) | Err(_) => self.component.still_fails(),
        }
    }

    fn component_failure(&self) -> Option<String> {
        self.component.failure(self.keep_alive)
    }

    fn event(&self) -> Bytes {
        let event = serde_json::json!({
            "specversion": "1.0", "id": Id::random(), "source": self.app_id, "type": "dev.purista.health",
        });
        event.to_string().into()
    }
}
