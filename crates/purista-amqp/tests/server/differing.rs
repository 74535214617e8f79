//! Instances of one subscriber or command that are configured differently, as in a deployment that is under way.

use purista_amqp::{AmqpBridge, AmqpBridgeBuilder, QueueType};
use purista_conformance::Collector;
use purista_core::{
    Command, CommandOptions, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, Registration, Result,
    Sharing, Subscription, SubscriptionOptions,
};

use crate::support::{PATIENCE, Place, durable, echo, started, transient};

type Configure = fn(AmqpBridgeBuilder) -> AmqpBridgeBuilder;

/// What the second instance has another of, and whether both can be.
struct Difference {
    name: &'static str,
    builder: (Configure, Configure),
    options: (SubscriptionOptions, SubscriptionOptions),
    is_typescript: bool,
    both_can_be: bool,
}

fn same(builder: AmqpBridgeBuilder) -> AmqpBridgeBuilder {
    builder
}

fn differences() -> Vec<Difference> {
    let broadcast = SubscriptionOptions::default().with_sharing(Sharing::Broadcast).with_durable(false);
    let of = |name, second: Configure, both_can_be| Difference {
        name,
        builder: (same, second),
        options: (durable(), durable()),
        is_typescript: false,
        both_can_be,
    };
    let with = |name, first, second, is_typescript, both_can_be| Difference {
        name,
        builder: (same, same),
        options: (first, second),
        is_typescript,
        both_can_be,
    };
    vec![
        of("the type of the queue", |it| it.queue_type(QueueType::Classic), false),
        of("a limit of the queue", |it| it.max_queue_length(10), false),
        Difference {
            builder: (|it| it.max_queue_length(20), |it| it.max_queue_length(10)),
            ..of("another limit of the queue", same, false)
        },
        // The queue is there for all subscribers, and keeps what it was declared with.
        of("the limit of dead letters", |it| it.max_dead_letters(10), true),
        of("the largest payload", |it| it.max_payload(1_000), true),
        of("the prefix", |it| it.prefix("other"), true),
        with("durable and not", durable(), transient(), false, false),
        with("transient and not", transient(), durable(), false, false),
        with("durable and not, beside the original", durable(), transient(), true, false),
        with("transient and not, beside the original", transient(), durable(), true, false),
        with("shared and broadcast", transient(), broadcast.clone(), false, true),
        with("shared and broadcast, beside the original", transient(), broadcast, true, true),
        with("how many at once", durable(), durable().with_max_concurrency(7), false, true),
    ]
}

async fn subscribe(
    bridge: &AmqpBridge,
    options: SubscriptionOptions,
) -> Result<(std::sync::Arc<Collector>, Registration)> {
    let seen = Collector::new();
    let subscription = Subscription::new(("Watcher", "1", "reader"), Filter::event("happened"));
    let registered = bridge.register_subscription(subscription.with_options(options), seen.handler()).await?;
    Ok((seen, registered))
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_live_at_the_broker_are_not_changed_under_who_uses_them() {
    for difference in differences() {
        let Difference { name, builder, options, is_typescript, both_can_be } = difference;
        let place = Place::shared().await;
        let base = || if is_typescript { place.typescript() } else { place.builder() };
        let first = started((builder.0)(base())).await;
        let (seen, _) = subscribe(&first, options.0.clone()).await.unwrap();
        let declared = async || {
            let mut queues = place.queues().await;
            queues.retain(|it| it.name.contains("reader") && !it.name.contains(".turn."));
            let told = queues.into_iter().map(|it| (it.name, it.durable, it.kind, it.arguments));
            told.filter(|(name, ..)| name.starts_with("purista")).collect::<Vec<_>>()
        };
        let before = declared().await;

        let second = started((builder.1)(base())).await;
        match subscribe(&second, options.1.clone()).await {
            Ok(_) => assert!(both_can_be, "{name}: both consume"),
            Err(error) => {
                assert!(!both_can_be, "{name}: {error:?}");
                assert_eq!(error.kind(), ErrorKind::TopologyMismatch, "{name}: {error:?}");
                assert_eq!(declared().await, before, "{name}");
                // The first one goes on with what it has.
                first.event("happened").timeout(PATIENCE).emit("goes on").await.unwrap();
                seen.sentinel("\"goes on\"").await.unwrap();
            }
        }
        assert!(first.health().is_healthy(), "{name}");
        assert!(second.health().is_healthy(), "{name}");

        // When the first one is gone and nothing waits, the second one may have it its way.
        if !both_can_be {
            first.shutdown(PATIENCE).await;
            let (seen, _) =
                subscribe(&second, options.1).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            second.event("happened").timeout(PATIENCE).emit("at last").await.unwrap();
            seen.sentinel("\"at last\"").await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_durable_for_one_instance_is_for_all() {
    for (first, second) in [(true, false), (false, true)] {
        let place = Place::shared().await;
        let (one, other) = (place.bridge().await, place.bridge().await);
        let command = |durable| {
            let options = CommandOptions::default().with_durable(durable);
            Command::new(("User", "1", "echo")).with_options(options)
        };
        one.register_command(command(first), echo()).await.unwrap();
        let refused = other.register_command(command(second), echo()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "{first}, {second}: {refused:?}");
        let answer: u8 = other.invoke(("User", "1", "echo"), &7).await.unwrap();
        assert_eq!(answer, 7);
        assert!(one.health().is_healthy() && other.health().is_healthy());
    }
}

/// One that comes back after others have changed the queue is refused, is told so, and comes back when they are gone.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_to_other_options_is_unhealthy_until_they_are_gone() {
    let place = Place::shared().await;
    let old = started(place.builder()).await;
    let (seen, _) = subscribe(&old, durable()).await.unwrap();
    let new = started(place.builder().queue_type(QueueType::Classic)).await;
    // An operator forces the change: the old instance loses its queue, and the new one takes the name.
    let name = "purista.subscription.Watcher-1-reader";
    let mut events = old.events();
    let take = async {
        loop {
            place.server.management().delete_queue(&place.vhost, name).await.ok();
            if let Ok(registered) = subscribe(&new, durable()).await {
                break registered;
            }
        }
    };
    let (new_seen, _) = crate::support::within("the new instance has the name", take).await;
    crate::support::eventually("the old one is told", async || {
        old.health().not_consuming == [("Watcher", "1", "reader").into()]
    })
    .await;
    new.event("happened").timeout(PATIENCE).emit("for the new one").await.unwrap();
    new_seen.sentinel("\"for the new one\"").await.unwrap();
    assert_eq!(seen.count(), 0);
    new.shutdown(PATIENCE).await;
    crate::support::eventually("the old one is back", async || old.health().is_healthy()).await;
    old.event("happened").timeout(PATIENCE).emit("for the old one").await.unwrap();
    seen.sentinel("\"for the old one\"").await.unwrap();
    while let Ok(Some(_)) = tokio::time::timeout(std::time::Duration::ZERO, events.next()).await {}
}
