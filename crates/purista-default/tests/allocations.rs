//! How often memory is allocated for a message of 256 bytes. Unlike a time, that is the same on every machine.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

use std::sync::Arc;

use allocation_counter::measure;
use purista_core::{
    Command, CommandDraft, CommandHandler, Context, EmitOptions, EventBridge as _, EventBridgeExt as _,
    EventDraft, Filter, HandlerError, InvokeOptions, Message, Payload, Service, ServiceAddress, Subscription,
    SubscriptionHandler, adapter::async_trait,
};
use purista_default::DefaultEventBridge;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};

const MESSAGES: u32 = 1_000;

/// Counts the allocations of one of many messages, after what is done once.
fn per_message(runtime: &Runtime, send: impl AsyncFn()) -> f64 {
    let all = async || {
        for _ in 0..MESSAGES {
            send().await;
        }
    };
    runtime.block_on(all());
    let counted = measure(|| runtime.block_on(all()));
    let total = u32::try_from(counted.count_total).unwrap();
    f64::from(total) / f64::from(MESSAGES)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn payload() -> Payload {
    Payload::json(&"x".repeat(254)).unwrap()
}

fn echo() -> ServiceAddress {
    ServiceAddress::new("Bench", "1", "echo")
}

fn within(what: &str, allocations: f64, limit: f64) {
    // Queues grow now and then.
    assert!(allocations < limit + 0.5, "{what}: {allocations} allocations, the limit is {limit}");
}

struct Echo;

#[async_trait]
impl CommandHandler for Echo {
    async fn handle(&self, context: Context) -> Result<Option<Payload>, HandlerError> {
        Ok(context.message().payload().cloned())
    }
}

struct Tell(Arc<Semaphore>);

#[async_trait]
impl SubscriptionHandler for Tell {
    async fn handle(&self, _context: Context) -> Result<(), HandlerError> {
        self.0.add_permits(1);
        Ok(())
    }
}

#[test]
fn the_envelope() {
    let message = EventDraft::event(echo(), "happened").with_payload(payload()).stamp(&"bridge".into());
    let encoded = message.encode();
    let encodes = per_message(&runtime(), async || drop(message.encode()));
    within("to encode", encodes, 2.0);
    let decodes = per_message(&runtime(), async || drop(Message::decode(encoded.clone()).unwrap()));
    within("to decode", decodes, 0.0);
}

#[test]
fn a_call() {
    let runtime = runtime();
    let bridge = DefaultEventBridge::builder().build().unwrap();
    runtime.block_on(async {
        bridge.register_command(Command::new(echo()), Arc::new(Echo)).await.unwrap();
        bridge.start().await.unwrap();
    });
    let draft = CommandDraft::new(ServiceAddress::client(), echo()).with_payload(payload());
    let calls = per_message(&runtime, async || {
        bridge.invoke_command(draft.clone(), &InvokeOptions::default()).await.unwrap();
    });
    within("a call", calls, 6.0);
}

#[test]
fn a_typed_call() {
    let runtime = runtime();
    let bridge = Arc::new(DefaultEventBridge::builder().build().unwrap());
    let service = Service::new("Bench", "1").command("echo", async |_: Context, text: String| Ok(text));
    runtime.block_on(bridge.serve([service])).unwrap();
    let input = "x".repeat(254);
    let calls = per_message(&runtime, async || {
        let _echo: String = bridge.invoke(echo(), &input).await.unwrap();
    });
    within("a typed call", calls, 12.0);
}

#[test]
fn an_event_to_one_subscription() {
    let runtime = runtime();
    let bridge = DefaultEventBridge::builder().build().unwrap();
    let handled = Arc::new(Semaphore::new(0));
    runtime.block_on(async {
        let subscription = Subscription::new(("Bench", "1", "reader"), Filter::event("event"));
        bridge.register_subscription(subscription, Arc::new(Tell(Arc::clone(&handled)))).await.unwrap();
        bridge.start().await.unwrap();
    });
    let draft = EventDraft::event(ServiceAddress::client(), "event").with_payload(payload());
    let events = per_message(&runtime, async || {
        bridge.emit_message(draft.clone(), &EmitOptions::default()).await.unwrap();
        handled.acquire().await.unwrap().forget();
    });
    within("an event", events, 6.0);
}
