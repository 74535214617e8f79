//! Spans of handlers join the trace of the messages they handle (`OBS-1`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use opentelemetry::trace::{SpanId, SpanKind, Status, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use purista_core::{
    Context, EventBridge as _, EventBridgeExt as _, Filter, HandledError, HandlerError, MessageType, Service,
};
use purista_default::DefaultEventBridge;
use tokio::sync::Notify;
use tracing::{Instrument as _, subscriber::DefaultGuard};
use tracing_subscriber::layer::SubscriberExt as _;

#[tokio::test]
async fn one_trace_from_event_over_command_to_response() {
    let (exporter, _recording) = recording();
    let done = Arc::new(Notify::new());
    let seen = Arc::clone(&done);
    let work = Service::new("Work", "1")
        .command("answer", |_context: Context, input: u32| async move { Ok(input) })
        .subscription("ask", Filter::event("asked"), |context: Context, input: u32| async move {
            let _answer: u32 = context.invoke(("Work", "1", "answer"), &input).await?;
            Ok(())
        })
        .subscription(
            "observe",
            Filter::message_type(MessageType::CommandSuccessResponse),
            move |_context: Context, _answer: u32| {
                let seen = Arc::clone(&seen);
                async move {
                    seen.notify_one();
                    Ok(())
                }
            },
        );
    let bridge = DefaultEventBridge::builder().build().unwrap();
    bridge.serve([work]).await.unwrap();
    bridge.emit("asked", &7).instrument(tracing::info_span!("root")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), done.notified()).await.unwrap();
    assert!(bridge.shutdown(Duration::from_secs(10)).await.is_clean());

    let spans = exporter.get_finished_spans().unwrap();
    let by_step: HashMap<String, &SpanData> =
        spans.iter().map(|span| (span.name.to_string(), span)).collect();
    let span = |name: &str| by_step[name];
    let parent_of = |name: &str, parent: SpanId| {
        assert_eq!(span(name).parent_span_id, parent, "the parent of {name}");
        assert_eq!(span(name).span_context.trace_id(), span("root").span_context.trace_id(), "{name}");
    };
    let steps = [
        "root",
        "emit asked",
        "process Work v1 ask",
        "invoke Work v1 answer",
        "process Work v1 answer",
        "process Work v1 observe",
    ];
    for step in steps.windows(2) {
        parent_of(step[1], span(step[0]).span_context.span_id());
    }
    let kinds = steps.map(|step| span(step).span_kind.clone());
    let consumer = SpanKind::Consumer;
    let expected = [
        SpanKind::Internal,
        SpanKind::Producer,
        consumer.clone(),
        SpanKind::Client,
        consumer.clone(),
        consumer,
    ];
    assert_eq!(kinds, expected);
    for step in &steps[1..] {
        assert_eq!(attribute(span(step), "messaging.system").as_deref(), Some("default"), "{step}");
        assert_eq!(attribute(span(step), "messaging.message.id").map(|id| id.len()), Some(32), "{step}");
        assert_eq!(
            (&span(step).status, attribute(span(step), "error.type")),
            (&Status::Unset, None),
            "{step}"
        );
    }
}

/// A span tells that what it stands for failed, and how.
#[tokio::test]
async fn failures_are_told_by_their_spans() {
    let (exporter, _recording) = recording();
    let fail = |_context: Context, how: String| async move {
        match how.as_str() {
            "handled" => Err(HandledError::bad_request("on purpose").into()),
            "panic" => panic!("on purpose"),
            _ => Err::<u32, _>(HandlerError::unhandled("on purpose")),
        }
    };
    let bridge = DefaultEventBridge::builder().build().unwrap();
    bridge.serve([Service::new("Work", "1").command("fail", fail)]).await.unwrap();
    for how in ["handled", "unhandled", "panic"] {
        bridge.invoke::<u32>(("Work", "1", "fail"), how).await.unwrap_err();
    }
    bridge.invoke::<u32>(("Work", "1", "nothing"), "").await.unwrap_err();
    assert!(bridge.shutdown(Duration::from_secs(10)).await.is_clean());
    bridge.emit("late", &7).await.unwrap_err();

    let spans = exporter.get_finished_spans().unwrap();
    let told = |operation: &str| {
        let of_it = spans.iter().filter(|span| span.name.starts_with(operation));
        let told = of_it.map(|span| (span.status.clone(), attribute(span, "error.type").unwrap_or_default()));
        told.collect::<Vec<_>>()
    };
    let failed = |error: &str| (Status::error(""), error.to_owned());
    let calls = ["handled_error", "unhandled_error", "unhandled_error", "no_handler"].map(failed);
    assert_eq!(told("invoke"), calls);
    // What its caller is meant to see is no failure of the service.
    assert_eq!(told("process"), [(Status::Unset, String::new()), failed("failure"), failed("failure")]);
    assert_eq!(told("emit"), [failed("shut_down")]);
}

fn recording() -> (InMemorySpanExporter, DefaultGuard) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let recording = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    (exporter, recording)
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    attribute.map(|attribute| attribute.value.to_string())
}
