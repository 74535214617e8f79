//! What an adapter sees: slots for what it takes from its broker, and what it may tell the broker.

use std::sync::{Arc, Mutex};

use purista_core::{
    Acknowledge, Context, Error, ErrorKind, EventBridge as _, Filter, HandlerError, Result, RetryPolicy,
    Subscription, SubscriptionHandler, SubscriptionOptions,
    adapter::{Acknowledgement, Busy, Delivery, Engine, Intake, async_trait},
};

use super::{
    assert_balanced, event, ms, sleep,
    slow::{Slow, slow_bridge},
};

type Log = Arc<Mutex<Vec<String>>>;

/// Notes what the broker is told, and fails to tell it if it is broken.
#[derive(Debug)]
struct Noting {
    log: Log,
    broken: bool,
}

impl Noting {
    fn note(&self, what: &str) -> Result<()> {
        self.log.lock().unwrap().push(what.to_owned());
        if self.broken { Err(Error::new(ErrorKind::Unavailable, "acknowledge")) } else { Ok(()) }
    }
}

#[async_trait]
impl Acknowledgement for Noting {
    async fn accept(self: Box<Self>) -> Result<()> {
        self.note("accepted")
    }

    async fn release(self: Box<Self>, _failed_attempts: u32) -> Result<()> {
        self.note("released")
    }
}

/// Fails on odd content, after a second.
struct FailsOnOdd(Log);

#[async_trait]
impl SubscriptionHandler for FailsOnOdd {
    async fn handle(&self, context: Context) -> Result<(), HandlerError> {
        self.0.lock().unwrap().push(format!("attempt {}", context.attempt()));
        sleep(1_000).await;
        let content: u32 = context.message().payload().map_or(Ok(0), |payload| payload.deserialize())?;
        if content % 2 == 1 { Err(HandlerError::unhandled("odd")) } else { Ok(()) }
    }
}

/// Starts a subscriber to `happened`; returns where its deliveries go and what becomes of them.
async fn subscriber(options: SubscriptionOptions) -> (Arc<Engine<Slow>>, Intake<Slow>, Log) {
    let (slow, engine) = slow_bridge(0);
    let log = Log::default();
    let subscription =
        Subscription::new(("Watch", "1", "onHappened"), Filter::event("happened")).with_options(options);
    engine.register_subscription(subscription, Arc::new(FailsOnOdd(Arc::clone(&log)))).await.unwrap();
    engine.start().await.unwrap();
    let intake = slow.0.intakes.lock().remove(0);
    (engine, intake, log)
}

