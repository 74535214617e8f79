//! Dead letters about which there is much to say, or what a broker does not take.

use bytes::Bytes;
use purista_conformance::{Collector, on_event};
use purista_core::{
    EventBridge as _, EventBridgeExt as _, Filter, HandlerError, RetryPolicy, Subscription,
    SubscriptionOptions, adapter::DeadLetter,
};

use crate::support::{PATIENCE, Place, eventually};

/// A dead letter whose reason is this, read from the broker.
async fn letter_about(reason: String, name: &str, payload: String) -> DeadLetter {
    let place = Place::stock().await;
    let bridge = place.bridge().await;
    let (seen, reader) = (Collector::new(), place.client().await);
    let log = std::sync::Arc::clone(&seen);
    let why = reason.clone();
    let handler = on_event(move |context| {
        log.record(&context);
        let why = why.clone();
        async move {
            match context.message().payload().unwrap().as_str() {
                "\"sentinel\"" => Ok(()),
                _ => Err(HandlerError::unhandled(why)),
            }
        }
    });
    let options = SubscriptionOptions::default().with_retry(RetryPolicy::NEVER).with_dead_letter(true);
    let subscription = Subscription::new((name, name, name), Filter::event("happened"));
    bridge.register_subscription(subscription.with_options(options), handler).await.unwrap();
    bridge.event("happened").timeout(PATIENCE).emit(&payload).await.unwrap();
    eventually("a dead letter", || bridge.stats().dead_lettered == 1).await;
    bridge.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    let stats = bridge.stats();
    assert_eq!((stats.dead_letter_failures, seen.count()), (0, 2), "{stats:?}");
    assert!(bridge.health().is_healthy());

    let mut reader = reader;
    reader.subscribe("purista/dead_letter/#").await;
    let letter = reader.next().await;
    let properties = letter.properties.unwrap().user_properties;
    let [(key, metadata)] = &properties[..] else { panic!("{properties:?}") };
    assert_eq!(key, "purista-dead-letter");
    assert_eq!(letter.payload, *seen_bytes(&seen));
    DeadLetter::from_metadata(metadata, letter.payload).unwrap()
}

fn seen_bytes(seen: &Collector) -> Bytes {
    seen.messages()[0].encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn reasons_with_characters_that_a_broker_does_not_take_are_kept() {
    for character in ['\0', '\u{1}', '\u{7f}', '\u{85}', '\u{9f}', '\u{fdd0}', '\u{ffff}', '\u{10ffff}', '日']
    {
        let text = format!("a{character}b");
        let letter = letter_about(text.clone(), &text, text.clone()).await;
        assert!(letter.reason.contains(&text), "{letter:?}");
        assert_eq!(letter.subscriber.service_name.as_str(), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_long_is_kept() {
    let letter = letter_about("\u{1}".repeat(200_000), &"\u{1}".repeat(255), "x".repeat((1 << 20) - 2)).await;
    assert!(letter.reason.starts_with('\u{1}') || letter.reason.contains("\u{1}\u{1}"), "{letter:?}");
    assert!(letter.original.len() > 1 << 20);
}
