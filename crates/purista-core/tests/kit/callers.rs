//! Calls that a handler makes on behalf of its caller.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use purista_core::{CommandDraft, Context, ErrorKind, EventBridge as _, InvokeError, InvokeOptions, Service};
use tokio::time::Instant;

use super::{WORK, ms, serving, settle, sleep, within, work};

/// How a call of a handler ended, and how long it took.
type Ended = (Duration, Result<(), InvokeError>);

/// Serves a command that works for five seconds, and one that works so long itself and then calls that one.
async fn ended(pause: u64, options: fn(&Context) -> InvokeOptions) -> (Ended, purista_core::Stats) {
    let seen: Arc<Mutex<Option<Ended>>> = Arc::default();
    let told = Arc::clone(&seen);
    let service = Service::new(WORK.0, WORK.1)
        .command("slow", |_: Context, (): ()| async {
            sleep(5_000).await;
            Ok(())
        })
        .command(WORK.2, move |context: Context, (): ()| {
            let told = Arc::clone(&told);
            async move {
                sleep(pause).await;
                let began = Instant::now();
                let draft = CommandDraft::new(context.address(), (WORK.0, WORK.1, "slow"));
                let result = context.bridge().invoke_command(draft, &options(&context)).await;
                *told.lock() = Some((began.elapsed(), result.map(drop)));
                Ok(())
            }
        });
    let bridge = serving(service).await;
    let _given_up = bridge.invoke_command(work(), &within(1_000)).await;
    settle().await;
    let ended = seen.lock().take();
    (ended.expect("the call has ended"), bridge.stats())
}

fn as_the_context_does(context: &Context) -> InvokeOptions {
    InvokeOptions::default().within(context)
}

#[tokio::test(start_paused = true)]
async fn they_end_with_their_caller_and_say_so() {
    let ((took, result), stats) = ended(400, as_the_context_does).await;
    let error = result.unwrap_err();
    assert_eq!((took, error.bridge_kind()), (ms(600), Some(ErrorKind::Timeout)));
    assert_eq!(
        error.to_string(),
        "invoke on the default bridge: timed out (the time limit of this handler's own caller has passed)"
    );
    assert_eq!((stats.invoked, stats.timed_out, stats.executed), (2, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn those_that_begin_too_late_are_not_sent() {
    for pause in [1_000, 1_001, 60_000] {
        let ((took, result), stats) = ended(pause, as_the_context_does).await;
        let error = result.unwrap_err();
        assert_eq!((took, error.bridge_kind()), (ms(0), Some(ErrorKind::Timeout)));
        assert!(error.to_string().contains("caller"), "{error}");
        assert_eq!((stats.invoked, stats.timed_out, stats.executed, stats.expired), (2, 2, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_their_own_that_is_shorter_counts() {
    let options = |context: &Context| within(200).within(context);
    let ((took, result), _) = ended(0, options).await;
    let error = result.unwrap_err();
    assert_eq!((took, error.bridge_kind()), (ms(200), Some(ErrorKind::Timeout)));
    assert!(!error.to_string().contains("caller"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_none_is_refused_whoever_waits() {
    let options = |context: &Context| InvokeOptions::default().with_timeout(Duration::MAX).within(context);
    for pause in [0, 60_000] {
        let ((took, result), _) = ended(pause, options).await;
        assert_eq!((took, result.unwrap_err().bridge_kind()), (ms(0), Some(ErrorKind::InvalidConfig)));
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_know_no_caller_go_on() {
    let without: [fn(&Context) -> InvokeOptions; 2] =
        [|_| InvokeOptions::default(), |context| InvokeOptions::default().within(&context.detached())];
    for options in without {
        for pause in [400, 60_000] {
            let ((took, result), _) = ended(pause, options).await;
            assert!(result.is_ok(), "{result:?}");
            assert_eq!(took, ms(5_000));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_detached_context_is_cancelled_by_the_shutdown_alone() {
    let service = Service::new(WORK.0, WORK.1).command(WORK.2, |context: Context, (): ()| async move {
        let detached = context.detached();
        context.cancelled().await;
        assert!(context.is_cancelled() && !detached.is_cancelled());
        assert_eq!((context.time_left(), detached.time_left()), (Some(ms(0)), None));
        detached.cancelled().await;
        Ok(())
    });
    let bridge = serving(service).await;
    let _given_up = bridge.invoke_command(work(), &within(1_000)).await;
    settle().await;
    assert_eq!(bridge.stats().in_hand, 1, "the handler panicked");
    let report = bridge.shutdown(ms(1_000)).await;
    // It was told, and ended by itself.
    assert_eq!((report.cancelled_handlers, bridge.stats().executed), (1, 1), "{report:?}");
}
