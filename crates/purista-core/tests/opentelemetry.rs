//! Spans of handlers join the trace of the messages they handle (`OBS-1`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use opentelemetry::trace::{SpanId, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use purista_core::{Context, EventBridge as _, EventBridgeExt as _, Filter, MessageType, Service};
use purista_default::DefaultEventBridge;
use tokio::sync::Notify;
use tracing::Instrument as _;
use tracing_subscriber::layer::SubscriberExt as _;

#[tokio::test]
async fn one_trace_from_event_over_command_to_response() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _recording = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

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
    let by_destination: HashMap<String, &SpanData> =
        spans.iter().map(|span| (destination(span), span)).collect();
    let span = |name: &str| by_destination[name];
    let parent_of = |name: &str, parent: SpanId| {
        assert_eq!(span(name).parent_span_id, parent, "the parent of {name}");
        assert_eq!(span(name).span_context.trace_id(), span("root").span_context.trace_id(), "{name}");
    };
    parent_of("Work v1 ask", span("root").span_context.span_id());
    parent_of("Work v1 answer", span("Work v1 ask").span_context.span_id());
    parent_of("Work v1 observe", span("Work v1 answer").span_context.span_id());
}

fn destination(span: &SpanData) -> String {
    let attribute =
        span.attributes.iter().find(|attribute| attribute.key.as_str() == "messaging.destination.name");
    attribute.map_or_else(|| span.name.to_string(), |attribute| attribute.value.to_string())
}
