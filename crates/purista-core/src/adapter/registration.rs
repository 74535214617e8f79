//! Registering with an engine, and the end of it.

use std::sync::{Arc, Weak};

use async_trait::async_trait;

use tokio::time::Instant;

use super::{
    Consumer, Engine, Intake, Publish, Stop, Transport,
    limits::check_endpoint,
    registered::{Endpoint, Registered},
};
use crate::{
    bridge::{Registration, RegistrationControl},
    capability::Capability,
    error::{ErrorKind, Result},
    grant::{Granted, demand_for},
    health::BridgeState,
    message::{EventDraft, Id, MessageType, Payload},
    options::{MAX_TIMEOUT, Sharing},
};

impl<T: Transport> Engine<T> {
    pub(super) async fn register(&self, endpoint: Endpoint) -> Result<Registration> {
        let key = endpoint.key();
        check_endpoint(&endpoint, self.config.max_identity_len)?;
        let given = self.transport.capabilities();
        let (shared, itself) = (Arc::clone(&self.shared), Weak::clone(&self.itself));
        let registered = Registered::new(endpoint, &given, shared, itself).map(Arc::new);
        let registered = registered.map_err(|error| error.with_bridge(T::NAME))?;
        let granted = registered.granted();
        if granted.durable && granted.sharing == Sharing::Broadcast && self.config.instance_id.is_none() {
            let error = Self::error(ErrorKind::InvalidConfig, "register");
            return Err(
                error.with_context("a durable broadcast needs a bridge with a configured instance id")
            );
        }
        let (address, added) = (key.1.clone(), Arc::clone(&registered));
        let live = self.change("register", async move |engine: Arc<Self>| {
            if engine.registrations.lock().contains_key(&key) {
                return Err(
                    Self::error(ErrorKind::AlreadyRegistered, "register").with_context(key.1.to_string())
                );
            }
            let live = engine.shared.state() == BridgeState::Started;
            demand_for("register", live, Capability::RegisterAfterStart, &given)?;
            if live {
                engine.open(&added).await?;
            }
            engine.registrations.lock().insert(key, added);
            Ok(live)
        });
        if live.await? {
            self.announce(&registered);
        }
        Ok(Registration::new(address, Arc::new(Handle { engine: Weak::clone(&self.itself), registered })))
    }

    pub(super) async fn open(&self, registered: &Arc<Registered<T>>) -> Result<()> {
        let intake = Intake(Arc::clone(registered));
        let consumer = self
            .within_operation_timeout("register", async {
                match &registered.endpoint {
                    Endpoint::Command(command, _) => self.transport.consume_command(command, intake).await,
                    Endpoint::Subscription(subscription, _) => {
                        self.transport.consume_subscription(subscription, intake).await
                    }
                }
            })
            .await?;
        registered.opened(consumer);
        Ok(())
    }

    /// Tells everyone that a command is served (wire format, section 1). Nothing depends on it.
    pub(super) fn announce(&self, registered: &Registered<T>) {
        let (Endpoint::Command(command, _), Some(engine)) = (&registered.endpoint, self.itself.upgrade())
        else {
            return;
        };
        let info = EventDraft::info(&command.address, MessageType::InfoServiceFunctionAdded);
        let metadata = Payload::json(&serde_json::json!({
            "expose": { "contentTypeRequest": "application/json", "contentTypeResponse": "application/json" }
        }));
        let (Some(info), Ok(metadata)) = (info, metadata) else { return };
        let info = info.with_trace_id(Id::random()).with_payload(metadata).stamp(&self.shared.instance_id);
        self.shared.home.spawn(async move {
            let deadline = Instant::now() + engine.config.operation_timeout.min(MAX_TIMEOUT);
            let publish = engine.transport.publish(Arc::new(info), Publish::new(deadline, false));
            if let Err(error) = engine.within_operation_timeout("announce", publish).await {
                tracing::debug!(%error, "a command could not be announced");
            }
        });
    }

    async fn unregister(&self, registered: &Arc<Registered<T>>) -> Result<()> {
        if self.shared.state() == BridgeState::ShutDown {
            return match self.shared.home.why_gone() {
                Some(why) => Err(Self::error(ErrorKind::ShutDown, "unregister").with_context(why)),
                None => Ok(()),
            };
        }
        let registered = Arc::clone(registered);
        self.change("unregister", async move |engine: Arc<Self>| {
            // Before the start, nothing of it is at the broker.
            let is_at_broker = engine.shared.state() != BridgeState::Created;
            demand_for("unregister", is_at_broker, Capability::Unregister, &engine.transport.capabilities())?;
            let key = registered.endpoint.key();
            let is_it = |known: &Arc<Registered<T>>| Arc::ptr_eq(known, &registered);
            if !engine.registrations.lock().get(&key).is_some_and(is_it) {
                return Ok(());
            }
            engine.leaving.lock().push(Arc::clone(&registered));
            engine.registrations.lock().remove(&key);
            let stop = async {
                registered.stop(Stop::Unregistered).await;
                Ok(())
            };
            let stopped = engine.within_operation_timeout("unregister", stop).await;
            registered.halt();
            let home = Arc::clone(&engine.shared);
            home.home.spawn(engine.close_when_done(registered));
            stopped
        })
        .await
    }

    /// Ends the consumer of a registration that takes no more work, when nothing of it is in hand.
    async fn close_when_done(self: Arc<Self>, registered: Arc<Registered<T>>) {
        registered.in_hand.empty().await;
        if let Err(error) = self.within_operation_timeout("unregister", registered.close()).await {
            tracing::warn!(%error, address = %registered.address, "a consumer could not be closed");
        }
        self.leaving.lock().retain(|leaving| !Arc::ptr_eq(leaving, &registered));
    }

    /// Ends a consumer at once.
    pub(super) async fn end(consumer: &T::Consumer, why: Stop) -> Result<()> {
        consumer.stop(why).await;
        consumer.close().await
    }
}

/// Ends a registration, as long as its bridge is there.
#[derive(Debug)]
struct Handle<T: Transport> {
    engine: Weak<Engine<T>>,
    registered: Arc<Registered<T>>,
}

#[async_trait]
impl<T: Transport> RegistrationControl for Handle<T> {
    fn granted(&self) -> Granted {
        self.registered.granted()
    }

    async fn unregister(&self) -> Result<()> {
        match self.engine.upgrade() {
            Some(engine) => engine.unregister(&self.registered).await,
            None if self.registered.shared.is_over() => Ok(()),
            None => Err(Engine::<T>::error(ErrorKind::ShutDown, "unregister")
                .with_context("the bridge was dropped without a shutdown")),
        }
    }
}
