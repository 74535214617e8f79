//! What is left of services that could not be served.

use std::sync::atomic::Ordering::SeqCst;

use purista_core::{Context, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, Service};

use super::slow::slow_bridge;

fn watch() -> Service {
    Service::new("Watch", "1")
        .command("ask", |_: Context, number: u8| async move { Ok(number) })
        .subscription("onHappened", Filter::event("happened"), |_: Context, _: u8| async { Ok(()) })
}

fn other() -> Service {
    Service::new("Other", "1").command("ask", |_: Context, number: u8| async move { Ok(number) })
}

#[tokio::test(start_paused = true)]
async fn services_that_fail_half_way_can_be_served_again() {
    for is_started in [false, true] {
        let (slow, engine) = slow_bridge(0);
        if is_started {
            engine.start().await.unwrap();
        }
        let error = engine.serve([other(), watch(), watch()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyRegistered);
        super::settle().await;
        assert_eq!(slow.0.consumers.load(SeqCst), 0, "something is left");
        assert_eq!(engine.serve([other(), watch()]).await.unwrap().len(), 3);
        assert_eq!(slow.0.consumers.load(SeqCst), 3);
        // What was there before is not touched.
        engine.serve([Service::new("Third", "1"), watch()]).await.unwrap_err();
        super::settle().await;
        assert_eq!(slow.0.consumers.load(SeqCst), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn services_whose_start_failed_can_be_served_again() {
    let (slow, engine) = slow_bridge(0);
    slow.0.refusals.store(1, SeqCst);
    assert_eq!(engine.serve([watch()]).await.unwrap_err().kind(), ErrorKind::Forbidden);
    super::settle().await;
    assert_eq!(slow.0.consumers.load(SeqCst), 0);
    assert_eq!(engine.serve([watch()]).await.unwrap().len(), 2);
    assert!(engine.health().is_healthy());
}
