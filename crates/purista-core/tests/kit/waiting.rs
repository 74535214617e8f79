//! Many messages that wait for their next attempt at once.

use std::{sync::Arc, time::Duration};

use purista_core::{
    Context, EmitOptions, EventBridge as _, EventDraft, Filter, HandlerError, Payload, RetryPolicy, Service,
    ServiceAddress, SubscriptionOptions,
};
use purista_default::DefaultEventBridge;

use super::{assert_balanced, ms, serving, settle, sleep, timed};

const DELAY: u64 = 60_000;
const MOMENT: u64 = 100;

/// A subscriber of numbers, with any filler: so many attempts fail. Those that succeed take a moment.
async fn failing(max_concurrency: usize) -> Arc<DefaultEventBridge> {
    let retry = RetryPolicy::default().with_initial_delay(ms(DELAY)).with_max_delay(ms(DELAY));
    let options = SubscriptionOptions::default().with_retry(retry).with_max_concurrency(max_concurrency);
    let handler = |ctx: Context, (failures, _filler): (u32, String)| async move {
        if ctx.attempt() <= failures {
            return Err(HandlerError::unhandled("not yet"));
        }
        sleep(MOMENT).await;
        Ok(())
    };
    let filter = Filter::event("happened");
    serving(Service::new("Watch", "1").subscription_with("onHappened", filter, options, handler)).await
}

async fn emit(bridge: &DefaultEventBridge, failures: u32, filler: usize) {
    let event = EventDraft::event(ServiceAddress::client(), "happened");
    let payload = Payload::json(&(failures, "x".repeat(filler))).unwrap();
    bridge.emit_message(event.with_payload(payload), &EmitOptions::default()).await.unwrap();
}

/// Has so many messages fail.
async fn fail(bridge: &DefaultEventBridge, messages: usize, filler: usize) {
    let before = bridge.stats().failed_attempts;
    for number in 1..=messages {
        emit(bridge, 1, filler).await;
        if number % 1_000 == 0 {
            sleep(1).await;
        }
    }
    sleep(1).await;
    assert_eq!(bridge.stats().failed_attempts - before, messages as u64);
}

async fn handled_within(bridge: &DefaultEventBridge, messages: u64) -> Duration {
    let before = bridge.stats().handled;
    for _ in 0..messages {
        emit(bridge, 0, 0).await;
    }
    let (took, ()) = timed(async {
        while bridge.stats().handled < before + messages {
            sleep(1).await;
        }
    })
    .await;
    took
}

#[tokio::test(start_paused = true)]
async fn thousands_that_fail_do_not_hold_up_others() {
    let bridge = failing(1).await;
    fail(&bridge, 16_384, 0).await;
    assert!(handled_within(&bridge, 1).await < ms(2 * MOMENT));
    settle().await;
    assert_eq!(bridge.stats().handled, 16_385);
    assert_balanced(&bridge.stats());
}

/// As when something is down that all need: the rest waits at the broker, and no attempts are used up.
#[tokio::test(start_paused = true)]
async fn beyond_the_bound_others_wait() {
    // One message more than has room, or fewer of more bytes than have.
    for (messages, filler) in [(16_385, 0), (64, 1_024 * 1_024)] {
        let bridge = failing(1).await;
        fail(&bridge, messages, filler).await;
        let took = handled_within(&bridge, 1).await;
        assert!(took > ms(DELAY / 2), "{took:?}");
        settle().await;
        assert_eq!(bridge.stats().handled, messages as u64 + 1);
        assert_balanced(&bridge.stats());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handlers_place_is_free_again_as_soon_as_there_is_room() {
    let bridge = failing(2).await;
    fail(&bridge, 63, 1_024 * 1_024).await;
    sleep(DELAY / 2).await;
    fail(&bridge, 1, 1_024 * 1_024).await;
    // One of the two handlers' places is kept: there is no room.
    assert!(handled_within(&bridge, 2).await >= ms(2 * MOMENT));
    sleep(DELAY / 2 + 100 * MOMENT).await;
    assert_eq!(bridge.stats().handled, 65);
    assert!(handled_within(&bridge, 2).await < ms(2 * MOMENT));
    settle().await;
    assert_balanced(&bridge.stats());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_gives_all_of_them_back_at_once() {
    let bridge = failing(1).await;
    fail(&bridge, 16_385, 0).await;
    let (took, report) = timed(bridge.shutdown(ms(10_000))).await;
    assert_eq!((took, report.is_clean()), (ms(0), true));
    assert_eq!(bridge.stats().released, 16_385);
    assert_balanced(&bridge.stats());
}
