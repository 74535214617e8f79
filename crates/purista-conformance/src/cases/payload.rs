//! What a message says.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use purista_core::{
    CommandDraft, CommandHandler, CommandOptions, ErrorKind, EventDraft, Filter, HandledError, InvokeError,
    InvokeOptions, MAX_DEPTH, Message, Payload, StatusCode,
};

use crate::{
    case::{Case, Outcome, case},
    fields::{self, CHOSEN, identity},
    probe::{Collector, echo, on_command},
    profile::DeploymentOptions,
    stage::{Stage, patient_emit},
};

pub(super) const CASES: &[Case] = &[
    case!("PAY-1", empty_payloads_stay_what_they_are),
    case!("PAY-2", text_of_every_script_arrives),
    case!("PAY-3", payloads_up_to_the_limit_arrive),
    case!("PAY-4", an_answer_that_is_too_large_is_an_error),
    case!("PAY-6", deep_nesting_is_refused),
];

async fn empty_payloads_stay_what_they_are(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let commands = Collector::new();
    stage.serve(&*bridge, "echo", CommandOptions::default(), recorded_echo(&commands)).await?;
    let watch = stage.watch(&*bridge, "watch", Filter::event(stage.unique("empty"))).await?;
    stage.begin().await?;

    let texts = [None, Some("null"), Some("\"\""), Some("{}"), Some("[]"), Some("0"), Some("false")];
    for text in texts {
        let payload = text.map(Payload::from_json_text).transpose()?;
        let mut event = EventDraft::event(stage.address("emitter"), stage.unique("empty"));
        if let Some(payload) = &payload {
            event = event.with_payload(payload.clone());
        }
        let sent = bridge.emit_message(event, &patient_emit()).await?;
        let came = watch.message(sent.message_type(), &sent.id).await?;
        ensure!(came.payload() == payload.as_ref(), "{text:?} came as {:?}", came.payload());

        for parameter in texts {
            let mut call = CommandDraft::new(stage.address("caller"), stage.address("echo"));
            let parameter = parameter.map(Payload::from_json_text).transpose()?;
            if let Some(payload) = &payload {
                call = call.with_payload(payload.clone());
            }
            if let Some(parameter) = &parameter {
                call = call.with_parameter(parameter.clone());
            }
            let answer = bridge.invoke_command(call, &InvokeOptions::default()).await?;
            ensure!(answer.payload() == payload.as_ref(), "{text:?} was answered {:?}", answer.payload());
            let command = commands.messages().pop().context("no command")?;
            let came = (command.payload(), command.parameter());
            ensure!(
                came == (payload.as_ref(), parameter.as_ref()),
                "{payload:?} with {parameter:?} came as {came:?}"
            );
        }
    }
    Ok(())
}

/// Serves a command by returning its input, and keeps the commands.
fn recorded_echo(commands: &Arc<Collector>) -> Arc<dyn CommandHandler> {
    let commands = Arc::clone(commands);
    on_command(move |context| {
        commands.record(&context);
        async move { Ok(context.message().payload().cloned()) }
    })
}

/// Text that some layer may not keep as it is.
const TEXTS: [&str; 20] = [
    "Gr\u{fc}\u{df}e",
    "\u{395}\u{3bb}\u{3bb}\u{3b7}\u{3bd}\u{3b9}\u{3ba}\u{3ac}",
    "\u{420}\u{443}\u{441}\u{441}\u{43a}\u{438}\u{439}",
    "\u{627}\u{644}\u{639}\u{631}\u{628}\u{64a}\u{629}",
    "\u{5e2}\u{5d1}\u{5e8}\u{5d9}\u{5ea}",
    "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}",
    "\u{4e2d}\u{6587}",
    "\u{65e5}\u{672c}\u{8a9e}",
    "\u{d55c}\u{ad6d}\u{c5b4}",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    "\u{10ffff}\u{1d11e}",
    "e\u{301} and \u{e9}",
    "\u{202e}right to left",
    "\u{feff}byte order mark",
    "\u{2028}line\u{2029}paragraph",
    "NUL \0 here",
    "\u{1}\u{1f}\u{7f}\u{80}\u{9f}",
    "\r\n\t",
    "\"\\/\u{8}\u{c}",
    "\u{fffd}\u{fffe}\u{ffff}",
];

