//! What a bridge runs on: handlers that hold their thread, and runtimes that end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use purista_core::{
    BridgeState, Context, EmitOptions, ErrorKind, EventBridge, EventBridgeExt as _, Filter, HandlerError,
    Result, Service, Subscription, SubscriptionHandler, SubscriptionOptions,
    adapter::{Acknowledgement, Delivery, async_trait},
};
use purista_default::Hub;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use super::{bridge_on, event, slow::slow_bridge};

/// How long something may take that needs no time.
const PATIENCE: Duration = Duration::from_secs(10);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Counts how often a lease was extended, for those who wait for it.
#[derive(Debug, Default)]
struct Extensions {
    count: Mutex<usize>,
    changed: Condvar,
}

#[derive(Debug)]
struct Leased(Arc<Extensions>, Arc<AtomicUsize>);

#[async_trait]
impl Acknowledgement for Leased {
    async fn accept(self: Box<Self>) -> Result<()> {
        self.1.fetch_add(1, SeqCst);
        Ok(())
    }

    async fn release(self: Box<Self>, _failed_attempts: u32) -> Result<()> {
        Ok(())
    }

    fn lease(&self) -> Option<Duration> {
        Some(Duration::from_millis(40))
    }

    async fn extend(&self) -> Result<()> {
        *self.0.count.lock() += 1;
        self.0.changed.notify_all();
        Ok(())
    }
}

/// Holds its thread until its lease was extended three times.
struct HoldsItsThread(Arc<Extensions>);

#[async_trait]
impl SubscriptionHandler for HoldsItsThread {
    async fn handle(&self, _context: Context) -> Result<(), HandlerError> {
        let mut count = self.0.count.lock();
        let waited = self.0.changed.wait_while_for(&mut count, |count| *count < 3, PATIENCE);
        if waited.timed_out() { Err(HandlerError::unhandled("the lease ran out")) } else { Ok(()) }
    }
}

#[test]
fn a_lease_is_extended_while_the_handler_holds_its_thread() {
    runtime().block_on(async {
        let (slow, engine) = slow_bridge(0);
        let (extensions, accepted) = (Arc::<Extensions>::default(), Arc::<AtomicUsize>::default());
        let subscription = Subscription::new(("Watch", "1", "onHappened"), Filter::event("happened"));
        let handler = Arc::new(HoldsItsThread(Arc::clone(&extensions)));
        engine.register_subscription(subscription, handler).await.unwrap();
        engine.start().await.unwrap();
        let intake = slow.0.intakes.lock().remove(0);
        let message = Arc::new(event(0).stamp(engine.instance_id()));
        let acknowledgement = Box::new(Leased(Arc::clone(&extensions), Arc::clone(&accepted)));
        intake.deliver(
            intake.try_slot().unwrap(),
            Delivery::new(message).with_acknowledgement(acknowledgement),
        );
        let report = engine.shutdown(PATIENCE).await;
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((engine.stats().handled, engine.stats().failed_attempts), (1, 0));
        assert_eq!(accepted.load(SeqCst), 1);
        // What is acknowledged needs no lease any more, and no task for it.
        let count = *extensions.count.lock();
        tokio::task::yield_now().await;
        assert_eq!(*extensions.count.lock(), count);
    });
}

#[test]
fn an_emit_that_waits_ends_with_the_runtime_of_the_bridge() {
    let (home, here) = (runtime(), runtime());
    let (slow, engine) = slow_bridge(0);
    home.block_on(engine.start()).unwrap();
    slow.0.publish_hangs.store(true, SeqCst);
    let emit = {
        let engine = Arc::clone(&engine);
        here.spawn(async move { engine.emit_message(event(0), &EmitOptions::default()).await })
    };
    let publishing = async {
        while slow.0.publishing.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    here.block_on(async { timeout(PATIENCE, publishing).await }).expect("it is about to publish");
    home.shutdown_background();
    let error = here.block_on(async { timeout(PATIENCE, emit).await }).unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    assert!(error.to_string().contains("runtime"), "{error}");
    assert_eq!(engine.health().state, BridgeState::ShutDown);
    let report = here.block_on(engine.shutdown(PATIENCE));
    assert!(!report.is_clean(), "{report:?}");
}

#[test]
fn a_start_that_is_under_way_ends_with_its_runtime() {
    let (home, here) = (runtime(), runtime());
    let (slow, engine) = slow_bridge(0);
    slow.0.connect_hangs.store(true, SeqCst);
    let start = {
        let (engine, _home) = (Arc::clone(&engine), home.enter());
        // It is begun on one runtime and waited for on another one.
        let mut start = Box::pin(async move { engine.start().await });
        assert!(futures_util::FutureExt::now_or_never(&mut start).is_none());
        start
    };
    home.shutdown_background();
    let error = here.block_on(async { timeout(PATIENCE, start).await }).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

#[test]
fn without_a_runtime_nothing_panics() {
    let (_, engine) = slow_bridge(0);
    let error = futures_util::FutureExt::now_or_never(engine.start()).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unexpected);
    assert!(error.to_string().contains("Tokio"), "{error}");
}

#[test]
fn a_runtime_that_only_emits_may_end_before_the_message_is_handled() {
    let home = runtime();
    let bridge = bridge_on(&Hub::default());
    let handled = Arc::new(tokio::sync::Semaphore::new(0));
    let told = Arc::clone(&handled);
    let service = Service::new("Watch", "1").subscription_with(
        "onHappened",
        Filter::event("happened"),
        SubscriptionOptions::default().with_max_concurrency(1),
        move |_: Context, _: u32| {
            let told = Arc::clone(&told);
            async move {
                tokio::task::yield_now().await;
                told.add_permits(1);
                Ok(())
            }
        },
    );
    home.block_on(bridge.serve([service])).unwrap();
    for number in 0..100 {
        let brief = Builder::new_current_thread().enable_all().build().unwrap();
        brief.block_on(bridge.emit_message(event(number), &EmitOptions::default())).unwrap();
    }
    let all = async { timeout(PATIENCE, handled.acquire_many(100)).await.map(drop) };
    home.block_on(all).expect("all are handled");
}
