//! What is done with a bridge, whichever it is.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use purista_core::{
    Command, CommandDraft, CommandHandler, Context, EmitOptions, EventBridge, EventDraft, Filter,
    HandlerError, InvokeOptions, Payload, ServiceAddress, Subscription, SubscriptionHandler,
    SubscriptionOptions,
};

use super::{
    contender::{Consumed, Contender},
    handled::Handled,
};

/// What every contender sends: 256 bytes of JSON.
///
/// # Errors
///
/// None.
pub fn payload() -> anyhow::Result<Bytes> {
    Ok(Bytes::copy_from_slice(json()?.as_str().as_bytes()))
}

fn json() -> anyhow::Result<Payload> {
    Ok(Payload::json(&"x".repeat(254))?)
}

/// Returns the command that all call.
#[must_use]
pub fn echo() -> ServiceAddress {
    ServiceAddress::new("Bench", "1", "echo")
}

/// Answers with what it got.
struct Echo;

#[async_trait]
impl CommandHandler for Echo {
    async fn handle(&self, context: Context) -> Result<Option<Payload>, HandlerError> {
        Ok(context.message().payload().cloned())
    }
}

/// Serves a command.
///
/// # Errors
///
/// If the bridge refuses.
pub async fn serve(bridge: &dyn EventBridge, command: ServiceAddress) -> anyhow::Result<()> {
    bridge.register_command(Command::new(command), Arc::new(Echo)).await?;
    Ok(())
}

/// Drafts a call of [`echo`].
///
/// # Errors
///
/// None.
pub fn call() -> anyhow::Result<CommandDraft> {
    Ok(CommandDraft::new(ServiceAddress::client(), echo()).with_payload(json()?))
}

/// Calls [`echo`] with so many calls in flight.
///
/// # Errors
///
/// None.
pub fn calls(
    name: &'static str,
    in_flight: usize,
    bridge: &Arc<impl EventBridge>,
) -> anyhow::Result<Contender> {
    let (bridge, draft) = (Arc::clone(bridge), call()?);
    Ok(Contender::of_calls(name, in_flight, move || {
        let (bridge, draft) = (Arc::clone(&bridge), draft.clone());
        async move {
            bridge.invoke_command(draft, &InvokeOptions::default()).await?;
            Ok(())
        }
    }))
}

/// Counts what it handles.
struct Count(Arc<Handled>);

#[async_trait]
impl SubscriptionHandler for Count {
    async fn handle(&self, _context: Context) -> Result<(), HandlerError> {
        self.0.one_more();
        Ok(())
    }
}

/// The event that all emit.
pub const EVENT: &str = "counted";

/// Subscribes to the event, with so many in hand at once.
///
/// # Errors
///
/// If the bridge refuses.
pub async fn subscribe(
    bridge: &dyn EventBridge,
    handled: &Arc<Handled>,
    max_concurrency: usize,
) -> anyhow::Result<()> {
    let subscriber = ServiceAddress::new("Bench", "1", "count");
    let options = SubscriptionOptions::default().with_max_concurrency(max_concurrency);
    let subscription = Subscription::new(subscriber, Filter::event(EVENT)).with_options(options);
    bridge.register_subscription(subscription, Arc::new(Count(Arc::clone(handled)))).await?;
    Ok(())
}

/// Drafts an event.
///
/// # Errors
///
/// None.
pub fn event() -> anyhow::Result<EventDraft> {
    Ok(EventDraft::event(ServiceAddress::client(), EVENT).with_payload(json()?))
}

/// Emits the event with so many emits in flight.
///
/// # Errors
///
/// None.
pub fn events(
    name: &'static str,
    in_flight: usize,
    consumed: Option<Consumed>,
    bridge: &Arc<impl EventBridge>,
) -> anyhow::Result<Contender> {
    let (bridge, draft) = (Arc::clone(bridge), event()?);
    Ok(Contender::of_events(name, in_flight, consumed, move || {
        let (bridge, draft) = (Arc::clone(&bridge), draft.clone());
        async move {
            bridge.emit_message(draft, &EmitOptions::default()).await?;
            Ok(())
        }
    }))
}
