//! Signals of the process, in one test, as they are for all of it.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use purista::{BridgeEvent, BridgeState, RunReport, prelude::*};
use rustix::process::{Signal, getpid, kill_process};
use tokio::{
    sync::Notify,
    task::{JoinHandle, yield_now},
};

/// Runs a command that waits for `goes_on`, calls it, and returns when its handler runs.
async fn running(goes_on: &Arc<Notify>) -> (Arc<dyn EventBridge>, JoinHandle<purista::Result<RunReport>>) {
    let began = Arc::new(Notify::new());
    let handler = {
        let (began, goes_on) = (Arc::clone(&began), Arc::clone(goes_on));
        move |_: Context, (): ()| {
            let (began, goes_on) = (Arc::clone(&began), Arc::clone(&goes_on));
            async move {
                began.notify_one();
                goes_on.notified().await;
                Ok(())
            }
        }
    };
    let bridge = purista::connect("default").unwrap();
    let service = Service::new("Slow", "1").command("work", handler);
    let run = tokio::spawn(purista::run(Arc::clone(&bridge), [service]));
    // It listens to signals before it starts the bridge.
    while bridge.health().state != BridgeState::Started {
        yield_now().await;
    }
    let caller = Arc::clone(&bridge);
    tokio::spawn(async move { caller.invoke::<()>(("Slow", "1", "work"), &()).await });
    began.notified().await;
    (bridge, run)
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_one_ends() {
    let send = |signal| kill_process(getpid(), signal).unwrap();

    for signal in [Signal::TERM, Signal::INT] {
        let goes_on = Arc::new(Notify::new());
        let (bridge, run) = running(&goes_on).await;
        let mut events = bridge.events();
        send(signal);
        while events.next().await.unwrap() != BridgeEvent::Draining {}
        goes_on.notify_one();
        let report = run.await.unwrap().unwrap();
        assert!(report.is_clean() && report.shutdown().is_some(), "{signal:?}: {report:?}");
    }

    let never = Arc::new(Notify::new());
    let (bridge, run) = running(&never).await;
    let mut events = bridge.events();
    send(Signal::TERM);
    while events.next().await.unwrap() != BridgeEvent::Draining {}
    send(Signal::INT);
    let report = run.await.unwrap().unwrap();
    assert!(!report.is_clean() && report.shutdown().is_none(), "{report:?}");
}
