//! How a command fails.

use std::{collections::HashMap, panic::resume_unwind, sync::Arc};

use anyhow::{Context as _, ensure};
use futures_util::future::BoxFuture;
use purista_core::{
    CommandHandler, CommandOptions, Context, ErrorPayload, EventBridgeExt as _, Filter, HandledError,
    HandlerError, InvokeError, InvokeOptions, MessageType, Payload, Service, StatusCode,
};

use crate::{
    case::{Case, Outcome, case},
    probe::{echo, eventually, on_command},
    stage::Stage,
};

pub(super) const CASES: &[Case] = &[
    case!("ERR-1", a_handled_error_arrives_as_given),
    case!("ERR-2", an_unhandled_error_tells_nothing),
    case!("ERR-3", a_panic_is_answered),
];

/// The error of one status: without data, with some, and with `null`.
fn error_of(status: u16) -> purista_core::Result<HandledError> {
    let error = HandledError::new(StatusCode::new(status), format!("status {status}: \"nein\", \u{1f600}"));
    match status % 3 {
        0 => Ok(error),
        1 => error.with_data(&serde_json::json!({ "status": status, "of": [null, "\u{1f600}"] })),
        _ => error.with_data(&()),
    }
}

async fn a_handled_error_arrives_as_given(stage: Stage) -> Outcome {
    let (caller, service) = (stage.bridge().await?, stage.bridge().await?);
    let fail = on_command(|context| async move {
        let status = context.message().payload().map_or(Ok(0), Payload::deserialize)?;
        Err(error_of(status)?.into())
    });
    stage.serve(&*service, "fail", CommandOptions::default(), fail).await?;
    let fail = stage.address("fail");
    let pass_on = on_command(move |context| {
        let fail = fail.clone();
        async move {
            let status: u16 = context.message().payload().map_or(Ok(0), Payload::deserialize)?;
            context.invoke::<()>(fail, &status).await.map_err(InvokeError::pass_on)?;
            Ok(None)
        }
    });
    stage.serve(&*service, "pass on", CommandOptions::default(), pass_on).await?;
    let fail = stage.address("fail");
    let keep = on_command(move |context| {
        let fail = fail.clone();
        async move {
            context.invoke::<()>(fail, &404).await?;
            Ok(None)
        }
    });
    stage.serve(&*service, "keep", CommandOptions::default(), keep).await?;
    let errors = Filter::message_type(MessageType::CommandErrorResponse).with_sender(stage.address("fail"));
    let seen = stage.watch(&*caller, "errors", errors).await?;
    stage.begin().await?;

    for status in 100..600 {
        let expected = error_of(status)?;
        let call = stage.call("fail", &status)?.with_trace_id(format!("trace {status}"));
        let answer = caller.invoke_command(call, &InvokeOptions::default()).await;
        ensure!(is_handled(answer, &expected), "the caller did not get {expected:?}");
    }
    for status in [404, 409, 503] {
        let expected = error_of(status)?;
        let answer = stage.invoke(&*caller, "pass on", &status).await;
        ensure!(is_handled(answer, &expected), "{expected:?} did not stay handled on its way up");
    }
    let kept = stage.invoke(&*caller, "keep", &0).await;
    let is_opaque = matches!(kept, Err(InvokeError::Unhandled(StatusCode::INTERNAL_SERVER_ERROR)));
    ensure!(is_opaque, "a handled error of another service was passed on unasked: {kept:?}");
    seen.at_least(504).await?;
    for message in seen.messages() {
        let ErrorPayload { status, trace_id, .. } = message.error_payload()?;
        ensure!(trace_id == message.trace_id, "{message:?} names the trace {trace_id:?}");
        let given = Some(format!("trace {}", status.as_u16()).into());
        let passed_on = [404, 409, 503].contains(&status.as_u16());
        ensure!(trace_id == given || passed_on, "{message:?} is not of the trace {given:?}");
    }
    Ok(())
}

fn is_handled<R>(answer: Result<R, InvokeError>, expected: &HandledError) -> bool {
    matches!(answer, Err(InvokeError::Handled(error)) if error == *expected)
}

