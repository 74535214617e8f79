//! What a server allows of what a bridge would give.

use std::time::Duration;

use purista_conformance::Collector;
use purista_core::{
    Acknowledge, BridgeState, Capability, CommandDraft, EmitOptions, ErrorKind, EventBridge as _,
    EventBridgeExt as _, EventDraft, Filter, InvokeOptions, MessageType, Payload, RetryPolicy,
    ServiceAddress, Subscription, SubscriptionOptions,
};
use purista_integration_tests::nats::NatsConfig;

use crate::support::{PATIENCE, Place, durable, echo, serve, started, watch};

const OF_JETSTREAM: [Capability; 10] = [
    Capability::DurableSubscriptions,
    Capability::SurvivesBrokerKill,
    Capability::BrokerConfirm,
    Capability::GroupHandover,
    Capability::ManualAcknowledgement,
    Capability::RedeliveryCount,
    Capability::BoundedRetry,
    Capability::DelayedRetry,
    Capability::DeadLetter,
    Capability::LongHandlers,
];

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_shrink_to_those_of_the_server_and_the_rest_works() {
    let place = Place::own(NatsConfig::core()).await;
    let bridge = place.builder().build().unwrap();
    assert!(OF_JETSTREAM.into_iter().all(|capability| bridge.capabilities().has(capability)));
    let seen = Collector::new();
    let subscription = Subscription::new(("Watcher", "1", "happened"), Filter::event("happened"));
    let registration = bridge.register_subscription(subscription, seen.handler()).await.unwrap();
    assert!(registration.granted().durable);
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;

    bridge.start().await.unwrap();
    let given = bridge.capabilities();
    let kept: Vec<_> = OF_JETSTREAM.into_iter().filter(|capability| given.has(*capability)).collect();
    assert!(kept.is_empty(), "{kept:?}");
    assert!(given.has(Capability::MustRoute) && given.has(Capability::NoResponder), "{given:?}");
    assert_eq!(given, started(place.builder().without_jetstream()).await.capabilities());
    let granted = registration.granted();
    assert!(!granted.durable && !granted.dead_letter, "{granted:?}");
    assert_eq!((granted.acknowledge, granted.retry), (Acknowledge::OnReceive, RetryPolicy::NEVER));

    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
    bridge.event("happened").timeout(PATIENCE).emit("once").await.unwrap();
    seen.sentinel("\"once\"").await.unwrap();
    let draft = EventDraft::event(ServiceAddress::client(), "nobodyCares");
    let must_route = EmitOptions::default().with_must_route(true);
    let error = bridge.emit_message(draft, &must_route).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unroutable);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_kept_fails_the_start_and_leaves_nothing() {
    let place = Place::own(NatsConfig::core()).await;
    let bridge = place.builder().build().unwrap();
    let subscription = Subscription::new(("Watcher", "1", "durable"), Filter::event("happened"));
    let seen = Collector::new();
    let subscription = subscription.with_options(durable());
    let registration = bridge.register_subscription(subscription, seen.handler()).await.unwrap();
    for _attempt in 0..2 {
        let error = bridge.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported(Capability::DurableSubscriptions));
        assert_eq!(bridge.health().state, BridgeState::Created);
    }

    registration.unregister().await.unwrap();
    bridge.start().await.unwrap();
    let error = watch(&bridge, "durable", Filter::any(), durable()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported(Capability::DurableSubscriptions));
    let connections = place.server.monitor().connections().await.unwrap();
    assert_eq!(connections.len(), 1, "{connections:?}");
    assert!(connections[0].subscriptions.iter().all(|subscription| !subscription.subject.contains("custom")));
    watch(&bridge, "durable", Filter::any(), SubscriptionOptions::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_follow_when_commands_are_kept() {
    let place = Place::shared(true).await;
    let bridge = place.bridge().await;
    let filter = Filter::message_type(MessageType::Command);
    watch(&bridge, "durable", filter, durable()).await.unwrap();
    let draft = CommandDraft::new(ServiceAddress::client(), ("User", "1", "nothing"));
    let options = InvokeOptions::default().with_timeout(Duration::from_millis(300));
    let error =
        bridge.invoke_command(draft.with_payload(Payload::json(&1).unwrap()), &options).await.unwrap_err();
    let given = bridge.capabilities().has(Capability::NoResponder);
    assert_eq!(given, error.bridge_kind() == Some(ErrorKind::NoHandler), "{error:?}");
}
