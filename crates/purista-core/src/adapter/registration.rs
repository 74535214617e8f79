//! Registering with an engine, and the end of it.

use std::sync::{Arc, Weak};

use async_trait::async_trait;

use super::{
    Consumer, Engine, Intake, Transport,
    limits::check_endpoint,
    registered::{Endpoint, Registered},
};
use crate::{
    bridge::{EventBridge as _, Registration, Unregister},
    capability::Capability,
    error::{ErrorKind, Result},
    grant::demand,
    health::BridgeState,
    message::{EventDraft, Id, MessageType, Payload},
    options::EmitOptions,
};

impl<T: Transport> Engine<T> {
    pub(super) async fn register(&self, endpoint: Endpoint) -> Result<Registration> {
        let key = endpoint.key();
        check_endpoint(&endpoint, self.config.max_identity_len)?;
        let given = self.transport.capabilities();
        let registered = Arc::new(Registered::new(endpoint, given, Weak::clone(&self.itself))?);
        let live = self
            .change("register", async {
                if self.registrations.lock().contains_key(&key) {
                    return Err(
                        Self::error(ErrorKind::AlreadyRegistered, "register").context(key.1.to_string())
                    );
                }
                let live = self.shared.state() == BridgeState::Started;
                demand(live, Capability::RegisterAfterStart, &given)?;
                if live {
                    self.open(&registered).await?;
                }
                self.registrations.lock().insert(key.clone(), Arc::clone(&registered));
                Ok(live)
            })
            .await
            .map_err(|error| error.bridge(T::NAME))?;
        if live {
            self.announce(&registered).await;
        }
        let granted = registered.granted;
        let handle = Handle { engine: Weak::clone(&self.itself), registered };
        Ok(Registration::new(key.1, granted, Arc::new(handle)))
    }

    pub(super) async fn open(&self, registered: &Arc<Registered<T>>) -> Result<()> {
        let intake = Intake(Arc::clone(registered));
        let granted = &registered.granted;
        let consumer = self
            .within_operation_timeout("register", async {
                match &registered.endpoint {
                    Endpoint::Command(command, _) => {
                        self.transport.consume_command(command, granted, intake).await
                    }
                    Endpoint::Subscription(subscription, _) => {
                        self.transport.consume_subscription(subscription, granted, intake).await
                    }
                }
            })
            .await?;
        registered.opened(consumer);
        Ok(())
    }

    /// Tells everyone that a command is served (wire format, section 1). Nothing depends on it.
    pub(super) async fn announce(&self, registered: &Registered<T>) {
        let Endpoint::Command(command, _) = &registered.endpoint else { return };
        let info = EventDraft::info(&command.address, MessageType::InfoServiceFunctionAdded);
        let metadata = Payload::json(&serde_json::json!({
            "expose": { "contentTypeRequest": "application/json", "contentTypeResponse": "application/json" }
        }));
        let (Some(info), Ok(metadata)) = (info, metadata) else { return };
        let info = info.with_trace_id(Id::random()).with_payload(metadata);
        if let Err(error) = self.emit_message(info, &EmitOptions::default()).await {
            tracing::debug!(%error, address = %command.address, "a command could not be announced");
        }
    }

    async fn unregister(&self, registered: &Arc<Registered<T>>) -> Result<()> {
        demand(true, Capability::Unregister, &self.transport.capabilities())?;
        let key = registered.endpoint.key();
        let ended = self.change("unregister", async {
            let is_there =
                self.registrations.lock().get(&key).is_some_and(|known| Arc::ptr_eq(known, registered));
            if !is_there {
                return Ok(());
            }
            registered.stop().await;
            self.registrations.lock().remove(&key);
            let registered = Arc::clone(registered);
            tokio::spawn(async move {
                registered.in_hand.empty().await;
                if let Err(error) = registered.close().await {
                    tracing::warn!(%error, address = %registered.address, "a consumer could not be closed");
                }
            });
            Ok(())
        });
        match ended.await {
            // After a shutdown nothing is delivered any more, which is what was asked for.
            Err(error) if error.kind() == ErrorKind::ShutDown => Ok(()),
            result => result,
        }
    }

    /// Ends a consumer that has nothing in hand.
    pub(super) async fn end(consumer: &T::Consumer) -> Result<()> {
        consumer.stop().await;
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
impl<T: Transport> Unregister for Handle<T> {
    async fn unregister(&self) -> Result<()> {
        match self.engine.upgrade() {
            Some(engine) => engine.unregister(&self.registered).await,
            None => Ok(()),
        }
    }
}
