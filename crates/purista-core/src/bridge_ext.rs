use std::{future::Future, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    bridge::{EventBridge, Registration},
    call::Call,
    emission::Emission,
    error::{InvokeError, Result},
    message::{CommandDraft, EventDraft, Message, Name, Receiver, ServiceAddress},
    options::InvokeOptions,
    service::Service,
};

/// The typed, short forms of an [`EventBridge`]'s methods.
///
/// They send as [`ServiceAddress::client`]. A handler sends through its [`Context`](crate::Context) instead; whole
/// drafts with options go to [`EventBridge::emit_message`] and [`EventBridge::invoke_command`].
pub trait EventBridgeExt: EventBridge {
    /// Begins a call of a command, with a parameter, a time limit or a tenant of its own.
    fn call(&self, receiver: impl Into<Receiver>) -> Call<'_, Self> {
        let draft = CommandDraft::new(ServiceAddress::client(), receiver);
        Call::new(self, draft, InvokeOptions::default())
    }

    /// Invokes a command with a time limit of 30 s and decodes its result.
    ///
    /// # Errors
    ///
    /// As [`Call::invoke`].
    ///
    /// # Cancel safety
    ///
    /// As [`EventBridge::invoke_command`].
    fn invoke<O: DeserializeOwned>(
        &self,
        receiver: impl Into<Receiver> + Send,
        input: &(impl Serialize + Sync + ?Sized),
    ) -> impl Future<Output = Result<O, InvokeError>> + Send {
        self.call(receiver).invoke(input)
    }

    /// Begins to emit an event, with a time limit or a tenant of its own.
    fn event(&self, event_name: impl Into<Name>) -> Emission<'_, Self> {
        Emission::new(self, EventDraft::event(ServiceAddress::client(), event_name))
    }

    /// Emits an event and waits up to 5 s for the broker to take it over.
    ///
    /// # Errors
    ///
    /// As [`Emission::emit`].
    ///
    /// # Cancel safety
    ///
    /// As [`EventBridge::emit_message`].
    fn emit(
        &self,
        event_name: impl Into<Name> + Send,
        content: &(impl Serialize + Sync + ?Sized),
    ) -> impl Future<Output = Result<Arc<Message>>> + Send {
        self.event(event_name).emit(content)
    }

    /// Registers all that the services offer, then starts the bridge if it is not started.
    ///
    /// # Errors
    ///
    /// Those of the first registration that failed, or of the start. What this call registered is unregistered then, so
    /// that it can be called again; on a bridge that was started already and cannot unregister, it stays.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves registered what was registered.
    fn serve(
        &self,
        services: impl IntoIterator<Item = Service> + Send,
    ) -> impl Future<Output = Result<Vec<Registration>>> + Send {
        let services: Vec<Service> = services.into_iter().collect();
        async move {
            let mut registrations = Vec::new();
            let served = async {
                for service in services {
                    service.register(self, &mut registrations).await?;
                }
                self.start().await
            };
            if let Err(failed) = served.await {
                for registration in registrations.iter().rev() {
                    if let Err(error) = registration.unregister().await {
                        tracing::warn!(%error, address = %registration.address(), "a registration stays");
                    }
                }
                return Err(failed);
            }
            Ok(registrations)
        }
    }
}

impl<B: EventBridge + ?Sized> EventBridgeExt for B {}
