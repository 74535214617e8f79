//! The original calls a service of ours, and is called.

use anyhow::{Context as _, ensure};
use axum::{
    Router,
    body::Bytes,
    extract::Path,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::post,
};
use purista_core::{
    Context, ErrorKind, EventBridge as _, EventBridgeExt as _, HandledError, HandlerError, InvokeError,
    InvokeOptions, Payload, Service,
};
use purista_dapr::DaprBridge;
use purista_integration_tests::{dapr::Component, samples};
use serde_json::{Value, json};

use super::original::{CALLER, Original, SERVICE, command, failed, json_response, response};
use crate::support::{PATIENCE, Place, Seen, beside};

const APP_ID: &str = "app-user-service-v1";

/// What a string may look like without being anything else.
const TEXT: &str = r#"{"a":"b"}"#;

fn user_service() -> Service {
    Service::new("UserService", "1")
        .command("echoBack", |_ctx: Context, input: Payload| async move { Ok(input) })
        .command("refuseIt", |_ctx: Context, _: Value| async move {
            let refusal = HandledError::bad_request("no name").with_data(&json!({ "field": "name" }))?;
            Err::<(), HandlerError>(refusal.into())
        })
        .command("crash", |_ctx: Context, _: Value| async move {
            Err::<(), HandlerError>(HandlerError::unhandled("a secret"))
        })
}

/// Splits a trace context into trace and span.
fn trace(message: &Value) -> anyhow::Result<(String, String)> {
    let fields: Value = serde_json::from_str(message["otp"].as_str().context("no otp")?)?;
    let mut parts = fields["traceparent"].as_str().context("no trace")?.split('-').skip(1);
    let mut part = || parts.next().map(str::to_owned).context("no part");
    Ok((part()?, part()?))
}

/// Takes out fields that differ each time.
fn take_out(message: &mut Value, fields: &[&str]) -> anyhow::Result<()> {
    for field in fields {
        message
            .as_object_mut()
            .and_then(|message| message.remove(*field))
            .with_context(|| field.to_string())?;
    }
    Ok(())
}

#[tokio::test]
async fn the_original_reads_what_a_service_of_ours_answers() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let caller = Original::start(&place, "app-caller-v1", &json!([]), Router::new()).await?;
    let sidecar = place.sidecar(APP_ID).await?;
    let bridge = beside(&sidecar).instance_id(SERVICE).build()?;
    bridge.serve([user_service()]).await?;

    let trace_id = command("any")["traceId"].clone();
    let refused =
        json!({ "status": 400, "message": "no name", "data": { "field": "name" }, "traceId": trace_id });
    let crashed = json!({ "status": 500, "message": "Internal Server Error", "traceId": trace_id });
    for (target, path, error, payload) in [
        ("echoBack", "echo-back", None, command("any")["payload"]["payload"].clone()),
        ("refuseIt", "refuse-it", Some(true), refused),
        ("crash", "crash", Some(false), crashed),
    ] {
        let command = command(target);
        let path = format!("{APP_ID}/method/purista/command/{path}");
        // It reads the body once.
        let (status, mut answer) = caller.invoke(&path, &command).await?;
        ensure!(status == StatusCode::OK, "{status} {answer}");
        let (asked, answered) = (trace(&command)?, trace(&answer)?);
        ensure!(answered.0 == asked.0 && answered.1 != asked.1, "{answered:?}");
        let mut expected = response(&command, error, payload);
        ensure!(answer["timestamp"].is_u64(), "{answer}");
        for message in [&mut answer, &mut expected] {
            take_out(message, &["timestamp", "otp"])?;
        }
        ensure!(answer == expected, "{answer} is not {expected}");
    }
    let path = format!("{APP_ID}/method/purista/command/unknown");
    let (status, answer) = caller.invoke(&path, &command("unknown")).await?;
    ensure!(status == StatusCode::NOT_FOUND, "{status} {answer}");
    ensure!(answer == json!({ "status": 404, "message": "Not Found" }), "{answer}");
    ensure!(bridge.stats().executed == 3 && bridge.stats().malformed == 0, "{:?}", bridge.stats());
    bridge.shutdown(PATIENCE).await;
    Ok(())
}

