use std::sync::Arc;

use purista_core::{
    Command, CommandDraft, CommandHandler, Context, EventBridge as _, EventDraft, Filter, HandlerError,
    Payload, ServiceAddress, Subscription, SubscriptionHandler, SubscriptionOptions, adapter::async_trait,
};
use purista_nats::NatsBridge;

use crate::{handled::Handled, jetstream::BATCH};

/// What every contender sends: 256 bytes of JSON.
pub(crate) fn payload() -> anyhow::Result<Payload> {
    Ok(Payload::json(&"x".repeat(254))?)
}

/// Connects a bridge with default options.
pub(crate) async fn bridge(url: &str, prefix: &str) -> anyhow::Result<Arc<NatsBridge>> {
    let bridge = NatsBridge::builder(url).prefix(prefix).build()?;
    bridge.start().await?;
    Ok(Arc::new(bridge))
}

fn echo() -> ServiceAddress {
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

/// Serves the command that all calls go to.
pub(crate) async fn serve(bridge: &NatsBridge) -> anyhow::Result<()> {
    bridge.register_command(Command::new(echo()), Arc::new(Echo)).await?;
    Ok(())
}

/// Drafts a call.
pub(crate) fn call() -> anyhow::Result<CommandDraft> {
    Ok(CommandDraft::new(ServiceAddress::client(), echo()).with_payload(payload()?))
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

/// Subscribes to the event that all emit. As many may be in hand as the raw client asks for at once.
pub(crate) async fn subscribe(bridge: &NatsBridge, handled: &Arc<Handled>) -> anyhow::Result<()> {
    let subscriber = ServiceAddress::new("Bench", "1", "count");
    let options = SubscriptionOptions::default().with_max_concurrency(BATCH);
    let subscription = Subscription::new(subscriber, Filter::event("counted")).with_options(options);
    bridge.register_subscription(subscription, Arc::new(Count(Arc::clone(handled)))).await?;
    Ok(())
}

/// Drafts an event.
pub(crate) fn event() -> anyhow::Result<EventDraft> {
    Ok(EventDraft::event(ServiceAddress::client(), "counted").with_payload(payload()?))
}
