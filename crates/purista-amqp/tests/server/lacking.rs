//! Brokers that have less than a bridge likes: it works with that, or tells the setting.

use std::time::Duration;

use purista_conformance::on_event;
use purista_core::{
    Capability, EmitOptions, ErrorKind, EventBridge as _, EventBridgeExt as _, EventDraft, Filter,
    HandlerError, Payload, RetryPolicy, ServiceAddress, Subscription, TraceContext,
};
use purista_integration_tests::rabbitmq::RabbitConfig;

use crate::support::{PATIENCE, Place, durable, echo, eventually, serve, started, watch};

/// A call and an event come through.
async fn works(place: &Place, is_typescript: bool) {
    let builder = || if is_typescript { place.typescript() } else { place.builder() };
    let (service, user) = (started(builder()).await, started(builder()).await);
    for number in 0..20 {
        serve(&service, ("User", "1", format!("echo{number}").as_str()), echo()).await;
    }
    let (seen, _) = watch(&service, "reader", Filter::event("happened"), durable()).await.unwrap();
    for number in 0..20_u32 {
        let answer: u32 =
            user.invoke(("User", "1", format!("echo{number}").as_str()), &number).await.unwrap();
        assert_eq!(answer, number);
    }
    let must_route = EmitOptions::default().with_must_route(true);
    let draft = EventDraft::event(ServiceAddress::client(), "happened");
    user.emit_message(draft.with_payload(Payload::json("routed").unwrap()), &must_route).await.unwrap();
    seen.sentinel("\"routed\"").await.unwrap();
    assert!(service.health().is_healthy() && user.health().is_healthy());
    assert!(service.shutdown(PATIENCE).await.is_clean());
    assert!(user.shutdown(PATIENCE).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn small_frames_and_few_channels_are_enough() {
    for channels in [1, 2, 8] {
        let lines = format!("channel_max = {channels}\nframe_max = 8192");
        let place = Place::own(RabbitConfig::default().with_lines(lines)).await;
        works(&place, false).await;
        works(&place, true).await;
    }
}

/// A header has to fit into one frame; RabbitMQ ends the connection of who sends a larger one.
#[tokio::test(flavor = "multi_thread")]
async fn headers_beyond_a_frame_are_refused_or_cut() {
    let place = Place::own(RabbitConfig::default().with_lines("frame_max = 8192")).await;
    for is_typescript in [false, true] {
        let builder = || if is_typescript { place.typescript() } else { place.builder() };
        let bridge = started(builder().prefix(if is_typescript { "ts" } else { "native" })).await;
        let reason = "\u{1}".repeat(5_000);
        let fails = on_event(move |_| {
            let reason = reason.clone();
            async move { Err(HandlerError::unhandled(reason)) }
        });
        // Each letter takes six in JSON.
        let odd = |letter: &str| letter.repeat(255);
        let reader = ServiceAddress::new(odd("\u{1}"), odd("\u{2}"), odd("\u{3}"));
        let subscription = Subscription::new(reader, Filter::event("happened"));
        let options = durable().with_retry(RetryPolicy::NEVER).with_dead_letter(true);
        bridge.register_subscription(subscription.with_options(options), fails).await.unwrap();
        let mut events = bridge.events();
        bridge.event("happened").timeout(PATIENCE).emit("dead").await.unwrap();
        let letters = if is_typescript { "ts.dead-letters" } else { "native.dead-letters" };
        eventually("the dead letter is kept", async || {
            place.queue(letters).await.is_some_and(|queue| queue.messages == 1)
        })
        .await;

        // All that can be long, is.
        let long = |letter: &str| letter.repeat(255);
        let address = ServiceAddress::new(long("a"), long("b"), long("c"));
        let mut draft =
            EventDraft::event(&address, long("e")).with_principal_id(long("p")).with_tenant_id(long("t"));
        draft = draft.with_trace_context(TraceContext::EMPTY);
        bridge.emit_message(draft, &EmitOptions::default()).await.unwrap();
        let mut filter = Filter::event(long("e")).with_tenant_id(long("t"));
        filter.sender.service_name = Some(long("a").as_str().into());
        filter.sender.service_version = Some(long("b").as_str().into());
        filter.sender.service_target = Some(long("c").as_str().into());
        watch(&bridge, "long", filter, durable()).await.unwrap();
        assert!(bridge.health().is_healthy());
        bridge.shutdown(PATIENCE).await;
        while let Some(event) = events.next().await {
            match event {
                purista_core::BridgeEvent::Draining => break,
                purista_core::BridgeEvent::Disconnected(reason) => panic!("{reason}"),
                _ => {}
            }
        }
    }
}

/// The client library has no smaller frames than these.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_too_small_are_told() {
    let place = Place::own(RabbitConfig::default().with_lines("frame_max = 4096")).await;
    let error = place.builder().build().unwrap().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("frame_max"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_virtual_host_are_told() {
    let place = Place::shared().await;
    let management = place.server.management();
    management.set_vhost_limit(&place.vhost, "max-connections", 0).await.unwrap();
    let error = place.builder().build().unwrap().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error:?}");
    assert!(error.to_string().contains("limit"), "{error}");
    management.set_vhost_limit(&place.vhost, "max-connections", 100).await.unwrap();

    let bridge = place.bridge().await;
    serve(&bridge, ("User", "1", "echo"), echo()).await;
    let queues = place.queues().await.len();
    management.set_vhost_limit(&place.vhost, "max-queues", u32::try_from(queues).unwrap()).await.unwrap();
    let error = watch(&bridge, "reader", Filter::event("happened"), durable()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error:?}");
    assert!(error.to_string().contains("queue limit"), "{error}");
    // What there is goes on.
    let answer: u32 = bridge.invoke(("User", "1", "echo"), &7).await.unwrap();
    assert_eq!(answer, 7);
    assert!(bridge.health().is_healthy());
    management.set_vhost_limit(&place.vhost, "max-queues", 100).await.unwrap();
    watch(&bridge, "reader", Filter::event("happened"), durable()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_channels_is_told() {
    let place = Place::shared().await;
    let (user, management) = (format!("ada {}", place.vhost), place.server.management());
    management.put_user(&user, "password").await.unwrap();
    management.set_permissions(&place.vhost, &user, ".*", ".*", ".*").await.unwrap();
    management.set_user_limit(&user, "max-channels", 0).await.unwrap();
    let builder = || place.builder().user_and_password(&user, "password");
    let error = builder().build().unwrap().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error:?}");
    assert!(error.to_string().contains("limit"), "{error}");
    management.set_user_limit(&user, "max-channels", 100).await.unwrap();
    let bridge = started(builder()).await;
    bridge.event("happened").timeout(PATIENCE).emit("with channels").await.unwrap();
}

/// All exchanges and queues are there, and the user may create nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_declared_in_advance_is_enough() {
    let place = Place::shared().await;
    let (user, management) = (format!("ada {}", place.vhost), place.server.management());
    management.put_user(&user, "password").await.unwrap();
    // Queues of its own connection a bridge always makes.
    let own = "^purista\\.(reply|instance|turn|broadcast)\\.";
    management.set_permissions(&place.vhost, &user, own, ".*", ".*").await.unwrap();
    let operator = place.bridge().await;
    watch(&operator, "reader", Filter::event("happened"), durable()).await.unwrap();
    serve(&operator, ("User", "1", "echo"), echo()).await;

    let bridge = started(place.builder().user_and_password(&user, "password")).await;
    let (seen, _) = watch(&bridge, "reader", Filter::event("happened"), durable()).await.unwrap();
    serve(&bridge, ("User", "1", "echo"), echo()).await;
    operator.shutdown(PATIENCE).await;
    bridge.event("happened").timeout(PATIENCE).emit("declared in advance").await.unwrap();
    seen.sentinel("\"declared in advance\"").await.unwrap();
    let answer: u32 = bridge.invoke(("User", "1", "echo"), &7).await.unwrap();
    assert_eq!(answer, 7);
    let refused = watch(&bridge, "undeclared", Filter::event("happened"), durable()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused:?}");
    assert!(bridge.health().is_healthy());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_quorum_queues_it_is_told_and_classic_ones_work() {
    let place = Place::own(RabbitConfig::default().without_features()).await;
    let bridge = place.bridge().await;
    let refused = watch(&bridge, "reader", Filter::event("happened"), durable()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported(Capability::DurableSubscriptions), "{refused:?}");
    assert!(refused.to_string().contains("quorum_queue"), "{refused}");
    let classic = started(place.builder().queue_type(purista_amqp::QueueType::Classic)).await;
    let (seen, _) = watch(&classic, "reader", Filter::event("happened"), durable()).await.unwrap();
    classic.event("happened").timeout(PATIENCE).emit("classic").await.unwrap();
    seen.sentinel("\"classic\"").await.unwrap();
}

/// The broker is short of memory from the beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_starts_and_consumes_in_an_alarm() {
    let place = Place::own(RabbitConfig::default()).await;
    let first = place.bridge().await;
    let (seen, _) = watch(&first, "reader", Filter::event("happened"), durable()).await.unwrap();
    first.event("happened").timeout(PATIENCE).emit("before").await.unwrap();
    seen.sentinel("\"before\"").await.unwrap();
    first.shutdown(PATIENCE).await;
    place.server.set_memory_alarm(true).await.unwrap();
    let bridge = place.bridge().await;
    watch(&bridge, "reader", Filter::event("happened"), durable()).await.unwrap();
    let options = EmitOptions::default().with_timeout(Duration::from_secs(3));
    let draft = EventDraft::event(ServiceAddress::client(), "happened");
    let refused = bridge.emit_message(draft, &options).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Backpressure, "{refused:?}");
    eventually("health tells", async || !bridge.health().is_healthy()).await;
    place.server.set_memory_alarm(false).await.unwrap();
    eventually("health tells that it is over", async || bridge.health().is_healthy()).await;
    bridge.event("happened").timeout(PATIENCE).emit("after").await.unwrap();
}
