//! A bridge shuts down while its server is down.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use purista_conformance::Latch;
use purista_core::{
    BridgeEvent, BridgeState, CommandDraft, EmitOptions, ErrorKind, EventBridge as _, EventDraft, Filter,
    InvokeOptions, ServiceAddress, SubscriptionOptions,
};
use purista_integration_tests::nats::NatsConfig;
use tokio::runtime::Handle;

use crate::support::{Place, durable, eventually, held, serve, watch, within};

const GRACE: Duration = Duration::from_millis(300);

/// What a shutdown may take after its grace period, beside other tests.
const PATIENCE: Duration = Duration::from_secs(2);

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

async fn a_shutdown_ends(config: NatsConfig, options: SubscriptionOptions) {
    let place = Place::own(config).await;
    let before = tasks();
    let bridge = Arc::new(place.builder().build().unwrap());
    bridge.start().await.unwrap();
    let latch = Latch::new();
    let handler = held(&latch);
    serve(&bridge, ("Held", "1", "work"), handler).await;
    watch(&bridge, "all", Filter::any(), options).await.unwrap();
    let (calls, emits) = (Arc::clone(&bridge), Arc::clone(&bridge));
    let call = tokio::spawn(async move {
        let draft = CommandDraft::new(ServiceAddress::client(), ("Held", "1", "work"));
        calls.invoke_command(draft, &InvokeOptions::default()).await
    });
    latch.reached(1).await.unwrap();

    let mut events = bridge.events();
    place.server.process().unwrap().kill().await.unwrap();
    within("the loss is noticed", async {
        while !matches!(events.next().await.unwrap(), BridgeEvent::Disconnected(_)) {}
    })
    .await;
    call.await.unwrap().unwrap_err();
    let emit = tokio::spawn(async move {
        let draft = EventDraft::event(ServiceAddress::client(), "happened");
        let options = EmitOptions::default().with_timeout(Duration::from_secs(60));
        emits.emit_message(draft, &options).await
    });

    let began = Instant::now();
    let report = bridge.shutdown(GRACE).await;
    let took = began.elapsed();
    assert!(took <= GRACE + PATIENCE, "{took:?}: {report:?}");
    assert_eq!(report.cancelled_handlers, 1, "{report:?}");
    assert_eq!(bridge.health().state, BridgeState::ShutDown);
    // It does not wait for its own time limit.
    let ended = within("the emit ends with the bridge", emit).await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ShutDown, "{ended:?}");
    eventually(&format!("the {before} tasks of before"), || tasks() <= before).await;
    drop(bridge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_while_the_server_is_down_ends_in_time_and_leaves_no_task() {
    a_shutdown_ends(NatsConfig::jetstream(), durable()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_while_the_server_without_jetstream_is_down_ends_in_time() {
    a_shutdown_ends(NatsConfig::core(), SubscriptionOptions::default()).await;
}