async fn an_unhandled_error_tells_nothing(stage: Stage) -> Outcome {
    let (caller, service) = (stage.bridge().await?, stage.bridge().await?);
    let secret = format!("secret of {:016x}", stage.seed());
    let fail = |kind: &'static str| -> Arc<dyn CommandHandler> {
        let secret = secret.clone();
        on_command(move |_| {
            let secret = secret.clone();
            async move {
                match kind {
                    "text" => Err(HandlerError::unhandled(secret)),
                    "panic" => resume_unwind(Box::new(secret)),
                    _ => Err(std::io::Error::other(secret).into()),
                }
            }
        })
    };
    let everything = stage.watch(&*caller, "everything", Filter::any()).await?;
    let kinds = ["text", "panic", "error"];
    for kind in kinds {
        stage.serve(&*service, kind, CommandOptions::default(), fail(kind)).await?;
    }
    stage.begin().await?;
    for kind in kinds {
        let error = stage.invoke(&*caller, kind, &0).await.err().context("it did not fail")?;
        let is_plain = matches!(error, InvokeError::Unhandled(StatusCode::INTERNAL_SERVER_ERROR));
        ensure!(is_plain && !format!("{error} {error:?}").contains(&secret), "{kind}: {error:?}");
    }
    let errors = || {
        let mut messages = everything.messages();
        messages.retain(|message| message.message_type() == MessageType::CommandErrorResponse);
        messages
    };
    eventually("a subscriber sees the responses", || async { Ok(errors().len() == kinds.len()) }).await?;
    for message in errors() {
        let ErrorPayload { status, message: text, data, .. } = message.error_payload()?;
        ensure!(status == StatusCode::INTERNAL_SERVER_ERROR && text == status.reason(), "{message:?}");
        ensure!(data.is_none(), "{message:?} has data");
    }
    for message in everything.messages() {
        let bytes = message.encode();
        ensure!(!String::from_utf8_lossy(&bytes).contains(&secret), "{message:?} tells the secret");
    }
    Ok(())
}

async fn a_panic_is_answered(stage: Stage) -> Outcome {
    let (caller, service) = (stage.bridge().await?, stage.bridge().await?);
    let at_once = on_command(|_| async { resume_unwind(Box::new("at once")) });
    let later = on_command(|_| async {
        tokio::task::yield_now().await;
        resume_unwind(Box::new(7))
    });
    for (target, handler) in
        [("at once", at_once), ("later", later), ("before the future", Arc::new(PanicsWhenCalled))]
    {
        stage.serve(&*service, target, CommandOptions::default(), handler).await?;
    }
    // A map whose keys are no strings has no form in JSON.
    let no_json = Service::new(stage.unique("Service"), "1")
        .command("no json", |_, _: u8| async { Ok(HashMap::from([((1, 2), 3)])) });
    stage.serve(&*service, "echo", CommandOptions::default(), echo()).await?;
    service.serve([no_json]).await?;
    stage.begin().await?;

    for round in 0..10 {
        for target in ["at once", "later", "before the future", "no json"] {
            let error = stage.invoke(&*caller, target, &round).await.err().context("it did not fail")?;
            let is_plain = matches!(error, InvokeError::Unhandled(StatusCode::INTERNAL_SERVER_ERROR));
            ensure!(is_plain, "{target}: {error:?}");
            stage.invoke(&*caller, "echo", &round).await.with_context(|| format!("after {target}"))?;
        }
    }
    ensure!(service.stats().panicked == 30, "{:?}", service.stats());
    eventually("all handlers are done", || async { Ok(service.stats().in_hand == 0) }).await
}

/// A handler that was written without `async`, and panics before there is a future.
struct PanicsWhenCalled;

impl CommandHandler for PanicsWhenCalled {
    fn handle<'a, 'b>(&'a self, _: Context) -> BoxFuture<'b, Result<Option<Payload>, HandlerError>>
    where
        'a: 'b,
        Self: 'b,
    {
        resume_unwind(Box::new("before"))
    }
}