/// Answers as the original does, whatever its handler returned.
fn answer(target: &str, command: &Value) -> Response {
    let error = |is_handled, payload| response(command, Some(is_handled), payload);
    let whole = match target {
        "echo-back" => response(command, None, command["payload"]["payload"].clone()),
        "refuse-it" => error(true, json!({ "status": 409, "message": "no", "data": { "field": "name" } })),
        "crash" => error(false, json!({ "status": 500, "message": "Internal Server Error" })),
        "say-text" => return json_response(StatusCode::OK, json!(TEXT).to_string()),
        "say-nothing" => return StatusCode::NO_CONTENT.into_response(),
        "reject" => return failed(StatusCode::INTERNAL_SERVER_ERROR),
        _ => return failed(StatusCode::NOT_FOUND),
    };
    // A message is encoded twice.
    json_response(StatusCode::OK, json!(whole.to_string()).to_string())
}

fn service(seen: &Seen) -> Router {
    let seen = seen.clone();
    let handler = async move |Path(target): Path<String>, headers: HeaderMap, body: Bytes| {
        let content_type =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_type != "application/json" {
            return failed(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        let Ok(command) = serde_json::from_slice(&body) else { return failed(StatusCode::BAD_REQUEST) };
        seen.push(String::from_utf8_lossy(&body));
        answer(&target, &command)
    };
    Router::new().route("/purista/command/{target}", post(handler))
}

/// Calls the original; returns what it answers.
async fn called(bridge: &DaprBridge, target: &str) -> anyhow::Result<Result<Option<Value>, InvokeError>> {
    let options = InvokeOptions::default().with_timeout(PATIENCE);
    let response = bridge.invoke_command(samples::command_draft(&command(target))?, &options).await;
    let payload = |message: &purista_core::Message| message.payload().map(Payload::deserialize).transpose();
    Ok(match response {
        Ok(response) => Ok(payload(&response)?),
        Err(error) => Err(error),
    })
}

#[tokio::test]
async fn a_caller_of_ours_reads_whatever_the_original_answers() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let seen = Seen::default();
    let _service = Original::start(&place, APP_ID, &json!([]), service(&seen)).await?;
    let sidecar = place.sidecar("app-caller-v1").await?;
    let bridge = beside(&sidecar).instance_id(CALLER).build()?;
    bridge.start().await?;

    let payload = command("any")["payload"]["payload"].clone();
    for (target, result) in
        [("echoBack", Some(payload)), ("sayText", Some(json!(TEXT))), ("sayNothing", None)]
    {
        let answer = called(&bridge, target).await?;
        ensure!(answer.as_ref().ok() == Some(&result), "{target}: {answer:?}");
    }
    let refused = called(&bridge, "refuseIt").await?;
    let Err(InvokeError::Handled(refusal)) = &refused else { anyhow::bail!("{refused:?}") };
    ensure!((refusal.status().as_u16(), refusal.message()) == (409, "no"), "{refusal:?}");
    let data: Value = refusal.data().context("no data")?.deserialize()?;
    ensure!(data == json!({ "field": "name" }), "{data}");
    for target in ["crash", "reject"] {
        let failed = called(&bridge, target).await?;
        let is_it = matches!(&failed, Err(InvokeError::Unhandled(status)) if status.as_u16() == 500);
        ensure!(is_it, "{target}: {failed:?}");
    }
    let unknown = called(&bridge, "unknown").await?.err().context("an answer")?;
    ensure!(unknown.bridge_kind() == Some(ErrorKind::NoHandler), "{unknown:?}");
    ensure!(bridge.stats().malformed == 0, "{:?}", bridge.stats());

    // What it was sent is what its own caller sends.
    let targets = ["echoBack", "sayText", "sayNothing", "refuseIt", "crash", "reject", "unknown"];
    let commands = seen.all();
    ensure!(commands.len() == targets.len(), "{commands:?}");
    for (ours, target) in commands.iter().zip(targets) {
        let (mut ours, mut theirs): (Value, _) = (serde_json::from_str(ours)?, command(target));
        for message in [&mut ours, &mut theirs] {
            take_out(message, &["id", "correlationId", "timestamp"])?;
        }
        ensure!(ours == theirs, "{ours} is not {theirs}");
    }
    bridge.shutdown(PATIENCE).await;
    Ok(())
}
