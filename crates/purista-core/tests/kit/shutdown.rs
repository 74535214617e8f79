//! Shutdowns: what runs finishes, what waits is given back, and nothing hangs.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use purista_core::{
    Acknowledge, BridgeEvent, BridgeState, Context, EmitOptions, ErrorKind, EventBridge as _,
    EventBridgeExt as _, Filter, HandlerError, RetryPolicy, Service, ShutdownReport, SubscriptionOptions,
};
use purista_default::{DefaultEventBridge, Hub, HubConfig};
use tokio::task::JoinHandle;

use super::{
    A_LONG_TIME, WORK, assert_balanced, bridge_on, event, ms, number, serve, settle, sleep, timed, within,
    work,
};

type Log = Arc<Mutex<Vec<String>>>;

async fn emit(bridge: &DefaultEventBridge, content: u32) {
    bridge.emit_message(event(content), &EmitOptions::default()).await.unwrap();
}

fn spawn_shutdown(bridge: &Arc<DefaultEventBridge>, grace: u64) -> JoinHandle<ShutdownReport> {
    let bridge = Arc::clone(bridge);
    tokio::spawn(async move { bridge.shutdown(ms(grace)).await })
}

/// A subscriber to `happened` with this handler.
fn watch<F, Fut>(options: SubscriptionOptions, handler: F) -> Service
where
    F: Fn(Context, u32) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    Service::new("Watch", "1").subscription_with("onHappened", Filter::event("happened"), options, handler)
}

/// A bridge that serves the work and notes what was emitted.
async fn helper_on(hub: &Hub) -> (Arc<DefaultEventBridge>, Log) {
    let (bridge, log) = (bridge_on(hub), Log::default());
    let notes = Arc::clone(&log);
    let service = Service::new(WORK.0, WORK.1)
        .command(WORK.2, |_ctx: Context, time: u64| async move {
            sleep(time).await;
            Ok(time)
        })
        .subscription("onFinished", Filter::event("finished"), move |_ctx: Context, what: String| {
            notes.lock().unwrap().push(what);
            async { Ok(()) }
        });
    serve(&*bridge, service).await;
    (bridge, log)
}

#[tokio::test(start_paused = true)]
async fn running_handlers_finish_and_can_invoke_and_emit() {
    let hub = Hub::default();
    let (_helper, log) = helper_on(&hub).await;
    let bridge = bridge_on(&hub);
    let handler = |ctx: Context, number: u32| async move {
        sleep(1_000).await;
        let _: u64 = ctx.invoke(WORK, &500).await?;
        ctx.emit("finished", &format!("event {number}")).await?;
        assert!(!ctx.is_cancelled());
        Ok(())
    };
    serve(&*bridge, watch(SubscriptionOptions::default().with_max_concurrency(1), handler)).await;
    emit(&bridge, 1).await;
    emit(&bridge, 2).await;
    sleep(250).await;
    let (took, report) = timed(bridge.shutdown(ms(10_000))).await;
    assert!(report.is_clean(), "{report:?}");
    // The second event waited on the hub: nobody else could take it.
    assert_eq!(took, ms(750 + 2 * 500 + 1_000));
    settle().await;
    assert_eq!(*log.lock().unwrap(), ["event 1", "event 2"]);
    let stats = bridge.stats();
    assert_eq!((stats.handled, stats.failed_attempts, stats.answered, stats.emitted), (2, 0, 2, 4));
    assert_balanced(&stats);
    assert_eq!(hub.report().bridges, 1);
}