async fn text_of_every_script_arrives(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    let watch = stage.watch(&*bridge, "watch", Filter::any()).await?;
    stage.begin().await?;
    // An escape of half a character is valid JSON.
    let escapes =
        ["\"\\ud800\"", "\"\\udfff and \\u0000\"", "{\"\\ud83d\":\"\\ud83d\\ude00\"}"].map(str::to_owned);
    let texts = TEXTS.map(|text| serde_json::json!([text, { text: text }]).to_string());
    for text in texts.into_iter().chain(escapes) {
        let payload = Payload::from_json_text(text)?;
        let draft = stage.event("text", &0)?.with_payload(payload.clone());
        let sent = bridge.emit_message(draft, &patient_emit()).await?;
        let came = watch.message(sent.message_type(), &sent.id).await?;
        ensure!(came.payload() == Some(&payload), "{payload:?} came as {came:?}");
        let call = stage.call("echo", &0)?.with_payload(payload.clone());
        let answer = bridge.invoke_command(call, &InvokeOptions::default()).await?;
        ensure!(answer.payload() == Some(&payload), "{payload:?} was answered {answer:?}");
    }
    for text in TEXTS {
        for field in CHOSEN {
            let wanted = field.with(identity(&stage, "text"), text);
            match bridge.emit_message(fields::event(&wanted), &patient_emit()).await {
                Ok(sent) => {
                    let came = watch.message(sent.message_type(), &sent.id).await?;
                    ensure!(wanted.matches(&came), "{text:?} as {field:?} came as {came:?}");
                }
                Err(error) => {
                    ensure!(error.kind() == ErrorKind::InvalidMessage, "{text:?} as {field:?}: {error:?}")
                }
            }
        }
    }
    Ok(())
}

/// Makes a payload of so many bytes.
fn sized(bytes: usize) -> purista_core::Result<Payload> {
    Payload::json(&"x".repeat(bytes.saturating_sub(2)))
}

async fn payloads_up_to_the_limit_arrive(mut stage: Stage) -> Outcome {
    stage.redeploy(small()).await?;
    let bridge = stage.bridge().await?;
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    let watch = stage.watch(&*bridge, "watch", Filter::event(stage.unique("sized"))).await?;
    stage.begin().await?;
    let most = bridge.capabilities().max_payload();
    for size in [2, most / 2, most - 1, most] {
        let payload = sized(size)?;
        ensure!(payload.len() == size, "{} bytes for {size}", payload.len());
        let draft = stage.event("sized", &0)?.with_payload(payload.clone());
        let sent = bridge.emit_message(draft, &patient_emit()).await?;
        let came = watch.message(sent.message_type(), &sent.id).await?;
        ensure!(came.payload() == Some(&payload), "{size} bytes came as {}", came.payload_len());
        let call = stage.call("echo", &0)?.with_payload(payload.clone());
        let answer = bridge.invoke_command(call, &InvokeOptions::default()).await?;
        ensure!(answer.payload() == Some(&payload), "{size} bytes were answered by {}", answer.payload_len());
    }
    let is_refused = |kind, over| match kind {
        ErrorKind::PayloadTooLarge { size, limit, .. } => (size, limit) == (over, most),
        _ => false,
    };
    for over in [most + 1, most * 2] {
        let before = watch.count();
        let draft = stage.event("sized", &0)?.with_payload(sized(over)?);
        let error = bridge.emit_message(draft, &patient_emit()).await.err().context("it was taken")?;
        ensure!(is_refused(error.kind(), over), "{over} bytes: {error:?}");
        // Payload and parameter count together.
        let call = stage.call("echo", &0)?.with_payload(sized(over - 100)?).with_parameter(sized(100)?);
        let error =
            bridge.invoke_command(call, &InvokeOptions::default()).await.err().context("it was taken")?;
        ensure!(error.bridge_kind().is_some_and(|kind| is_refused(kind, over)), "{over} bytes: {error:?}");

        let sentinel = format!("after {over}");
        stage.emit(&*bridge, "sized", &sentinel).await?;
        watch.sentinel(&format!("{sentinel:?}")).await?;
        stage.invoke(&*bridge, "echo", &sentinel).await?;
        ensure!(watch.count() == before + 1, "{over} bytes were delivered");
    }
    Ok(())
}

/// A deployment whose limit is soon reached.
fn small() -> DeploymentOptions {
    DeploymentOptions { max_payload: Some(8 * 1_024), ..DeploymentOptions::default() }
}

