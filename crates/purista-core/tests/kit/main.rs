//! The kit that adapters are built on, through the bridge within one process, on paused time.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[cfg(test)]
mod acknowledge;
#[cfg(test)]
mod callers;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod dispatch;
#[cfg(test)]
mod emissions;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod races;
#[cfg(test)]
mod runtime;
#[cfg(test)]
mod serve;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod waiting;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use purista_core::{
    CommandDraft, EventBridge, EventBridgeExt as _, EventDraft, InvokeOptions, Payload, Service,
    ServiceAddress, Stats, StatusCode,
};
use purista_default::{DefaultEventBridge, Hub};
use tokio::time::Instant;

/// Longer than anything in these tests takes; passes at once, as the time is paused.
const A_LONG_TIME: Duration = Duration::from_secs(20 * 60 * 60);

/// The command that tests call.
const WORK: (&str, &str, &str) = ("Worker", "1", "work");

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

async fn sleep(milliseconds: u64) {
    tokio::time::sleep(ms(milliseconds)).await;
}

/// Lets all happen that can happen without anything from outside.
async fn settle() {
    tokio::time::sleep(A_LONG_TIME).await;
}

fn bridge_on(hub: &Hub) -> Arc<DefaultEventBridge> {
    Arc::new(DefaultEventBridge::builder().hub(hub).build().expect("defaults are valid"))
}

/// A started bridge of its own that serves this.
async fn serving(service: Service) -> Arc<DefaultEventBridge> {
    let bridge = bridge_on(&Hub::default());
    serve(&*bridge, service).await;
    bridge
}

async fn serve(bridge: &dyn EventBridge, service: Service) {
    bridge.serve([service]).await.expect("registers and starts");
}

fn work() -> CommandDraft {
    CommandDraft::new(ServiceAddress::client(), WORK)
}

fn event(content: u32) -> EventDraft {
    EventDraft::event(ServiceAddress::client(), "happened").with_payload(number(content))
}

fn number(number: u32) -> Payload {
    Payload::json(&number).expect("a number is JSON")
}

fn within(milliseconds: u64) -> InvokeOptions {
    InvokeOptions::default().with_timeout(ms(milliseconds))
}

/// Checks that each delivery has ended in exactly one way; expired and released commands aside.
fn assert_balanced(stats: &Stats) {
    let ends =
        stats.handled + stats.dead_lettered + stats.dropped + stats.expired + stats.filtered + stats.released;
    assert_eq!((stats.delivered, stats.in_hand), (ends, 0), "{stats:?}");
}

/// How long something took.
async fn timed<R>(future: impl Future<Output = R>) -> (Duration, R) {
    let began = Instant::now();
    let result = future.await;
    (began.elapsed(), result)
}

/// How many are inside now, and at most so far.
#[derive(Debug, Default)]
struct Crowd {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Crowd {
    async fn during(&self, stay: impl Future<Output = ()>) {
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        stay.await;
        self.now.fetch_sub(1, SeqCst);
    }

    fn most(&self) -> usize {
        self.most.load(SeqCst)
    }
}

/// The status of an unhandled error.
fn unhandled<T: std::fmt::Debug>(result: Result<T, purista_core::InvokeError>) -> StatusCode {
    match result {
        Err(purista_core::InvokeError::Unhandled(status)) => status,
        other => panic!("{other:?} is no unhandled error"),
    }
}
