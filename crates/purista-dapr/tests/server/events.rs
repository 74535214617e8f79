use std::{
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::ensure;
use async_nats::jetstream::{self, stream};
use purista_core::{
    Capability, Context, EmitOptions, EventBridge, EventBridgeExt as _, EventDraft, Filter, HandlerError,
    MessageType, Payload, RetryPolicy, Service, ServiceAddress, SubscriptionOptions,
};
use purista_integration_tests::{
    dapr::{Component, Sidecar},
    nats::{NatsConfig, NatsServer},
    rabbitmq::{RabbitConfig, RabbitServer},
};

use tokio::sync::Notify;

use crate::support::{Place, Seen, beside, connected, disconnected};

/// What the RabbitMQ component of the tests gives as it is configured.
const RABBITMQ: [Capability; 3] =
    [Capability::DurableSubscriptions, Capability::BrokerConfirm, Capability::ManualAcknowledgement];

async fn emit(bridge: &dyn EventBridge, name: &str, text: &str) -> anyhow::Result<()> {
    let draft =
        EventDraft::event(ServiceAddress::client(), name).with_payload(Payload::from_json_text(text)?);
    bridge.emit_message(draft, &EmitOptions::default()).await?;
    Ok(())
}

/// Subscribes with a handler that keeps the payloads.
fn watch(service: Service, target: &str, filter: Filter, seen: &Seen) -> Service {
    let seen = seen.clone();
    service.subscription(target.to_owned(), filter, move |_ctx: Context, payload: Payload| {
        seen.push(payload.as_str());
        async { Ok(()) }
    })
}

#[tokio::test]
async fn events_reach_all_who_subscribe_as_they_were_sent() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let sidecar = place.sidecar("app-greeter-v1").await?;
    let bridge = beside(&sidecar).all_messages_topic("purista-all").build()?;
    let [first, second, odd, all, responses] = std::array::from_fn(|_| Seen::default());
    let service = Service::new("Greeter", "1")
        .command("greet", |_ctx: Context, name: String| async move { Ok(format!("Hello, {name}!")) });
    let service = watch(service, "first", Filter::event("userCreated"), &first);
    let service = watch(service, "second", Filter::event("userCreated"), &second);
    let service = watch(service, "odd", Filter::event("a/b #*"), &odd);
    let service =
        watch(service, "responses", Filter::message_type(MessageType::CommandSuccessResponse), &responses);
    let service = watch(service, "all", Filter::message_type(MessageType::CustomMessage), &all);
    bridge.serve([service]).await?;

    let text = r#"{"b":12345678901234567890123,"a":"\ud800 <&>"}"#;
    emit(&bridge, "userCreated", text).await?;
    ensure!(first.at_least(1).await? == [text] && second.at_least(1).await? == [text]);
    emit(&bridge, "a/b #*", "1").await?;
    ensure!(odd.at_least(1).await? == ["1"]);
    ensure!(all.at_least(2).await? == [text, "1"]);
    let _: String = bridge.invoke(("Greeter", "1", "greet"), "Ada").await?;
    ensure!(responses.at_least(1).await? == ["\"Hello, Ada!\""]);
    ensure!(!bridge.capabilities().has(Capability::DurableSubscriptions));
    ensure!(bridge.stats().malformed == 0, "{:?}", bridge.stats());
    bridge.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

#[tokio::test]
async fn what_failed_comes_again_and_what_finished_does_not() -> anyhow::Result<()> {
    let server = RabbitServer::start(RabbitConfig::default()).await?;
    let place = Place::new(Component::RabbitMq { url: server.url().into() })?;
    let (sidecar, emitter) = (place.sidecar("app-mail-v1").await?, place.sidecar("app-user-v1").await?);
    let bridge = || beside(&sidecar).component_gives(RABBITMQ).instance_id("mail-0").build();
    let emitter = beside(&emitter).build()?;
    emitter.start().await?;

    let (fine, retried) = (Seen::default(), Seen::default());
    let attempts = Arc::new(AtomicUsize::new(0));
    let service = |hangs: bool| {
        let (retried, attempts) = (retried.clone(), Arc::clone(&attempts));
        let retry = RetryPolicy::default().with_max_attempts(3).with_initial_delay(Duration::from_millis(20));
        let service = Service::new("Mail", "1").subscription_with(
            "retried",
            Filter::event("userCreated"),
            SubscriptionOptions::default().with_retry(retry).with_durable(true),
            move |_ctx: Context, payload: Payload| {
                let (retried, attempts) = (retried.clone(), Arc::clone(&attempts));
                async move {
                    if hangs {
                        retried.push("hangs");
                        std::future::pending::<()>().await;
                    }
                    if attempts.fetch_add(1, Ordering::SeqCst) < 2 {
                        return Err(HandlerError::unhandled("not yet"));
                    }
                    retried.push(payload.as_str());
                    Ok(())
                }
            },
        );
        watch(service, "fine", Filter::event("userCreated"), &fine)
    };
    let first = bridge()?;
    first.serve([service(false)]).await?;
    ensure!(first.capabilities().has(Capability::DurableSubscriptions));
    emit(&emitter, "userCreated", "1").await?;
    ensure!(retried.at_least(1).await? == ["1"] && attempts.load(Ordering::SeqCst) == 3);
    first.shutdown(Duration::from_secs(1)).await;

    // While its bridge is away, and then given back by a handler that does not end.
    emit(&emitter, "userCreated", "2").await?;
    sidecar.process().terminate().await?;
    sidecar.process().start_again().await?;
    let second = bridge()?;
    second.serve([service(true)]).await?;
    retried.at_least(2).await?;
    second.shutdown(Duration::from_millis(50)).await;
    sidecar.process().terminate().await?;
    sidecar.process().start_again().await?;
    let third = bridge()?;
    third.serve([service(false)]).await?;
    ensure!(retried.at_least(3).await?.last().is_some_and(|last| last == "2"), "{:?}", retried.all());
    third.shutdown(Duration::from_secs(1)).await;
    emitter.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

#[tokio::test]
async fn a_message_has_two_ids_where_one_would_be_dropped() -> anyhow::Result<()> {
    let server = NatsServer::start(NatsConfig::jetstream()).await?;
    let jetstream = jetstream::new(async_nats::connect(server.url()).await?);
    let subjects = vec!["userCreated".into(), "purista-all".into()];
    jetstream.create_stream(stream::Config { name: "all".into(), subjects, ..Default::default() }).await?;
    let place = Place::new(Component::JetStream { url: server.url().into() })?;
    let start = async |app_id| {
        // One durable consumer has one topic.
        let config = place.config(app_id)?.with_component_metadata("durableName", "");
        Sidecar::start(config.with_component_metadata("queueGroupName", "")).await
    };
    let (sidecar, emitter) = (start("app-mail-v1").await?, start("app-user-v1").await?);
    let build = |sidecar| beside(sidecar).all_messages_topic("purista-all").build();
    let (bridge, emitter) = (build(&sidecar)?, build(&emitter)?);
    emitter.start().await?;
    let (named, all) = (Seen::default(), Seen::default());
    let service = watch(Service::new("Mail", "1"), "named", Filter::event("userCreated"), &named);
    bridge.serve([watch(service, "all", Filter::message_type(MessageType::CustomMessage), &all)]).await?;
    ensure!(bridge.capabilities().has(Capability::BroadcastSubscriptions));
    emit(&emitter, "userCreated", "1").await?;
    // JetStream drops what comes with the same id.
    ensure!(named.at_least(1).await? == ["1"] && all.at_least(1).await? == ["1"]);
    bridge.shutdown(Duration::from_secs(1)).await;
    emitter.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

#[tokio::test]
async fn a_sidecar_that_dies_delivers_again_only_what_did_not_finish() -> anyhow::Result<()> {
    let server = RabbitServer::start(RabbitConfig::default()).await?;
    let place = Place::new(Component::RabbitMq { url: server.url().into() })?;
    let (sidecar, emitter) = (place.sidecar("app-mail-v1").await?, place.sidecar("app-user-v1").await?);
    let bridge =
        beside(&sidecar).component_gives(RABBITMQ).keep_alive(Duration::from_millis(1_500)).build()?;
    let emitter = beside(&emitter).build()?;
    emitter.start().await?;
    let (quick, slow, go) = (Seen::default(), Seen::default(), Arc::new(Notify::new()));
    let (slows, goes) = (slow.clone(), Arc::clone(&go));
    let service = watch(Service::new("Mail", "1"), "quick", Filter::event("userCreated"), &quick);
    let waits = move |_ctx: Context, payload: Payload| {
        slows.push(payload.as_str());
        let goes = Arc::clone(&goes);
        async move {
            goes.notified().await;
            Ok(())
        }
    };
    bridge.serve([service.subscription("slow", Filter::event("userCreated"), waits)]).await?;
    let mut events = bridge.events();
    emit(&emitter, "userCreated", "1").await?;
    quick.at_least(1).await?;
    slow.at_least(1).await?;

    sidecar.process().kill().await?;
    disconnected(&mut events).await?;
    sidecar.process().start_again().await?;
    connected(&mut events).await?;
    // It comes after what was delivered again.
    emit(&emitter, "userCreated", "2").await?;
    quick.at_least(2).await?;
    slow.at_least(2).await?;
    go.notify_waiters();
    emit(&emitter, "userCreated", "3").await?;
    quick.at_least(3).await?;
    slow.at_least(3).await?;
    go.notify_waiters();
    ensure!(quick.all() == ["1", "2", "3"] && slow.all() == ["1", "2", "3"], "{quick:?} {slow:?}");
    bridge.shutdown(Duration::from_secs(1)).await;
    emitter.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