fn delivery(engine: &Engine<Slow>, log: &Log, content: u32) -> Delivery<()> {
    let noting = Noting { log: Arc::clone(log), broken: false };
    Delivery::new(Arc::new(event(content).stamp(engine.instance_id()))).with_acknowledgement(Box::new(noting))
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_message_is_acknowledged_when_it_is_said_to_be() {
    let retry = RetryPolicy::default().with_max_attempts(2).with_initial_delay(ms(0));
    let after = SubscriptionOptions::default().with_acknowledge(Acknowledge::AfterHandler);
    let on_receive = SubscriptionOptions::default().with_acknowledge(Acknowledge::OnReceive);
    let cases: [(SubscriptionOptions, u32, &[&str]); 4] = [
        (after.clone(), 0, &["attempt 1", "accepted"]),
        (after.with_retry(retry), 1, &["attempt 1", "attempt 2", "accepted"]),
        (on_receive.clone(), 0, &["accepted", "attempt 1"]),
        (on_receive, 1, &["accepted", "attempt 1"]),
    ];
    for (options, content, expected) in cases {
        let (engine, intake, log) = subscriber(options.clone()).await;
        intake.deliver(intake.try_slot().unwrap(), delivery(&engine, &log, content));
        sleep(10_000).await;
        assert_eq!(taken(&log), expected, "{options:?}");
        assert_balanced(&engine.stats());
    }
}

#[tokio::test(start_paused = true)]
async fn the_count_of_the_broker_goes_on() {
    let retry = RetryPolicy::default().with_max_attempts(4).with_initial_delay(ms(0));
    let (engine, intake, log) = subscriber(SubscriptionOptions::default().with_retry(retry)).await;
    intake.deliver(intake.try_slot().unwrap(), delivery(&engine, &log, 1).with_attempt(3));
    sleep(10_000).await;
    assert_eq!(taken(&log), ["attempt 3", "attempt 4", "accepted"]);
    assert_eq!((engine.stats().dropped, engine.stats().failed_attempts), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_releases_what_was_not_handled() {
    let retry = RetryPolicy::default().with_initial_delay(ms(60_000));
    let (engine, intake, log) = subscriber(SubscriptionOptions::default().with_retry(retry)).await;
    // One waits for its next attempt, one finishes in time.
    intake.deliver(intake.try_slot().unwrap(), delivery(&engine, &log, 1));
    sleep(1_500).await;
    intake.deliver(intake.try_slot().unwrap(), delivery(&engine, &log, 0));
    assert!(engine.shutdown(ms(2_000)).await.is_clean());
    assert_eq!(taken(&log), ["attempt 1", "attempt 1", "released", "accepted"]);

    // One does not finish in time.
    let (engine, intake, log) = subscriber(SubscriptionOptions::default()).await;
    intake.deliver(intake.try_slot().unwrap(), delivery(&engine, &log, 0));
    let report = engine.shutdown(ms(500)).await;
    assert_eq!(
        (report.cancelled_handlers, taken(&log)),
        (1, vec!["attempt 1".to_owned(), "released".to_owned()])
    );
    assert_balanced(&engine.stats());
}

#[tokio::test(start_paused = true)]
async fn slots_are_as_many_as_handlers_and_none_after_the_end() {
    let (engine, intake, log) = subscriber(SubscriptionOptions::default().with_max_concurrency(2)).await;
    assert_eq!(intake.max_concurrency(), 2);
    let slots = [intake.try_slot().unwrap(), intake.try_slot().unwrap()];
    assert_eq!(intake.try_slot().unwrap_err(), Busy::Full);
    assert_eq!(engine.stats().in_hand, 0, "a slot is not a message");
    let [used, unused] = slots;
    intake.deliver(used, delivery(&engine, &log, 0));
    assert_eq!(engine.stats().in_hand, 1);
    drop(unused);
    let waiting = {
        let intake = intake.clone();
        tokio::spawn(async move {
            let _two = [intake.slot().await.unwrap(), intake.slot().await.unwrap()];
        })
    };
    sleep(999).await;
    assert!(!waiting.is_finished());
    sleep(2).await;
    waiting.await.unwrap();

    assert!(engine.shutdown(ms(1_000)).await.is_clean());
    assert_eq!(intake.try_slot().unwrap_err(), Busy::Stopped);
    assert!(intake.slot().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_bridge_takes_no_more() {
    let (engine, intake, _log) = subscriber(SubscriptionOptions::default()).await;
    drop(engine);
    assert_eq!(intake.try_slot().unwrap_err(), Busy::Stopped);
    assert!(intake.slot().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_fail_are_counted() {
    let (engine, intake, log) = subscriber(SubscriptionOptions::default()).await;
    let broken = Noting { log: Arc::clone(&log), broken: true };
    let message = Arc::new(event(0).stamp(engine.instance_id()));
    intake.deliver(intake.try_slot().unwrap(), Delivery::new(message).with_acknowledgement(Box::new(broken)));
    sleep(10_000).await;
    assert_eq!(taken(&log), ["attempt 1", "accepted"]);
    assert_eq!((engine.stats().handled, engine.stats().failed_acknowledgements), (1, 1));
    assert_balanced(&engine.stats());
}
