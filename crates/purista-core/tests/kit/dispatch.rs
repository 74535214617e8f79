//! From a delivery to its end: limits, retry, dead letters, acknowledgement.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use purista_core::{
    Acknowledge, CommandOptions, Context, DEFAULT_CONCURRENCY, EmitOptions, ErrorKind, EventBridge as _,
    EventBridgeExt as _, Filter, HandlerError, Message, RetryPolicy, Service, SubscriptionOptions,
};
use purista_default::{DefaultEventBridge, Hub, HubConfig};
use tokio::time::Instant;

use super::{
    Crowd, WORK, assert_balanced, bridge_on, event, ms, serve, serving, settle, sleep, timed, within, work,
};

fn options() -> SubscriptionOptions {
    SubscriptionOptions::default()
}

fn retry(attempts: u32, initial: u64, longest: u64) -> RetryPolicy {
    RetryPolicy::default()
        .with_max_attempts(attempts)
        .with_initial_delay(ms(initial))
        .with_max_delay(ms(longest))
}

async fn emit(bridge: &DefaultEventBridge, content: u32) -> Arc<Message> {
    bridge.emit_message(event(content), &EmitOptions::default()).await.unwrap()
}

/// When a handler ran, since the first time, and which attempt it was told.
type Attempts = Arc<Mutex<Vec<(Duration, u32)>>>;

/// A subscriber that notes its attempts and fails as often as the event's content says.
fn failing(options: SubscriptionOptions) -> (Service, Attempts) {
    let attempts = Attempts::default();
    let notes = Arc::clone(&attempts);
    let began = Mutex::new(None);
    let handler = move |ctx: Context, failures: u32| {
        let since = began.lock().unwrap().get_or_insert_with(Instant::now).elapsed();
        notes.lock().unwrap().push((since, ctx.attempt()));
        async move { if ctx.attempt() <= failures { Err(HandlerError::unhandled("not yet")) } else { Ok(()) } }
    };
    (
        Service::new("Watch", "1").subscription_with(
            "onHappened",
            Filter::event("happened"),
            options,
            handler,
        ),
        attempts,
    )
}

#[tokio::test(start_paused = true)]
async fn as_many_handlers_run_as_may_and_no_more() {
    for (limit, concurrency) in [(Some(1), 1), (Some(7), 7), (None, DEFAULT_CONCURRENCY)] {
        let crowd = Arc::new(Crowd::default());
        let inside = Arc::clone(&crowd);
        let mut options = options();
        options.max_concurrency = limit;
        let handler = move |_ctx: Context, _event: u32| {
            let inside = Arc::clone(&inside);
            async move {
                inside.during(sleep(10)).await;
                Ok(())
            }
        };
        let service =
            Service::new("Watch", "1").subscription_with("onHappened", Filter::any(), options, handler);
        let bridge = serving(service).await;
        let (took, ()) = timed(async {
            join_all((0..200).map(|number| emit(&bridge, number))).await;
            assert!(bridge.shutdown(ms(60_000)).await.is_clean());
        })
        .await;
        assert_eq!((crowd.most(), bridge.stats().handled), (concurrency, 200));
        assert_eq!(took, ms(10 * 200_u64.div_ceil(concurrency as u64)));
        assert_balanced(&bridge.stats());
    }
}

