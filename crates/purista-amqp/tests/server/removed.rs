//! What somebody removes from the broker under a live connection, most of which RabbitMQ tells nobody.

use std::{sync::Arc, time::Duration};

use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, ExchangeDeleteOptions},
    types::FieldTable,
};
use purista_amqp::{AmqpBridge, AmqpBridgeBuilder};
use purista_conformance::{Collector, Latch, on_command, on_event};
use purista_core::{
    CommandDraft, EmitOptions, ErrorKind, EventBridge as _, EventDraft, Filter, HandlerError, InvokeOptions,
    Payload, RetryPolicy, ServiceAddress, Subscription, SubscriptionOptions,
};
use purista_integration_tests::rabbitmq::Management;
use tokio::time::Instant;

use crate::support::{PATIENCE, Place, durable, echo, eventually, held, invoke, serve, started, watch};

const OFTEN: Duration = Duration::from_millis(200);

/// A service with a command and a subscription, and somebody who uses both.
struct Pair {
    place: Place,
    service: AmqpBridge,
    user: AmqpBridge,
    seen: Arc<Collector>,
}

impl Pair {
    async fn begin(is_typescript: bool) -> Self {
        let place = Place::shared().await;
        let (service, user) =
            (started(builder(&place, is_typescript)).await, started(builder(&place, is_typescript)).await);
        serve(&service, ("User", "1", "echo"), echo()).await;
        let (seen, _) = watch(&service, "reader", Filter::event("happened"), durable()).await.unwrap();
        Self { place, service, user, seen }
    }

    fn management(&self) -> &Management {
        self.place.server.management()
    }

    async fn emit(&self, content: &str, timeout: Duration) -> purista_core::Result<()> {
        let draft = EventDraft::event(ServiceAddress::client(), "happened");
        let draft = draft.with_payload(Payload::json(content).unwrap());
        self.user.emit_message(draft, &EmitOptions::default().with_timeout(timeout)).await.map(drop)
    }

    /// Waits until emits are refused for this reason: health tells before the reason is known.
    async fn is_refused(&self, content: &str, kind: ErrorKind) {
        eventually("emits are refused", async || {
            let refused = self.emit(content, Duration::from_secs(1)).await.unwrap_err();
            assert!(matches!(refused.kind(), ErrorKind::Timeout) || refused.kind() == kind, "{refused:?}");
            refused.kind() == kind
        })
        .await;
    }

    async fn call(&self) -> bool {
        let draft = CommandDraft::new(ServiceAddress::client(), ("User", "1", "echo"));
        let options = InvokeOptions::default().with_timeout(PATIENCE);
        self.user.invoke_command(draft, &options).await.is_ok()
    }

    /// Waits until all is as it was.
    async fn is_whole(&self, after: &str) {
        eventually(after, async || {
            self.call().await && self.service.health().is_healthy() && self.user.health().is_healthy()
        })
        .await;
        self.emit(after, PATIENCE).await.unwrap();
        self.seen.sentinel(&format!("{after:?}")).await.unwrap();
    }
}

fn builder(place: &Place, is_typescript: bool) -> AmqpBridgeBuilder {
    let builder = if is_typescript { place.typescript() } else { place.builder() };
    builder.check_interval(OFTEN)
}

/// The exchanges that are there for all bridges, and those in front of one subscriber.
fn exchanges(is_typescript: bool) -> Vec<&'static str> {
    match is_typescript {
        true => vec!["purista", "purista.instances", "purista.sub.Watcher.1.reader"],
        false => vec![
            "purista.events",
            "purista.commands",
            "purista.responses",
            "purista.subscription.Watcher-1-reader",
        ],
    }
}

