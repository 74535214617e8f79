//! Handlers that panic or take too long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use purista_core::{
    Command, CommandHandler, CommandOptions, Context, EmitOptions, ErrorKind, EventBridge as _,
    EventBridgeExt as _, Filter, HandledError, HandlerError, InvokeError, MAX_TIMEOUT, Payload, RetryPolicy,
    Service, StatusCode, SubscriptionOptions, adapter::async_trait,
};

use super::{
    WORK, assert_balanced, bridge_on, event, ms, number, serving, settle, sleep, timed, unhandled, within,
    work,
};

/// Tells when a handler is dropped before its end.
struct Unfinished(Option<Arc<AtomicBool>>);

impl Unfinished {
    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(dropped) = &self.0 {
            dropped.store(true, SeqCst);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_takes_too_long_is_stopped() {
    let dropped = Arc::new(AtomicBool::new(false));
    let watch = Arc::clone(&dropped);
    let options = CommandOptions::default().with_handler_timeout(ms(250));
    let service =
        Service::new(WORK.0, WORK.1).command_with(WORK.2, options, move |_ctx: Context, time: u64| {
            let unfinished = Unfinished(Some(Arc::clone(&watch)));
            async move {
                sleep(time).await;
                unfinished.finish();
                Ok(())
            }
        });
    let bridge = serving(service).await;
    bridge.invoke_command(work().with_payload(number(249)), &within(1_000)).await.unwrap();
    assert!(!dropped.load(SeqCst));
    let (took, result) =
        timed(bridge.invoke_command(work().with_payload(number(9_999)), &within(1_000))).await;
    assert_eq!((took, unhandled(result)), (ms(250), StatusCode::INTERNAL_SERVER_ERROR));
    assert!(dropped.load(SeqCst));
    assert_eq!((bridge.stats().executed, bridge.stats().failed_attempts), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_takes_too_long_has_failed() {
    let options = SubscriptionOptions::default()
        .with_handler_timeout(ms(250))
        .with_retry(RetryPolicy::default().with_max_attempts(2).with_initial_delay(ms(50)));
    let service = Service::new("Watch", "1").subscription_with(
        "onHappened",
        Filter::any(),
        options,
        |_ctx: Context, _event: u32| async {
            sleep(60_000).await;
            Ok(())
        },
    );
    let bridge = serving(service).await;
    bridge.emit_message(event(1), &EmitOptions::default()).await.unwrap();
    sleep(549).await;
    assert_eq!(bridge.hub().report().dead_letters, 0);
    sleep(2).await;
    let [letter] = bridge.hub().take_dead_letters().try_into().unwrap();
    assert_eq!((letter.reason.as_str(), letter.attempts), ("the handler ran out of its time", 2));
    assert_eq!(bridge.stats().failed_attempts, 2);
    assert_balanced(&bridge.stats());
}

#[tokio::test]
async fn impossible_times_and_numbers_are_refused() {
    let bridge = bridge_on(&purista_default::Hub::default());
    let options = SubscriptionOptions::default;
    let impossible = [
        options().with_handler_timeout(Duration::ZERO),
        options().with_handler_timeout(MAX_TIMEOUT + ms(1)),
        options().with_max_concurrency(0),
        options().with_max_concurrency(purista_core::MAX_CONCURRENCY + 1),
        options().with_retry(RetryPolicy::default().with_max_attempts(0)),
    ];
    for impossible in impossible {
        let service = Service::new("Watch", "1").subscription_with(
            "onHappened",
            Filter::any(),
            impossible.clone(),
            |_ctx: Context, _event: u32| async { Ok(()) },
        );
        let error = bridge.serve([service]).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{impossible:?}");
    }
}

/// Panics before there is a future to poll, or while it is polled.
struct Panicking {
    early: bool,
}

impl CommandHandler for Panicking {
    fn handle<'a, 'f>(
        &'a self,
        _context: Context,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Option<Payload>, HandlerError>> + Send + 'f>>
    where
        'a: 'f,
    {
        assert!(!self.early, "secret of the early panic");
        Box::pin(async {
            tokio::task::yield_now().await;
            panic!("secret of the late panic")
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_panics_fails_alone() {
    for early in [true, false] {
        let healthy = Service::new(WORK.0, WORK.1)
            .command("healthy", |_ctx: Context, (): ()| async { Ok("still here") });
        let bridge = serving(healthy).await;
        bridge.register_command(Command::new(WORK), Arc::new(Panicking { early })).await.unwrap();
        for panics in 1..=3 {
            let (took, result) = timed(bridge.invoke_command(work(), &within(1_000))).await;
            assert_eq!(
                (took, unhandled(result)),
                (ms(0), StatusCode::INTERNAL_SERVER_ERROR),
                "early: {early}"
            );
            assert_eq!(bridge.stats().panicked, panics);
        }
        let healthy = purista_core::CommandDraft::new(("Client", "1", "main"), (WORK.0, WORK.1, "healthy"));
        bridge.invoke_command(healthy, &within(1_000)).await.unwrap();
        assert_eq!((bridge.stats().executed, bridge.stats().in_hand), (4, 0));
        assert!(bridge.shutdown(ms(1_000)).await.is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_panics_is_tried_again_and_then_kept() {
    let service = Service::new("Watch", "1").subscription_with(
        "onHappened",
        Filter::any(),
        SubscriptionOptions::default().with_retry(RetryPolicy::default().with_max_attempts(3)),
        |ctx: Context, panics: u32| async move {
            assert!(ctx.attempt() > panics, "no {panics} is too much");
            Ok(())
        },
    );
    let bridge = serving(service).await;
    bridge.emit_message(event(2), &EmitOptions::default()).await.unwrap();
    bridge.emit_message(event(3), &EmitOptions::default()).await.unwrap();
    settle().await;
    let [letter] = bridge.hub().take_dead_letters().try_into().unwrap();
    assert_eq!((letter.reason.as_str(), letter.attempts), ("the handler panicked: no 3 is too much", 3));
    let stats = bridge.stats();
    assert_eq!((stats.panicked, stats.failed_attempts, stats.handled), (5, 5, 1));
    assert_balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn only_handled_errors_tell_their_cause() {
    let service = Service::new(WORK.0, WORK.1).command(WORK.2, |_ctx: Context, handled: bool| async move {
        let error = if handled {
            HandledError::new(StatusCode::IM_A_TEAPOT, "tea only").with_data(&["green", "\0"])?.into()
        } else {
            HandlerError::unhandled("password=hunter2")
        };
        Err::<(), _>(error)
    });
    let bridge = serving(service).await;
    let invoke = |json: &str| {
        let draft = work().with_payload(Payload::from_json_text(json).expect("JSON"));
        let bridge = Arc::clone(&bridge);
        async move { bridge.invoke_command(draft, &within(1_000)).await }
    };
    let Err(InvokeError::Handled(error)) = invoke("true").await else { panic!("it was handled") };
    assert_eq!((error.status(), error.message()), (StatusCode::IM_A_TEAPOT, "tea only"));
    assert_eq!(error.data().map(Payload::as_str), Some(r#"["green","\u0000"]"#));
    let error = invoke("false").await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("hunter2"));
    assert!(matches!(error, InvokeError::Unhandled(StatusCode::INTERNAL_SERVER_ERROR)));
    // Input that does not fit is the caller's fault, and is told so.
    let Err(InvokeError::Handled(error)) = invoke("7").await else { panic!("it was handled") };
    assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    assert!(error.message().ends_with("expects: invalid type, expected a boolean"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_service_is_passed_on_explicitly() {
    let stock = Service::new("Stock", "1").command("take", |_ctx: Context, item: String| async move {
        let refusal = HandledError::not_found(format!("no {item}")).with_data(&["hunter2"])?;
        Err::<(), _>(refusal.into())
    });
    let service = Service::new("Shop", "1")
        .command("order", |ctx: Context, item: String| async move {
            Ok(ctx.invoke::<()>(("Stock", "1", "take"), &item).await?)
        })
        .command("ask", |ctx: Context, item: String| async move {
            let taken = ctx.invoke::<()>(("Stock", "1", "take"), &item).await;
            taken.map_err(InvokeError::pass_on)
        });
    let bridge = serving(stock).await;
    bridge.serve([service]).await.unwrap();
    let ordered = bridge.invoke::<()>(("Shop", "1", "order"), "tea").await.unwrap_err();
    assert!(matches!(ordered, InvokeError::Unhandled(StatusCode::INTERNAL_SERVER_ERROR)), "{ordered:?}");
    assert!(!format!("{ordered:?} {ordered}").contains("hunter2"));
    let asked = bridge.invoke::<()>(("Shop", "1", "ask"), "tea").await.unwrap_err();
    let expected = HandledError::not_found("no tea").with_data(&["hunter2"]).unwrap();
    assert_eq!(asked.handled(), Some(&expected));
}

/// A handler of whole messages that returns nothing.
struct Nothing;

#[async_trait]
impl CommandHandler for Nothing {
    async fn handle(&self, _context: Context) -> Result<Option<Payload>, HandlerError> {
        Ok(None)
    }
}

#[tokio::test(start_paused = true)]
async fn no_result_is_not_null() {
    let bridge =
        serving(Service::new(WORK.0, WORK.1).command("null", |_ctx: Context, (): ()| async { Ok(()) })).await;
    bridge.register_command(Command::new(WORK), Arc::new(Nothing)).await.unwrap();
    let answer = bridge.invoke_command(work(), &within(1_000)).await.unwrap();
    assert_eq!(answer.payload(), None);
    let null = purista_core::CommandDraft::new(("Client", "1", "main"), (WORK.0, WORK.1, "null"));
    let answer = bridge.invoke_command(null, &within(1_000)).await.unwrap();
    assert_eq!(answer.payload().map(Payload::as_str), Some("null"));
}
