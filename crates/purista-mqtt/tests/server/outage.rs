//! A broker that takes nothing more, or less than there is to send.

use std::{process::Command, sync::Arc, time::Duration};

use purista_conformance::{Collector, Latch, on_command, on_event};
use purista_core::{
    BridgeEvent, CommandDraft, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, ServiceAddress,
    Subscription, SubscriptionOptions,
};
use purista_mqtt::MqttBridge;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, runtime::Handle, task::JoinSet, time::Instant};

use crate::support::{
    PATIENCE, Place, echo, emit_within, eventually, in_order, invoke_within, serve, started, watch, within,
};

/// How much longer something may take beside other tests.
const SLACK: Duration = Duration::from_secs(15);

fn signal(place: &Place, signal: &str) {
    let id = place.server.process().id().unwrap();
    assert!(Command::new("kill").args([signal, &id.to_string()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stands_still_is_noticed_and_what_waited_is_not_lost() {
    let place = Place::stock().await;
    let keep_alive = Duration::from_secs(1);
    let bridge = Arc::new(started(place.builder().keep_alive(keep_alive)).await);
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let seen = watch(&bridge, "reader", Filter::event("happened"), in_order()).await.unwrap();
    let mut events = bridge.events();

    signal(&place, "-STOP");
    let (stopped, limit) = (Instant::now(), Duration::from_millis(300));
    let draft = || CommandDraft::new(ServiceAddress::client(), ("Greeter", "1", "greet"));
    let waits = tokio::spawn({
        let bridge = Arc::clone(&bridge);
        async move { emit_within(&bridge, "happened", 1, 2 * PATIENCE).await }
    });
    let emit = emit_within(&bridge, "unheard", 0, limit);
    let (call, emit) = tokio::join!(invoke_within(&bridge, draft(), limit), emit);
    assert!(stopped.elapsed() < limit + SLACK, "{:?}", stopped.elapsed());
    // On a machine that stands still as well, the loss may be known before.
    let is_over = |kind: ErrorKind| matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable);
    assert!(call.unwrap_err().bridge_kind().is_some_and(is_over));
    assert!(is_over(emit.unwrap_err().kind()));
    within("the loss is noticed", async {
        while !matches!(events.next().await.unwrap(), BridgeEvent::Disconnected(_)) {}
    })
    .await;
    assert!(stopped.elapsed() < 2 * keep_alive + SLACK, "{:?}", stopped.elapsed());
    assert!(!bridge.health().connected);
    // While nobody is there, the time limit counts all the same.
    let began = Instant::now();
    invoke_within(&bridge, draft(), limit).await.unwrap_err();
    assert!(began.elapsed() < limit + SLACK, "{:?}", began.elapsed());

    signal(&place, "-CONT");
    eventually("all is well again", || bridge.health().is_healthy()).await;
    waits.await.unwrap().unwrap();
    invoke_within(&bridge, draft(), PATIENCE).await.unwrap();
    emit_within(&bridge, "happened", 2, PATIENCE).await.unwrap();
    seen.sentinel("2").await.unwrap();
}

/// A stock broker takes twenty messages at a time, and gives as many.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_emit_while_the_window_is_full_go_on() {
    const EVENTS: usize = 1_000;
    let place = Place::stock().await;
    let bridge = Arc::new(place.bridge().await);
    let answers = watch(&bridge, "answers", Filter::event("answered"), SubscriptionOptions::default());
    let answers = answers.await.unwrap();
    let (asked, emitter) = (Collector::new(), Arc::downgrade(&bridge));
    let log = Arc::clone(&asked);
    let handler = on_event(move |context| {
        log.record(&context);
        let emitter = emitter.upgrade();
        async move {
            let Some(emitter) = emitter else { return Ok(()) };
            let payload = context.message().payload().cloned().unwrap();
            emitter.event("answered").timeout(PATIENCE).emit(&payload.deserialize::<usize>()?).await?;
            Ok(())
        }
    });
    let subscription = Subscription::new(("Watcher", "1", "asked"), Filter::event("asked"));
    bridge.register_subscription(subscription, handler).await.unwrap();
    let mut emits = JoinSet::new();
    for number in 0..EVENTS {
        let bridge = Arc::clone(&bridge);
        emits.spawn(async move { emit_within(&bridge, "asked", number, 2 * PATIENCE).await });
    }
    while let Some(emitted) = emits.join_next().await {
        emitted.unwrap().unwrap();
    }
    answers.at_least(EVENTS).await.unwrap();
    eventually("nothing is in hand", || bridge.stats().in_hand == 0).await;
    assert_eq!((asked.count(), answers.count()), (EVENTS, EVENTS));
}

async fn a_shutdown_ends(options: SubscriptionOptions) {
    let place = Place::tuned().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (before, grace) = (tasks(), Duration::from_millis(300));
    let bridge = Arc::new(started(place.persistent("node")).await);
    let latch = Latch::new();
    let gate = Arc::clone(&latch);
    let handler = on_command(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.pass().await;
            Ok(None)
        }
    });
    serve(&bridge, ("Held", "1", "work"), handler).await;
    watch(&bridge, "reader", Filter::any(), options).await.unwrap();
    let calls = Arc::clone(&bridge);
    let call = tokio::spawn(async move {
        let draft = CommandDraft::new(ServiceAddress::client(), ("Held", "1", "work"));
        invoke_within(&calls, draft, 3 * PATIENCE).await
    });
    latch.reached(1).await.unwrap();
    place.server.process().kill().await.unwrap();
    eventually("the loss is noticed", || !bridge.health().connected).await;
    call.await.unwrap().unwrap_err();
    let emits = Arc::clone(&bridge);
    let emit = tokio::spawn(async move { emit_within(&emits, "happened", 1, 3 * PATIENCE).await });

    let began = Instant::now();
    let report = bridge.shutdown(grace).await;
    let took = began.elapsed();
    assert!(took <= grace + SLACK, "{took:?}: {report:?}");
    assert_eq!(report.cancelled_handlers, 1, "{report:?}");
    emit.await.unwrap().unwrap_err();
    eventually(&format!("the {before} tasks of before"), || tasks() <= before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_while_the_server_is_down_ends_in_time_and_leaves_no_task() {
    a_shutdown_ends(in_order().with_durable(true)).await;
    a_shutdown_ends(in_order().with_durable(false)).await;
}

/// Nothing has told the bridge yet that nobody is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_while_the_server_stands_still_ends_in_time() {
    for is_durable in [true, false] {
        let place = Place::tuned().await;
        let bridge = started(place.persistent("node")).await;
        serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
        watch(&bridge, "reader", Filter::any(), in_order().with_durable(is_durable)).await.unwrap();
        signal(&place, "-STOP");
        let (began, grace) = (Instant::now(), Duration::from_millis(300));
        let report = bridge.shutdown(grace).await;
        let took = began.elapsed();
        assert!(took <= grace + SLACK, "{took:?}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_at_a_server_that_says_nothing_or_nonsense_fails_in_time() {
    let place = Place::stock().await;
    signal(&place, "-STOP");
    let nonsense = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", nonsense.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = nonsense.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            client.write_all(answer).await.unwrap();
        }
    });
    for url in [place.server.url(), &url] {
        let limit = Duration::from_millis(500);
        let bridge = MqttBridge::builder(url).connect_timeout(limit).build().unwrap();
        let began = Instant::now();
        let error = bridge.start().await.unwrap_err();
        assert!(began.elapsed() <= limit + SLACK, "{:?}", began.elapsed());
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
}
