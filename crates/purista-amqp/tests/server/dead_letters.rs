//! What becomes of dead letters that RabbitMQ counts the deliveries of: to list them is to have them delivered.

use std::collections::BTreeSet;

use lapin::{
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use purista_amqp::AmqpBridge;
use purista_conformance::on_event;
use purista_core::{
    DeadLetterFilter, DeadLetters, EventBridge as _, EventBridgeExt as _, Filter, HandlerError,
    KeptDeadLetter, RetryPolicy, Subscription, SubscriptionOptions,
};

use crate::support::{Place, eventually};

const LETTERS: u64 = 3;

/// As many as RabbitMQ 4 has without a word; it drops what is delivered more often.
const LIMIT: i64 = 20;

async fn with_letters(place: &Place) -> AmqpBridge {
    let bridge = place.bridge().await;
    let options = SubscriptionOptions::default().with_retry(RetryPolicy::default().with_max_attempts(1));
    let subscription = Subscription::new(("Mail", "1", "welcome"), Filter::event("happened"));
    let fails = on_event(|_| async { Err(HandlerError::unhandled("on purpose")) });
    bridge.register_subscription(subscription.with_options(options), fails).await.unwrap();
    for number in 0..LETTERS {
        bridge.emit("happened", &number).await.unwrap();
    }
    eventually("there are dead letters", async || bridge.stats().dead_lettered == LETTERS).await;
    bridge
}

async fn list(letters: &dyn DeadLetters) -> Vec<KeptDeadLetter> {
    let page = letters.list(&DeadLetterFilter::default(), 100, None).await.unwrap();
    assert_eq!(page.next, None);
    page.letters
}

fn ids(letters: &[KeptDeadLetter]) -> BTreeSet<String> {
    letters.iter().map(|kept| kept.id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_another_declaration_takes_no_letter() {
    let place = Place::shared().await;
    let client = place.client().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(LIMIT));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    client.channel.queue_declare("purista.dead-letters".into(), options, arguments).await.unwrap();

    let bridge = with_letters(&place).await;
    let letters = bridge.dead_letters().unwrap();
    let first = list(&*letters).await;
    assert_eq!(first.len() as u64, LETTERS);
    for round in 0..3 * LIMIT {
        let again = list(&*letters).await;
        assert_eq!(ids(&again), ids(&first), "in round {round}");
    }
    let all = list(&*letters).await;
    let mut contents: Vec<_> = all.into_iter().map(|kept| kept.letter).collect();
    contents.sort_by_key(|letter| letter.last_attempt_at);
    let mut expected: Vec<_> = first.into_iter().map(|kept| kept.letter).collect();
    expected.sort_by_key(|letter| letter.last_attempt_at);
    assert_eq!(contents, expected);
}