async fn exchanges_come_back(is_typescript: bool) {
    let pair = Pair::begin(is_typescript).await;
    for exchange in exchanges(is_typescript) {
        let before = pair.place.bindings().await.len();
        pair.management().delete_exchange(&pair.place.vhost, exchange).await.unwrap();
        if !exchange.ends_with("reader") {
            // Who finds out by what it sends waits until all bridges are bound again, and nothing is lost.
            let name = format!("the first after {exchange}");
            pair.emit(&name, PATIENCE).await.unwrap();
            pair.seen.sentinel(&format!("{name:?}")).await.unwrap();
        }
        eventually("all bindings are back", async || pair.place.bindings().await.len() == before).await;
        pair.is_whole(&format!("after {exchange}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_comes_back_with_its_bindings() {
    exchanges_come_back(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_comes_back_with_its_bindings_beside_the_original() {
    exchanges_come_back(true).await;
}

/// Somebody else declares the exchange again, so nobody hears that it was gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_another_one_declared_again_gets_its_bindings() {
    let pair = Pair::begin(false).await;
    let client = pair.place.client().await;
    for exchange in ["purista.events", "purista.commands", "purista.responses"] {
        let name: lapin::types::ShortString = exchange.into();
        let before = pair.place.bindings().await.len();
        client.channel.exchange_delete(name.clone(), ExchangeDeleteOptions::default()).await.unwrap();
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared =
            client.channel.exchange_declare(name, ExchangeKind::Topic, durable, FieldTable::default());
        declared.await.unwrap();
        eventually("the bindings are back", async || pair.place.bindings().await.len() == before).await;
        pair.is_whole(&format!("after {exchange}")).await;
    }
}

async fn bindings_come_back(is_typescript: bool) {
    let pair = Pair::begin(is_typescript).await;
    let mut all = pair.place.bindings().await;
    // Nobody else can unbind what is exclusive to a connection.
    all.retain(|binding| ![".reply.", ".instance."].iter().any(|it| binding.destination.contains(it)));
    assert!(all.len() >= 3, "{all:?}");
    for binding in &all {
        pair.management().delete_binding(&pair.place.vhost, binding).await.unwrap();
        eventually("the binding is back", async || pair.place.bindings().await.contains(binding)).await;
    }
    pair.is_whole("after all").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_binding_comes_back() {
    bindings_come_back(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_binding_comes_back_beside_the_original() {
    bindings_come_back(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_of_another_type_is_a_mismatch_until_it_is_gone() {
    let pair = Pair::begin(false).await;
    let name = lapin::types::ShortString::from("purista.events");
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    // A bridge may be faster, whose exchange is the right one.
    let client = loop {
        let client = pair.place.client().await;
        client.channel.exchange_delete(name.clone(), ExchangeDeleteOptions::default()).await.unwrap();
        let kind = ExchangeKind::Fanout;
        if client.channel.exchange_declare(name.clone(), kind, durable, FieldTable::default()).await.is_ok() {
            break client;
        }
    };
    eventually("both are unhealthy", async || {
        !pair.service.health().is_healthy() && !pair.user.health().is_healthy()
    })
    .await;
    pair.is_refused("not now", ErrorKind::TopologyMismatch).await;
    client.channel.exchange_delete(name, ExchangeDeleteOptions::default()).await.unwrap();
    pair.is_whole("after the wrong type").await;
    assert!(!pair.seen.payloads().contains(&"\"not now\"".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_fail_at_once_when_the_queue_of_their_answers_is_deleted() {
    let pair = Pair::begin(false).await;
    let latch = Latch::new();
    let gate = Arc::clone(&latch);
    let slow = on_command(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.pass().await;
            Ok(None)
        }
    });
    serve(&pair.service, ("User", "1", "slow"), slow).await;
    let draft = CommandDraft::new(ServiceAddress::client(), ("User", "1", "slow"));
    let call = invoke(&pair.user, draft);
    let delete = async {
        latch.reached(1).await.unwrap();
        let prefix = format!("purista.reply.{}", pair.user.instance_id());
        let queues = pair.place.queues().await;
        let queue = queues.iter().find(|queue| queue.name.starts_with(&prefix)).unwrap();
        pair.place.server.delete_queue_by_force(&pair.place.vhost, &queue.name).await.unwrap();
        Instant::now()
    };
    let (answer, deleted_at) = futures_util::future::join(call, delete).await;
    assert_eq!(answer.unwrap_err().bridge_kind(), Some(ErrorKind::Unavailable));
    assert!(deleted_at.elapsed() < PATIENCE / 2, "{:?}", deleted_at.elapsed());
    latch.open();
    pair.is_whole("after the queue of answers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_of_dead_letters_comes_back_before_it_is_needed() {
    let pair = Pair::begin(false).await;
    pair.management().delete_queue(&pair.place.vhost, "purista.dead-letters").await.unwrap();
    eventually("it is back", async || pair.place.queue("purista.dead-letters").await.is_some()).await;
    let fails = on_event(|_| async { Err(HandlerError::unhandled("fails")) });
    let subscription = Subscription::new(("Watcher", "1", "fails"), Filter::event("happened"));
    let options = durable().with_retry(RetryPolicy::NEVER).with_dead_letter(true);
    pair.service.register_subscription(subscription.with_options(options), fails).await.unwrap();
    pair.management().delete_queue(&pair.place.vhost, "purista.dead-letters").await.unwrap();
    pair.emit("dead", PATIENCE).await.unwrap();
    eventually("a dead letter is kept", async || {
        pair.place.queue("purista.dead-letters").await.is_some_and(|queue| queue.messages == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_does_not_answer_for_a_while_keeps_what_waits_in_it() {
    const EVENTS: usize = 10;
    let pair = Pair::begin(false).await;
    let (latch, seen) = (Latch::new(), Collector::new());
    let holds = held(&seen, &latch);
    let subscription = Subscription::new(("Watcher", "1", "holds"), Filter::event("happened"));
    let options = SubscriptionOptions::default().with_max_concurrency(1);
    pair.service.register_subscription(subscription.with_options(options), holds).await.unwrap();
    for number in 0..EVENTS {
        pair.emit(&number.to_string(), PATIENCE).await.unwrap();
    }
    latch.reached(1).await.unwrap();

    let (server, vhost) = (&pair.place.server, &pair.place.vhost);
    let queue = "purista.subscription.Watcher-1-holds";
    server.suspend_queue(vhost, queue, true).await.unwrap();
    eventually("it is told", async || !pair.service.health().is_healthy()).await;
    server.suspend_queue(vhost, queue, false).await.unwrap();
    eventually("all is well", async || pair.service.health().is_healthy()).await;
    latch.open();
    seen.at_least(EVENTS).await.unwrap();
    let all: Vec<_> = (0..EVENTS).map(|number| format!("\"{number}\"")).collect();
    assert_eq!(seen.payloads(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_host_that_was_deleted_gets_all_it_had() {
    let pair = Pair::begin(false).await;
    let before = pair.place.bindings().await.len();
    pair.management().delete_vhost(&pair.place.vhost).await.unwrap();
    eventually("both are unhealthy", async || {
        !pair.service.health().is_healthy() && !pair.user.health().is_healthy()
    })
    .await;
    pair.is_refused("nowhere", ErrorKind::Forbidden).await;
    pair.management().create_vhost(&pair.place.vhost).await.unwrap();
    pair.is_whole("after the virtual host").await;
    eventually("all bindings are back", async || pair.place.bindings().await.len() == before).await;
}
