use std::{future::Future, sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    bridge::EventBridge,
    call::identity_setters,
    error::Result,
    message::{EventDraft, Message, Payload},
    options::EmitOptions,
};

/// An event that is not sent yet: what [`EventBridgeExt::event`](crate::EventBridgeExt::event) and
/// [`Context::event`](crate::Context::event) return.
///
/// What it cannot set, such as a receiver, is part of an [`EventDraft`], which goes to [`EventBridge::emit_message`].
///
/// ```
/// # use purista_core::{Context, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, Service};
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// let mail = Service::new("Mail", "1").subscription(
///     "welcome",
///     Filter::event("userRegistered").with_tenant_id("acme"),
///     |_: Context, user: String| async move {
///         println!("welcome, {user}");
///         Ok(())
///     },
/// );
/// bridge.serve([mail]).await?;
///
/// let event = bridge.event("userRegistered").tenant("acme").timeout(Duration::from_secs(1));
/// event.must_route().emit("Ada").await?;
/// // Nobody listens to events of another tenant.
/// let event = bridge.event("userRegistered").tenant("other").must_route();
/// assert_eq!(event.emit("Bob").await.unwrap_err().kind(), ErrorKind::Unroutable);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an event is not sent until `emit`"]
pub struct Emission<'a, B: EventBridge + ?Sized> {
    bridge: &'a B,
    draft: EventDraft,
    options: EmitOptions,
}

impl<'a, B: EventBridge + ?Sized> Emission<'a, B> {
    pub(crate) fn new(bridge: &'a B, draft: EventDraft) -> Self {
        Self { bridge, draft, options: EmitOptions::default() }
    }

    /// Sets how long to wait for the broker to take the event over, up to [`MAX_TIMEOUT`](crate::MAX_TIMEOUT); 5 s by
    /// default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.with_timeout(timeout);
        self
    }

    /// Makes it fail with [`Unroutable`](crate::ErrorKind::Unroutable) when nobody gets the event.
    pub fn must_route(mut self) -> Self {
        self.options = self.options.with_must_route(true);
        self
    }

    identity_setters!();

    /// Sends the event with this content, and returns it as it was sent.
    ///
    /// # Errors
    ///
    /// As [`EventBridge::emit_message`]; a content that has no form in JSON is an
    /// [`InvalidMessage`](crate::ErrorKind::InvalidMessage).
    ///
    /// # Cancel safety
    ///
    /// As [`EventBridge::emit_message`].
    pub fn emit(
        self,
        content: &(impl Serialize + Sync + ?Sized),
    ) -> impl Future<Output = Result<Arc<Message>>> + Send {
        let content = Payload::json(content);
        async move {
            let Self { bridge, draft, options } = self;
            bridge.emit_message(draft.with_payload(content?), &options).await
        }
    }
}