#[tokio::test(start_paused = true)]
async fn after_the_grace_period_handlers_are_cancelled_and_their_attempts_do_not_count() {
    let bridge = bridge_on(&Hub::default());
    let cancelled = Log::default();
    let notes = Arc::clone(&cancelled);
    let handler = move |ctx: Context, _number: u32| {
        let notes = Arc::clone(&notes);
        async move {
            let (took, ()) = timed(ctx.cancelled()).await;
            notes.lock().unwrap().push(format!("{took:?} {}", ctx.is_cancelled()));
            Err(HandlerError::unhandled("cancelled"))
        }
    };
    let no_retry = SubscriptionOptions::default().with_retry(RetryPolicy::NEVER);
    serve(&*bridge, watch(no_retry, handler)).await;
    emit(&bridge, 1).await;
    let (took, report) = timed(bridge.shutdown(ms(2_000))).await;
    assert_eq!((took, report.cancelled_handlers, report.errors.len()), (ms(2_000), 1, 0));
    assert_eq!(*cancelled.lock().unwrap(), ["2s true"]);
    let stats = bridge.stats();
    assert_eq!((stats.failed_attempts, stats.dead_lettered, stats.dropped, stats.released), (0, 0, 0, 1));
    assert_balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn handlers_that_do_not_listen_are_dropped() {
    for grace in [0, 3_000] {
        let bridge = bridge_on(&Hub::default());
        let handler = |_ctx: Context, _number: u32| async {
            tokio::time::sleep(A_LONG_TIME).await;
            Ok(())
        };
        let service =
            watch(SubscriptionOptions::default(), handler).command("work", |_ctx: Context, (): ()| async {
                tokio::time::sleep(A_LONG_TIME).await;
                Ok(())
            });
        serve(&*bridge, service).await;
        emit(&bridge, 1).await;
        let call = {
            let bridge = Arc::clone(&bridge);
            let command = purista_core::CommandDraft::new(("Client", "1", "main"), ("Watch", "1", "work"));
            tokio::spawn(async move { bridge.invoke_command(command, &within(60_000)).await })
        };
        sleep(1).await;
        let (took, report) = timed(bridge.shutdown(ms(grace))).await;
        assert!(took >= ms(grace) && took <= ms(grace + 250), "{took:?} for a grace of {grace} ms");
        assert_eq!((report.cancelled_handlers, report.failed_calls, report.errors.len()), (2, 1, 0));
        assert_eq!(call.await.unwrap().unwrap_err().bridge_kind(), Some(ErrorKind::ShutDown));
        let stats = bridge.stats();
        assert_eq!((stats.released, stats.failed_attempts, stats.in_hand, stats.pending_calls), (2, 0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn pending_calls_are_answered_within_the_grace_period_or_fail() {
    let hub = Hub::default();
    let (_helper, _log) = helper_on(&hub).await;
    for (work_time, grace, expected) in [(900, 1_000, Ok(())), (1_100, 1_000, Err(Some(ErrorKind::ShutDown)))]
    {
        let bridge = bridge_on(&hub);
        bridge.start().await.unwrap();
        let call = {
            let bridge = Arc::clone(&bridge);
            let draft = work().with_payload(number(work_time));
            tokio::spawn(async move { bridge.invoke_command(draft, &within(60_000)).await })
        };
        sleep(1).await;
        let (took, report) = timed(bridge.shutdown(ms(grace))).await;
        assert_eq!(took, ms(grace.min(u64::from(work_time) - 1)));
        assert_eq!(report.failed_calls, usize::from(expected.is_err()));
        assert_eq!(call.await.unwrap().map(drop).map_err(|error| error.bridge_kind()), expected);
        assert_eq!(bridge.stats().pending_calls, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_that_wait_are_given_back_at_once_to_another_instance() {
    let hub = Hub::default();
    let log = Log::default();
    let instance = |name: &'static str, fails: bool| {
        let notes = Arc::clone(&log);
        let retry = RetryPolicy::default().with_initial_delay(ms(20_000));
        watch(SubscriptionOptions::default().with_retry(retry), move |ctx: Context, _number: u32| {
            notes.lock().unwrap().push(format!("{name} {}", ctx.attempt()));
            async move { if fails { Err(HandlerError::unhandled("not here")) } else { Ok(()) } }
        })
    };
    let (failing, healthy) = (bridge_on(&hub), bridge_on(&hub));
    serve(&*failing, instance("failing", true)).await;
    emit(&failing, 1).await;
    sleep(1).await;
    serve(&*healthy, instance("healthy", false)).await;
    let (took, report) = timed(failing.shutdown(ms(10_000))).await;
    assert_eq!((took, report.is_clean()), (ms(0), true));
    sleep(1).await;
    assert_eq!(*log.lock().unwrap(), ["failing 1", "healthy 1"]);
    assert_eq!((failing.stats().released, healthy.stats().handled), (1, 1));
    assert_balanced(&failing.stats());
    assert_balanced(&healthy.stats());
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_without_room_is_given_back() {
    let hub = Hub::new(HubConfig::default().with_dead_letter_capacity(1));
    let bridge = bridge_on(&hub);
    let no_retry = SubscriptionOptions::default().with_retry(RetryPolicy::NEVER);
    serve(&*bridge, watch(no_retry, |_ctx: Context, _n: u32| async { Err(HandlerError::unhandled("no")) }))
        .await;
    emit(&bridge, 1).await;
    emit(&bridge, 2).await;
    sleep(30_000).await;
    let (took, report) = timed(bridge.shutdown(ms(10_000))).await;
    assert_eq!((took, report.is_clean()), (ms(0), true));
    let stats = bridge.stats();
    assert_eq!((stats.released, stats.dead_lettered, stats.handled), (1, 1, 0));
    assert_balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn every_caller_gets_the_same_report() {
    let bridge = bridge_on(&Hub::default());
    let handler = |_ctx: Context, _number: u32| async {
        sleep(60_000).await;
        Ok(())
    };
    serve(&*bridge, watch(SubscriptionOptions::default(), handler)).await;
    emit(&bridge, 1).await;
    // The first one decides on the grace period; that it goes away changes nothing.
    let first = spawn_shutdown(&bridge, 1_000);
    sleep(1).await;
    first.abort();
    let (took, reports) = timed(join_all((0..10).map(|n| spawn_shutdown(&bridge, n * 500)))).await;
    assert!(took >= ms(999) && took <= ms(1_249), "{took:?}");
    let reports: Vec<ShutdownReport> = reports.into_iter().map(Result::unwrap).collect();
    assert_eq!(reports[0].cancelled_handlers, 1);
    assert!(reports.iter().all(|report| *report == reports[0]));
    let (took, again) = timed(bridge.shutdown(ms(60_000))).await;
    assert_eq!((took, again), (ms(0), reports[0].clone()));
}

#[tokio::test(start_paused = true)]
async fn nothing_works_after_a_shutdown_started_or_not() {
    for started in [true, false] {
        let bridge = bridge_on(&Hub::default());
        let mut events = bridge.events();
        if started {
            bridge.start().await.unwrap();
        }
        assert!(bridge.shutdown(ms(1_000)).await.is_clean());
        assert_eq!(bridge.health().state, BridgeState::ShutDown);
        assert!(!bridge.health().is_ready() && !bridge.health().is_healthy());
        assert_eq!(bridge.hub().report(), purista_default::HubReport::default());

        assert_eq!(bridge.start().await.unwrap_err().kind(), ErrorKind::ShutDown);
        let emitted = bridge.emit_message(event(1), &EmitOptions::default()).await;
        assert_eq!(emitted.unwrap_err().kind(), ErrorKind::ShutDown);
        let invoked = bridge.invoke_command(work(), &within(1_000)).await;
        assert_eq!(invoked.unwrap_err().bridge_kind(), Some(ErrorKind::ShutDown));
        let service = watch(SubscriptionOptions::default(), |_ctx: Context, _number: u32| async { Ok(()) });
        assert_eq!(bridge.serve([service]).await.unwrap_err().kind(), ErrorKind::ShutDown);

        let mut seen = Vec::new();
        while seen.last() != Some(&BridgeEvent::ShutDown) {
            seen.push(events.next().await.unwrap());
        }
        let connection =
            [BridgeEvent::Connected, BridgeEvent::Draining, BridgeEvent::Disconnected("shut down".into())];
        let expected = connection.into_iter().filter(|event| started || *event == BridgeEvent::Draining);
        assert_eq!(seen, expected.chain([BridgeEvent::ShutDown]).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn an_unregistration_lets_the_running_handler_finish() {
    let bridge = bridge_on(&Hub::default());
    let handler = |_ctx: Context, _number: u32| async {
        sleep(1_000).await;
        Ok(())
    };
    let [registration] =
        bridge.serve([watch(SubscriptionOptions::default(), handler)]).await.unwrap().try_into().unwrap();
    emit(&bridge, 1).await;
    for _ in 0..2 {
        let (took, result) = timed(registration.unregister()).await;
        assert_eq!((took, result.is_ok()), (ms(0), true));
        emit(&bridge, 2).await;
    }
    settle().await;
    assert_eq!((bridge.stats().delivered, bridge.stats().handled), (1, 1));
    assert!(bridge.shutdown(ms(1_000)).await.is_clean());
    registration.unregister().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_delivery_ends_in_one_way() {
    let hub = Hub::new(HubConfig::default().with_dead_letter_capacity(10));
    let bridge = bridge_on(&hub);
    // By its number: 0 succeeds, 1 fails once, 2 always, 3 panics, 4 takes too long, 5 does not end.
    let handler = |ctx: Context, number: u32| async move {
        match number % 6 {
            1 if ctx.attempt() == 1 => Err(HandlerError::unhandled("once")),
            2 => Err(HandlerError::unhandled("always")),
            3 => panic!("number {number}"),
            4 => {
                sleep(300).await;
                Ok(())
            }
            5 => {
                ctx.cancelled().await;
                Err(HandlerError::unhandled("cancelled"))
            }
            _ => Ok(()),
        }
    };
    let options = || SubscriptionOptions::default().with_handler_timeout(ms(200)).with_max_concurrency(5);
    let retry = RetryPolicy::default().with_max_attempts(3).with_initial_delay(ms(20));
    let patient = SubscriptionOptions::default().with_max_concurrency(500);
    let subscribers = [
        ("retried", options().with_retry(retry)),
        ("dropped", options().with_retry(retry).with_dead_letter(false)),
        ("once", options().with_acknowledge(Acknowledge::OnReceive)),
        ("patient", patient),
    ];
    let services = subscribers.map(|(target, options)| {
        Service::new("Watch", "1").subscription_with(target, Filter::event("happened"), options, handler)
    });
    bridge.serve(services).await.unwrap();
    for content in 0..60 {
        emit(&bridge, content).await;
    }
    sleep(3_000).await;
    bridge.shutdown(ms(700)).await;
    let stats = bridge.stats();
    assert_eq!(stats.delivered, 4 * 60);
    assert_balanced(&stats);
    assert!(
        [stats.handled, stats.dead_lettered, stats.dropped, stats.released].iter().all(|ends| *ends > 0),
        "{stats:?}"
    );
    assert_eq!(stats.dead_lettered, hub.report().dead_letters as u64);
}
