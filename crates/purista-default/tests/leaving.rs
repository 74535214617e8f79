//! Bridges and services that come and go: what becomes of the rest.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    future::{Future, pending},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use purista_core::{
    CommandOptions, Context, EmitOptions, ErrorKind, EventBridge as _, EventBridgeExt as _, EventDraft,
    Filter, HandledError, HandlerError, InvokeError, MAX_DEPTH, Registration, Service, ServiceAddress,
    StatusCode, SubscriptionOptions,
};
use purista_default::{DefaultEventBridge, Hub, HubConfig};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};

/// Longer than anything in these tests takes; passes at once, as the time is paused.
const A_LONG_TIME: Duration = Duration::from_secs(20 * 60 * 60);

/// The command that tests call.
const WORK: (&str, &str, &str) = ("Worker", "1", "work");

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// How long something took.
async fn timed<R>(future: impl Future<Output = R>) -> (Duration, R) {
    let began = Instant::now();
    let result = future.await;
    (began.elapsed(), result)
}

fn bridge_on(hub: &Hub) -> Arc<DefaultEventBridge> {
    Arc::new(DefaultEventBridge::builder().hub(hub).build().unwrap())
}

fn hub_with_queues_of(capacity: usize) -> Hub {
    Hub::new(HubConfig::default().with_queue_capacity(capacity))
}

fn one_at_a_time() -> SubscriptionOptions {
    SubscriptionOptions::default().with_max_concurrency(1)
}

/// The command that tests call, which takes 100 ms, one call at a time.
fn worker() -> Service {
    let one_at_a_time = CommandOptions::default().with_max_concurrency(1);
    Service::new(WORK.0, WORK.1).command_with(WORK.2, one_at_a_time, |_: Context, number: u8| async move {
        sleep(ms(100)).await;
        Ok(number)
    })
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_handlers_of_registrations_that_ended() {
    let bridge = bridge_on(&Hub::default());
    let emitted = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&emitted);
    let handler = move |ctx: Context, _: u8| {
        let noted = Arc::clone(&noted);
        async move {
            sleep(ms(300)).await;
            *noted.lock() = Some(ctx.emit("done", &1).await.map(drop).map_err(|error| error.kind()));
            Ok(())
        }
    };
    let service = Service::new("Watch", "1").subscription("watch", Filter::event("happened"), handler);
    let registrations = bridge.serve([service]).await.unwrap();
    bridge.emit("happened", &1).await.unwrap();
    sleep(ms(1)).await;
    registrations[0].unregister().await.unwrap();
    assert_eq!(bridge.stats().in_hand, 1);
    let (took, report) = timed(bridge.shutdown(ms(5_000))).await;
    assert_eq!((took, report.is_clean(), *emitted.lock()), (ms(299), true, Some(Ok(()))));
}