#[tokio::test(start_paused = true)]
async fn commands_keep_to_their_limit_too() {
    let crowd = Arc::new(Crowd::default());
    let inside = Arc::clone(&crowd);
    let options = CommandOptions::default().with_max_concurrency(3);
    let service = Service::new(WORK.0, WORK.1).command_with(WORK.2, options, move |_ctx: Context, (): ()| {
        let inside = Arc::clone(&inside);
        async move {
            inside.during(sleep(10)).await;
            Ok(())
        }
    });
    let bridge = serving(service).await;
    let options = within(30_000);
    let (took, answers) = timed(join_all((0..20).map(|_| bridge.invoke_command(work(), &options)))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!((crowd.most(), took), (3, ms(70)));
    assert_eq!(bridge.stats().executed, 20);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_come_again_keep_to_the_limit() {
    let crowd = Arc::new(Crowd::default());
    let inside = Arc::clone(&crowd);
    let options = options().with_max_concurrency(2).with_retry(retry(4, 5, 5));
    let handler = move |ctx: Context, _event: u32| {
        let inside = Arc::clone(&inside);
        async move {
            inside.during(sleep(10)).await;
            if ctx.attempt() < 3 { Err(HandlerError::unhandled("not yet")) } else { Ok(()) }
        }
    };
    let service = Service::new("Watch", "1").subscription_with("onHappened", Filter::any(), options, handler);
    let bridge = serving(service).await;
    join_all((0..50).map(|number| emit(&bridge, number))).await;
    settle().await;
    let stats = bridge.stats();
    assert_eq!((crowd.most(), stats.handled, stats.failed_attempts), (2, 50, 100));
    assert_balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_apart_by_the_delays_of_their_policy() {
    let (service, attempts) = failing(options().with_retry(retry(6, 100, 350)));
    let bridge = serving(service).await;
    emit(&bridge, 5).await;
    settle().await;
    let expected: Vec<_> = [0, 100, 300, 650, 1_000, 1_350].map(ms).into_iter().zip(1..).collect();
    assert_eq!(*attempts.lock().unwrap(), expected);
    let stats = bridge.stats();
    assert_eq!((stats.handled, stats.failed_attempts, stats.dead_lettered), (1, 5, 0));
    assert_balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn a_failing_message_does_not_hold_up_others() {
    let (service, attempts) = failing(options().with_max_concurrency(1).with_retry(retry(2, 60_000, 60_000)));
    let bridge = serving(service).await;
    emit(&bridge, 1).await;
    emit(&bridge, 0).await;
    sleep(1).await;
    assert_eq!(bridge.stats().handled, 1);
    settle().await;
    assert_eq!(*attempts.lock().unwrap(), [(ms(0), 1), (ms(0), 1), (ms(60_000), 2)]);
}

#[tokio::test(start_paused = true)]
async fn what_fails_at_every_attempt_becomes_a_dead_letter_that_tells_all() {
    let (service, attempts) = failing(options().with_retry(retry(3, 10, 10)));
    let bridge = serving(service).await;
    let sent = emit(&bridge, 99).await;
    settle().await;
    assert_eq!(attempts.lock().unwrap().len(), 3);
    let [letter] = bridge.hub().take_dead_letters().try_into().unwrap();
    assert_eq!(Message::decode(letter.original.clone()).unwrap(), *sent);
    assert_eq!(letter.message_id, sent.id);
    assert_eq!(letter.subscriber, ("Watch", "1", "onHappened").into());
    assert_eq!((letter.reason.as_str(), letter.attempts), ("not yet", 3));
    assert!(letter.first_attempt_at >= sent.timestamp && letter.last_attempt_at >= letter.first_attempt_at);
    let stats = bridge.stats();
    assert_eq!((stats.dead_lettered, stats.failed_attempts, stats.dead_letter_failures), (1, 3, 0));
    assert_balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_waits_for_room() {
    let hub = Hub::new(HubConfig::default().with_dead_letter_capacity(1));
    let bridge = bridge_on(&hub);
    let (service, attempts) = failing(options().with_max_concurrency(1).with_retry(retry(1, 0, 0)));
    serve(&*bridge, service).await;
    let sent = [emit(&bridge, 9).await, emit(&bridge, 9).await];
    sleep(60_000).await;
    let stats = bridge.stats();
    assert_eq!((hub.report().dead_letters, stats.dead_lettered, stats.in_hand), (1, 1, 1));
    // From 100 ms to 5 s apart: a minute holds 12 to 30 tries.
    assert!((12..=30).contains(&stats.dead_letter_failures), "{stats:?}");
    // The handler has its place back meanwhile.
    emit(&bridge, 0).await;
    sleep(1).await;
    assert_eq!((bridge.stats().handled, attempts.lock().unwrap().len()), (1, 3));

    let mut kept = hub.take_dead_letters();
    sleep(5_000).await;
    kept.extend(hub.take_dead_letters());
    assert_eq!(
        kept.iter().map(|letter| &letter.message_id).collect::<Vec<_>>(),
        sent.each_ref().map(|sent| &sent.id)
    );
    assert!(kept.iter().all(|letter| letter.attempts == 1));
    assert_eq!(bridge.stats().dead_lettered, 2);
    assert_balanced(&bridge.stats());
}

#[tokio::test(start_paused = true)]
async fn without_dead_letters_a_message_is_dropped_and_counted() {
    let (service, attempts) = failing(options().with_retry(retry(2, 10, 10)).with_dead_letter(false));
    let bridge = serving(service).await;
    emit(&bridge, 9).await;
    settle().await;
    let stats = bridge.stats();
    assert_eq!((attempts.lock().unwrap().len(), stats.dropped, stats.dead_lettered), (2, 1, 0));
    assert_balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_on_receipt_is_tried_once() {
    let on_receive = options().with_acknowledge(Acknowledge::OnReceive);
    let (service, attempts) = failing(on_receive.clone());
    let bridge = serving(service).await;
    emit(&bridge, 9).await;
    emit(&bridge, 0).await;
    settle().await;
    let stats = bridge.stats();
    assert_eq!((attempts.lock().unwrap().len(), stats.handled, stats.dropped), (2, 1, 1));
    assert_eq!(bridge.hub().report().dead_letters, 0);
    assert_balanced(&stats);

    let bridge = bridge_on(&Hub::default());
    for impossible in [on_receive.clone().with_retry(retry(2, 0, 0)), on_receive.with_dead_letter(true)] {
        let error = bridge.serve([failing(impossible).0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_routed_wrongly_is_not_handled() {
    let (watch, attempts) = failing(options());
    let bridge = serving(watch).await;
    let work_service = Service::new(WORK.0, WORK.1).command(WORK.2, |_ctx: Context, (): ()| async { Ok(()) });
    bridge.serve([work_service]).await.unwrap();
    let hub = bridge.hub();

    let unwanted =
        purista_core::EventDraft::event(("Client", "1", "main"), "Happened").stamp(bridge.instance_id());
    assert!(hub.misroute(&("Watch", "1", "onHappened").into(), unwanted.encode()).await.unwrap());
    settle().await;
    let stats = bridge.stats();
    assert_eq!((stats.delivered, stats.filtered, attempts.lock().unwrap().len()), (1, 1, 0));
    assert_balanced(&stats);

    let to_another = purista_core::CommandDraft::new(("Client", "1", "main"), (WORK.0, WORK.1, "Work"));
    let to_another = to_another.stamp(bridge.instance_id());
    assert!(hub.misroute(&WORK.into(), to_another.encode()).await.unwrap());
    settle().await;
    assert_eq!((bridge.stats().refused, bridge.stats().executed), (1, 0));
}
