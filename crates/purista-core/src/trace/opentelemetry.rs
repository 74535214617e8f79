//! Trace contexts from and for spans that OpenTelemetry records.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::TraceContext;

impl TraceContext {
    /// Returns the context for a message that this one's handler sends: that of the current span, with the baggage
    /// of this message.
    pub(crate) fn next(&self) -> Self {
        current(self.baggage()).unwrap_or_else(|| self.child())
    }

    /// Returns the context for a message that nothing caused: that of the current span.
    pub(crate) fn or_current(self) -> Self {
        if self.is_empty() { current(None).unwrap_or(self) } else { self }
    }

    /// Returns the context for a message that a span sends: that of the span, which becomes a part of this trace.
    pub(crate) fn sent_in(self, span: &Span) -> Self {
        if span.is_disabled() {
            return self;
        }
        self.adopt(span);
        of(span, self.baggage()).unwrap_or(self)
    }

    /// Makes a span a child of the one that sent the message.
    pub(crate) fn adopt(&self, span: &Span) {
        if let Some(remote) = if span.is_disabled() { None } else { self.span_context() } {
            // It fails where OpenTelemetry does not record this span, which then needs no parent.
            let _not_recorded =
                span.set_parent(opentelemetry::Context::new().with_remote_span_context(remote));
        }
    }

    fn span_context(&self) -> Option<SpanContext> {
        let traceparent = self.traceparent()?;
        let mut parts = traceparent.split('-').skip(1);
        let trace_id = TraceId::from_hex(parts.next()?).ok()?;
        let span_id = SpanId::from_hex(parts.next()?).ok()?;
        let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?);
        let state = self.tracestate().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
        Some(SpanContext::new(trace_id, span_id, flags, true, state))
    }
}

fn current(baggage: Option<String>) -> Option<TraceContext> {
    of(&Span::current(), baggage)
}

fn of(span: &Span, baggage: Option<String>) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return None;
    }
    let flags = span.trace_flags().to_u8();
    let traceparent = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
    let state = Some(span.trace_state().header()).filter(|state| !state.is_empty());
    TraceContext::from_fields(Some(traceparent), state, baggage)
}