#[tokio::test(start_paused = true)]
async fn a_handler_can_end_its_own_registration() {
    let bridge = bridge_on(&Hub::default());
    let registration: Arc<OnceLock<Registration>> = Arc::default();
    let ended = Arc::new(AtomicBool::new(false));
    let (own, noted) = (Arc::clone(&registration), Arc::clone(&ended));
    let handler = move |_: Context, _: u8| {
        let (own, noted) = (Arc::clone(&own), Arc::clone(&noted));
        async move {
            own.get().unwrap().unregister().await?;
            noted.store(true, SeqCst);
            Ok(())
        }
    };
    let service = Service::new("Watch", "1").subscription_with(
        "once",
        Filter::event("happened"),
        one_at_a_time(),
        handler,
    );
    let registrations = bridge.serve([service]).await.unwrap();
    registration.set(registrations[0].clone()).unwrap();
    bridge.emit("happened", &1).await.unwrap();
    bridge.emit("happened", &2).await.unwrap();
    sleep(A_LONG_TIME).await;
    assert!(ended.load(SeqCst), "it waits for itself");
    let (took, result) = timed(bridge.serve([worker()])).await;
    assert!(took < ms(1_000) && result.is_ok(), "another one took {took:?}: {result:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_room_hear_that_their_registration_ended() {
    let hub = hub_with_queues_of(1);
    let (service, caller) = (bridge_on(&hub), bridge_on(&hub));
    caller.start().await.unwrap();
    let registrations = service.serve([worker()]).await.unwrap();
    // One runs, one is in the queue, and two wait for room there.
    let calls = [(); 4].map(|()| {
        let caller = Arc::clone(&caller);
        tokio::spawn(async move { timed(caller.invoke::<u8>(WORK, &1)).await })
    });
    sleep(ms(10)).await;
    registrations[0].unregister().await.unwrap();
    let mut heard = Vec::new();
    for call in calls {
        let (took, result) = call.await.unwrap();
        assert!(took <= ms(300), "{took:?}");
        heard.push(result.map_err(|error| error.bridge_kind()));
    }
    // The one in the queue is answered as unavailable by the service.
    let gone = Err(Some(ErrorKind::NoHandler));
    assert_eq!(heard, [Ok(1), Err(None), gone, gone]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_taken_before_a_shutdown_is_handled() {
    for round in 0..200 {
        let hub = Hub::default();
        let (service, client) = (bridge_on(&hub), bridge_on(&hub));
        client.start().await.unwrap();
        let handled = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&handled);
        let handler = move |_: Context, (): ()| {
            count.fetch_add(1, SeqCst);
            async {
                yield_now().await;
                Ok(())
            }
        };
        let watch = Service::new("Watch", "1").subscription_with(
            "watch",
            Filter::event("happened"),
            one_at_a_time(),
            handler,
        );
        service.serve([watch]).await.unwrap();
        // Emits until nobody takes it any more.
        let emitter = tokio::spawn(async move {
            let must_route = EmitOptions::default().with_must_route(true);
            let mut taken = 0;
            loop {
                let draft = EventDraft::event(ServiceAddress::client(), "happened");
                match client.emit_message(draft, &must_route).await {
                    Ok(_) => taken += 1,
                    Err(error) => return (taken, error.kind()),
                }
                yield_now().await;
            }
        });
        for _ in 0..round % 40 {
            yield_now().await;
        }
        assert!(service.shutdown(Duration::from_secs(60)).await.is_clean(), "round {round}");
        let (taken, end) = emitter.await.unwrap();
        assert_eq!((handled.load(SeqCst), end), (taken, ErrorKind::Unroutable), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_does_not_wait_for_subscribers_without_room() {
    let hub = hub_with_queues_of(1);
    let audit = bridge_on(&hub);
    let handler = |_: Context, _: serde_json::Value| pending::<Result<(), HandlerError>>();
    let service =
        Service::new("Audit", "1").subscription_with("all", Filter::any(), one_at_a_time(), handler);
    audit.serve([service]).await.unwrap();
    for _ in 0..2 {
        audit.emit("happened", &1).await.unwrap();
    }
    assert_eq!(hub.report().queued, 1);
    let commands = (0..20).fold(Service::new("Many", "1"), |service, number| {
        service.command(format!("command{number}"), |_: Context, number: u8| async move { Ok(number) })
    });
    let (took, result) = timed(bridge_on(&hub).serve([commands])).await;
    assert_eq!((took, result.unwrap().len()), (ms(0), 20));
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("as it has to");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_while_it_is_dropped_fails_alone() {
    let bridge = bridge_on(&Hub::default());
    let short = CommandOptions::default().with_handler_timeout(ms(1));
    let handler = |_: Context, (): ()| async {
        let _dropped_at_the_timeout = PanicsOnDrop;
        pending::<Result<(), HandlerError>>().await
    };
    let service = Service::new(WORK.0, WORK.1).command_with(WORK.2, short, handler);
    bridge
        .serve([service.command("other", |_: Context, number: u8| async move { Ok(number) })])
        .await
        .unwrap();
    let (took, result) = timed(bridge.invoke::<()>(WORK, &())).await;
    let expected = StatusCode::INTERNAL_SERVER_ERROR;
    assert!(matches!(result, Err(InvokeError::Unhandled(status)) if status == expected), "{result:?}");
    assert!(took < ms(1_000), "{took:?}");
    assert_eq!((bridge.stats().panicked, bridge.stats().in_hand), (1, 0));
    assert_eq!(bridge.invoke::<u8>((WORK.0, WORK.1, "other"), &7).await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_bridge_that_was_dropped() {
    let hub = Hub::default();
    let held = Arc::new(());
    let handler_holds = Arc::clone(&held);
    let handler = move |_: Context, number: u8| {
        let _held = Arc::clone(&handler_holds);
        async move { Ok(number) }
    };
    let bridge = bridge_on(&hub);
    bridge.serve([Service::new(WORK.0, WORK.1).command(WORK.2, handler)]).await.unwrap();
    assert_eq!((Arc::strong_count(&held), hub.report().commands), (2, 1));
    drop(bridge);
    sleep(A_LONG_TIME).await;
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(hub.report(), purista_default::HubReport::default());
}

#[tokio::test(start_paused = true)]
async fn the_instance_id_of_a_bridge_that_was_dropped_is_free_again() {
    let hub = Hub::default();
    let build = || DefaultEventBridge::builder().hub(&hub).instance_id("one").build().unwrap();
    let first = build();
    first.start().await.unwrap();
    build().start().await.unwrap_err();
    drop(first);
    build().start().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_bridge_of_a_cloned_builder_has_an_instance_id_of_its_own() {
    let hub = Hub::default();
    let builder = DefaultEventBridge::builder().hub(&hub);
    let (first, second) = (builder.clone().build().unwrap(), builder.build().unwrap());
    assert_ne!(first.instance_id(), second.instance_id());
    first.start().await.unwrap();
    second.start().await.unwrap();
    assert_eq!(hub.report().bridges, 2);
}

#[tokio::test(start_paused = true)]
async fn a_queue_may_be_without_bound() {
    let bridge = bridge_on(&hub_with_queues_of(usize::MAX));
    bridge.serve([worker()]).await.unwrap();
    assert_eq!(bridge.invoke::<u8>(WORK, &7).await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn data_of_an_error_may_be_as_deep_as_a_payload() {
    let bridge = bridge_on(&Hub::default());
    let handler = |_: Context, (): ()| async {
        let data = (0..MAX_DEPTH).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
        Err::<(), _>(HandledError::not_found("no").with_data(&data)?.into())
    };
    bridge.serve([Service::new(WORK.0, WORK.1).command(WORK.2, handler)]).await.unwrap();
    let error = bridge.invoke::<()>(WORK, &()).await.unwrap_err();
    assert!(matches!(error, InvokeError::Handled(_)), "{error:?}");
}
