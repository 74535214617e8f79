//! What the broker refuses fails alone: RabbitMQ closes the channel of a message that it does not take, and tells nobody
//! what became of the others on it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::{join, join_all};
use purista_amqp::AmqpBridgeBuilder;
use purista_conformance::on_command;
use purista_core::{
    BridgeEvent, CommandDraft, EmitOptions, ErrorKind, EventBridge as _, EventBridgeExt as _, EventDraft,
    Filter, Payload, ServiceAddress,
};
use purista_integration_tests::rabbitmq::RabbitConfig;
use tokio::time::Instant;

use crate::support::{PATIENCE, Place, durable, echo, eventually, invoke, serve, started, watch};

/// A user who may publish nothing whose key holds `forbidden`.
async fn restricted(place: &Place) -> AmqpBridgeBuilder {
    let (user, management) = (format!("ada {}", place.vhost), place.server.management());
    management.put_user(&user, "password").await.unwrap();
    management.set_permissions(&place.vhost, &user, ".*", ".*", ".*").await.unwrap();
    for exchange in ["purista.commands", "purista.responses", "purista.events"] {
        let set = management.set_topic_permissions(&place.vhost, &user, exchange, "^(?!.*forbidden)", ".*");
        set.await.unwrap();
    }
    place.builder().user_and_password(user, "password")
}

fn draft(event: &str, content: usize) -> EventDraft {
    EventDraft::event(ServiceAddress::client(), event).with_payload(Payload::json(&content).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_command_fails_alone_and_no_other_is_executed_twice() {
    const CALLS: usize = 400;
    let place = Place::shared().await;
    let service = place.bridge().await;
    let executed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executed);
    let counts = on_command(move |context| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { Ok(context.message().payload().cloned()) }
    });
    serve(&service, ("User", "1", "allowed"), counts).await;
    serve(&service, ("User", "1", "forbidden"), echo()).await;
    let caller = started(restricted(&place).await).await;
    // Nobody has called before: the broker is not known to take any of it.
    for round in 1..=3 {
        let calls = join_all((0..CALLS).map(|number| {
            let target = if number % 100 == 50 { "forbidden" } else { "allowed" };
            let draft = CommandDraft::new(ServiceAddress::client(), ("User", "1", target));
            let draft = draft.with_payload(Payload::json(&number).unwrap());
            let caller = &caller;
            async move { (target, invoke(caller, draft).await) }
        }));
        for (target, answer) in calls.await {
            match target {
                "forbidden" => {
                    let kind = answer.unwrap_err().bridge_kind();
                    assert_eq!(kind, Some(ErrorKind::Forbidden));
                }
                _ => drop(answer.unwrap()),
            }
        }
        assert_eq!(executed.load(Ordering::Relaxed), round * (CALLS - CALLS / 100));
    }
    assert!(caller.health().is_healthy());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_reach_somebody_and_is_forbidden_fails_alone() {
    let place = Place::shared().await;
    let bridge = started(restricted(&place).await).await;
    let (seen, _) = watch(&bridge, "reader", Filter::event("allowed"), durable()).await.unwrap();
    let options = EmitOptions::default().with_must_route(true);
    let emits = join_all((0..100).map(|number| {
        let event = if number % 10 == 5 { "forbidden" } else { "allowed" };
        let (bridge, options) = (&bridge, &options);
        async move { (event, bridge.emit_message(draft(event, number), options).await) }
    }));
    for (event, sent) in emits.await {
        match event {
            "forbidden" => assert_eq!(sent.unwrap_err().kind(), ErrorKind::Forbidden),
            _ => drop(sent.unwrap()),
        }
    }
    seen.at_least(90).await.unwrap();
    let missing = bridge.emit_message(draft("allowed but unheard", 0), &options).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Unroutable);
}

/// More refusals than a connection has numbers for channels: each costs one, and the client gives none of them again.
#[tokio::test(flavor = "multi_thread")]
async fn a_series_of_bad_publishes_stops_nobody() {
    const BAD: usize = 100;
    let lines = "channel_max = 16\nmax_message_size = 65536";
    let place = Place::own(RabbitConfig::default().with_lines(lines)).await;
    let service = place.bridge().await;
    serve(&service, ("User", "1", "echo"), echo()).await;
    let (seen, _) = watch(&service, "reader", Filter::event("allowed"), durable()).await.unwrap();
    let bridge = started(restricted(&place).await).await;
    let mut events = bridge.events();

    let bad = async {
        for number in 0..BAD {
            let forbidden = draft(&format!("forbidden {number}"), number);
            let error = bridge
                .emit_message(forbidden, &EmitOptions::default().with_timeout(2 * PATIENCE))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Forbidden, "{error:?}");
        }
    };
    let good = async {
        let mut slowest = Duration::ZERO;
        for number in 0..200 {
            let began = Instant::now();
            bridge
                .emit_message(draft("allowed", number), &EmitOptions::default().with_timeout(2 * PATIENCE))
                .await
                .unwrap();
            let _answer: usize = bridge.invoke(("User", "1", "echo"), &number).await.unwrap();
            slowest = slowest.max(began.elapsed());
        }
        slowest
    };
    let ((), slowest) = join(bad, good).await;
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");
    seen.at_least(200).await.unwrap();

    // The broker tells its limit once; from then on nothing larger gets to it.
    let large = || {
        EventDraft::event(ServiceAddress::client(), "allowed")
            .with_payload(Payload::json(&"x".repeat(70_000)).unwrap())
    };
    for _time in 0..BAD {
        let error = bridge
            .emit_message(large(), &EmitOptions::default().with_timeout(2 * PATIENCE))
            .await
            .unwrap_err();
        let ErrorKind::PayloadTooLarge { size, limit, .. } = error.kind() else { panic!("{error:?}") };
        assert!(size > 70_000 && limit == 65_536, "{error}");
        assert!(error.to_string().contains("max_message_size"), "{error}");
    }
    bridge.event("allowed").timeout(PATIENCE).emit("after all that").await.unwrap();
    seen.sentinel("\"after all that\"").await.unwrap();
    assert!(bridge.health().is_healthy());
    // Connections whose numbers are used up are ended, and the session goes on.
    let name = bridge.instance_id().to_string();
    eventually("few connections", async || {
        let all = place.connections("publishes").await;
        let ours = all.iter().filter_map(|it| it.connection_name()).filter(|it| it.contains(&name)).count();
        (1..=3).contains(&ours)
    })
    .await;
    bridge.shutdown(PATIENCE).await;
    let mut lost = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            BridgeEvent::Draining => break,
            BridgeEvent::Disconnected(reason) => drop(lost.insert(reason)),
            _ => {}
        }
    }
    assert!(lost.is_empty(), "{lost:?}");
}