async fn an_answer_that_is_too_large_is_an_error(mut stage: Stage) -> Outcome {
    stage.redeploy(small()).await?;
    let (caller, service) = (stage.bridge().await?, stage.bridge().await?);
    let most = service.capabilities().max_payload();
    let answers = on_command(move |context| async move {
        let size = context.message().payload().map_or(Ok(0), Payload::deserialize)?;
        Ok(Some(sized(size)?))
    });
    let fails = on_command(move |context| async move {
        let size: usize = context.message().payload().map_or(Ok(0), Payload::deserialize)?;
        Err(HandledError::bad_request("no").with_data(&"x".repeat(size))?.into())
    });
    stage.serve(&*service, "answers", CommandOptions::default(), answers).await?;
    stage.serve(&*service, "fails", CommandOptions::default(), fails).await?;
    stage.begin().await?;
    for target in ["answers", "fails"] {
        for size in [most + 1, most * 2] {
            let error =
                stage.invoke(&*caller, target, &size).await.err().context("an answer over the limit")?;
            let is_told = matches!(error, InvokeError::Unhandled(StatusCode::PAYLOAD_TOO_LARGE));
            ensure!(is_told, "{target} with {size} bytes: {error:?}");
        }
    }
    let answer = stage.invoke(&*caller, "answers", &most).await?;
    ensure!(answer.payload_len() == most, "{} bytes", answer.payload_len());
    let error = stage.invoke(&*caller, "fails", &2).await.err().context("no error")?;
    ensure!(matches!(error, InvokeError::Handled(_)), "{error:?}");
    Ok(())
}

async fn deep_nesting_is_refused(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let commands = Collector::new();
    stage.serve(&*bridge, "command", CommandOptions::default(), recorded_echo(&commands)).await?;
    let watch = stage.watch(&*bridge, "watch", Filter::event(stage.unique("nested"))).await?;
    stage.begin().await?;
    let kinds: [fn(usize) -> bool; 3] = [|_| false, |_| true, |level| level % 2 == 0];
    for is_object in kinds {
        let event = stage.event("nested", &"here")?.stamp(bridge.instance_id());
        let call = stage.call("command", &"here")?.stamp(bridge.instance_id());
        let deepest = Payload::from_json_text(nested(MAX_DEPTH, is_object))?;
        let draft = stage.event("nested", &0)?.with_payload(deepest.clone());
        bridge.emit_message(draft, &patient_emit()).await?;
        let draft = stage.call("command", &0)?.with_payload(deepest.clone());
        let answer = bridge.invoke_command(draft, &InvokeOptions::default()).await?;
        ensure!(answer.payload() == Some(&deepest), "the deepest was answered {answer:?}");
        for foreign in [&event, &call] {
            stage.deployment().inject(with_payload(foreign, deepest.as_str())?).await?;
        }
        watch.at_least(2).await?;
        commands.at_least(2).await?;
        for depth in [MAX_DEPTH + 1, 100_000] {
            let error = Payload::from_json_text(nested(depth, is_object)).err().context("it was taken")?;
            ensure!(error.kind() == ErrorKind::InvalidMessage, "{depth} deep: {error:?}");
            // A foreign peer does not ask us.
            for foreign in [&event, &call] {
                let inner = nested(depth, is_object);
                stage.deployment().inject(with_payload(foreign, &inner)?).await?;
            }
        }
        stage.emit(&*bridge, "nested", &"sentinel").await?;
        watch.sentinel("\"sentinel\"").await?;
        stage.invoke(&*bridge, "command", &"sentinel").await?;
        let expected = [deepest.as_str(), deepest.as_str(), "\"sentinel\""];
        for seen in [&watch, &commands] {
            ensure!(seen.payloads() == expected, "{} came", seen.count());
            seen.clear();
        }
    }
    Ok(())
}

/// Makes JSON text of arrays and objects in each other.
fn nested(depth: usize, is_object: fn(usize) -> bool) -> String {
    let open = (0..depth).map(|level| if is_object(level) { "{\"a\":" } else { "[" });
    let close = (0..depth).rev().map(|level| if is_object(level) { "}" } else { "]" });
    open.chain(["0"]).chain(close).collect()
}

/// Encodes a message with other JSON text where its payload says `"here"`.
fn with_payload(message: &Message, json: &str) -> anyhow::Result<Bytes> {
    let text = String::from_utf8(message.encode().into())?;
    Ok(text.replace("\"here\"", json).into())
}
