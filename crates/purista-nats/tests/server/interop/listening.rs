//! Bridges of ours listen where the original does.

use std::collections::BTreeSet;

use purista_core::{EventBridge as _, Filter, MessageType, PartyFilter, SubscriptionOptions};
use purista_integration_tests::{interop::pattern, samples};
use serde::Deserialize;

use crate::support::{Place, echo, serve, started, watch};

/// What an instance of the original listens to.
#[derive(Deserialize)]
struct Listener {
    case: String,
    pattern: String,
    queue: Option<String>,
}

fn listeners() -> Vec<Listener> {
    samples::read(include_str!("../../samples/listeners.jsonl")).unwrap()
}

/// The peers of the tests listen to what the original was seen to listen to.
#[test]
fn patterns_of_peers_are_those_of_the_original() {
    for Listener { case, pattern: seen, .. } in listeners() {
        let wanted: &[_] = match case.strip_prefix("command-").unwrap_or(&case) {
            "event" => &[("messageType", "customMessage"), ("eventName", "userCreated")],
            "everything" => &[],
            "sender" => &[
                ("senderServiceName", "Caller"),
                ("senderServiceVersion", "1"),
                ("eventName", "durableEvent"),
            ],
            "not-shared" => &[("eventName", "userCreated")],
            target => &[
                ("messageType", "command"),
                ("receiverServiceName", "User"),
                ("receiverServiceVersion", "1"),
                ("receiverServiceTarget", target),
            ],
        };
        assert_eq!(pattern(wanted, ".", "*"), seen, "{case}");
    }
}

/// Returns what a bridge listens to on subjects of messages.
async fn heard(place: &Place, instance: &str) -> BTreeSet<(String, Option<String>)> {
    let connections = place.server.monitor().connections().await.unwrap();
    let connection = connections.into_iter().find(|connection| connection.name == instance).unwrap();
    let subscriptions = connection.subscriptions.into_iter();
    // Version 2 of the original knows no streams.
    let streams = format!("{}.stream.", place.prefix);
    let of_messages = subscriptions.filter(|subscription| {
        subscription.subject.split('.').count() == 13 && !subscription.subject.starts_with(&streams)
    });
    of_messages.map(|subscription| (subscription.subject, subscription.queue)).collect()
}

/// Subjects and queue groups of commands are the same, so instances of both share them.
#[tokio::test(flavor = "multi_thread")]
async fn commands_are_listened_to_as_by_the_original() {
    for has_jetstream in [false, true] {
        let place = Place::shared(has_jetstream).await;
        let bridge = started(place.builder().instance_id(place.prefix.as_str())).await;
        for target in ["echo", "fail", "crash"] {
            serve(&bridge, ("User", "1", target), echo()).await;
        }
        let commands = listeners().into_iter().filter(|listener| listener.case.starts_with("command-"));
        let expected = commands.map(|listener| {
            (place.here(&listener.pattern), listener.queue.map(|queue| place.group_here(&queue)))
        });
        let expected = expected.collect();
        assert_eq!(heard(&place, &place.prefix).await, expected);
    }
}

/// Groups of subscribers are our own: the original's would let subscribers share that only look alike.
#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_listen_to_the_patterns_of_the_original() {
    let place = Place::shared(false).await;
    let bridge = started(place.builder().instance_id(place.prefix.as_str()).without_jetstream()).await;
    let of_caller = PartyFilter::any().with_service_name("Caller").with_service_version("1");
    for (subscriber, filter) in [
        ("event", Filter::event("userCreated").with_message_type(MessageType::CustomMessage)),
        ("everything", Filter::any()),
        ("sender", Filter::event("durableEvent").with_sender(of_caller)),
        ("not-shared", Filter::event("userCreated")),
    ] {
        watch(&bridge, subscriber, filter, SubscriptionOptions::default()).await.unwrap();
    }
    let subscriptions = listeners().into_iter().filter(|listener| !listener.case.starts_with("command-"));
    let expected: BTreeSet<_> = subscriptions.map(|listener| place.here(&listener.pattern)).collect();
    let heard: BTreeSet<_> =
        heard(&place, &place.prefix).await.into_iter().map(|(subject, _)| subject).collect();
    assert_eq!(heard, expected);
    bridge.shutdown(crate::support::PATIENCE).await;
}
