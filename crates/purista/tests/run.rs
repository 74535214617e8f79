//! Services from their start to the exit code of their process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::pending,
    process::{ExitCode, Termination as _},
    sync::Arc,
    time::Duration,
};

use purista::{BridgeEvent, BridgeState, RunReport, in_process::DefaultEventBridge, prelude::*};
use tokio::{
    sync::{Notify, oneshot},
    task::yield_now,
};

/// Longer than any trial takes.
const LONG: Duration = Duration::from_secs(3_600);

fn bridge() -> Arc<dyn EventBridge> {
    purista::connect("default").unwrap()
}

/// A command that tells when it began, and ends when it is told to.
fn slow(began: &Arc<Notify>, goes_on: &Arc<Notify>) -> Service {
    let (began, goes_on) = (Arc::clone(began), Arc::clone(goes_on));
    Service::new("Slow", "1").command("work", move |_: Context, (): ()| {
        let (began, goes_on) = (Arc::clone(&began), Arc::clone(&goes_on));
        async move {
            began.notify_one();
            goes_on.notified().await;
            Ok("done".to_owned())
        }
    })
}

fn codes(report: RunReport) -> [String; 2] {
    [report.exit_code(), report.report()].map(|code| format!("{code:?}"))
}

#[tokio::test]
async fn what_runs_finishes() {
    let (bridge, began, goes_on) = (bridge(), Arc::<Notify>::default(), Arc::<Notify>::default());
    let (end, told_to_end) = oneshot::channel::<()>();
    let service = slow(&began, &goes_on);
    let running = tokio::spawn({
        let bridge = Arc::clone(&bridge);
        async move {
            let end = async { told_to_end.await.unwrap() };
            purista::run_until(bridge, [service], end, LONG).await
        }
    });
    let mut events = bridge.events();
    while bridge.health().state != BridgeState::Started {
        yield_now().await;
    }
    let call = tokio::spawn({
        let bridge = Arc::clone(&bridge);
        async move { bridge.invoke::<String>(("Slow", "1", "work"), &()).await }
    });
    began.notified().await;
    end.send(()).unwrap();
    while events.next().await.unwrap() != BridgeEvent::Draining {}
    goes_on.notify_one();
    let report = running.await.unwrap().unwrap();
    assert_eq!(call.await.unwrap().unwrap(), "done");
    assert!(report.is_clean() && report.shutdown().is_some(), "{report:?}");
    assert_eq!(codes(report), [ExitCode::SUCCESS, ExitCode::SUCCESS].map(|code| format!("{code:?}")));
}

#[tokio::test]
async fn what_does_not_finish_is_told() {
    let (bridge, began, goes_on) = (bridge(), Arc::<Notify>::default(), Arc::<Notify>::default());
    bridge.serve([slow(&began, &goes_on)]).await.unwrap();
    let caller = Arc::clone(&bridge);
    tokio::spawn(async move { caller.invoke::<String>(("Slow", "1", "work"), &()).await });
    let report = purista::run_until(bridge, [], began.notified(), Duration::ZERO).await.unwrap();
    assert!(!report.is_clean(), "{report:?}");
    assert_eq!(codes(report), [ExitCode::from(3), ExitCode::from(3)].map(|code| format!("{code:?}")));
}

#[tokio::test]
async fn it_ends_when_the_bridge_does() {
    let bridge = bridge();
    bridge.start().await.unwrap();
    let running = tokio::spawn(purista::run_until(Arc::clone(&bridge), [], pending(), LONG));
    // On the one thread of this runtime it serves after some turns, as there is nothing to wait for.
    for _ in 0..1_000 {
        yield_now().await;
    }
    assert!(bridge.shutdown(LONG).await.is_clean());
    assert!(running.await.unwrap().unwrap().is_clean());
    // One that is shut down cannot serve.
    let error = purista::run_until(bridge, [], pending(), LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

#[test]
fn signals_need_a_runtime() {
    assert_eq!(purista::end_signal().map(drop).unwrap_err().kind(), ErrorKind::Unexpected);
}

#[tokio::test]
async fn what_cannot_be_served_ends_the_bridge() {
    let bridge = bridge();
    let twice = || Service::new("Twice", "1").command("is", |_: Context, (): ()| async move { Ok(()) });
    let error =
        purista::run_until(Arc::clone(&bridge), [twice(), twice()], pending(), LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyRegistered);
    assert_eq!(bridge.health().state, BridgeState::ShutDown);
}

#[tokio::test]
async fn what_cannot_start_ends_the_bridge() {
    let durable = SubscriptionOptions::default().with_durable(true);
    let service = Service::new("Mail", "1").subscription_with(
        "welcome",
        Filter::event("userRegistered"),
        durable,
        |_: Context, (): ()| async move { Ok(()) },
    );
    let bridge: Arc<dyn EventBridge> = Arc::new(DefaultEventBridge::builder().build().unwrap());
    let error = purista::run_until(Arc::clone(&bridge), [service], pending(), LONG).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unsupported(_)), "{error}");
    assert_eq!(bridge.health().state, BridgeState::ShutDown);
}
