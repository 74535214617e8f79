//! Spans by OpenTelemetry's conventions for messaging: what is sent, and what is handled.

use std::time::Instant;

use tracing::{Span, field::Empty};

use super::{Engine, Transport, dispatch::Work};
use crate::{
    durations::{Operation, Operations},
    message::Message,
};

/// The `error.type` of what nobody waited for any more.
const CANCELLED: &str = "cancelled";

/// An operation of a caller while it runs; one that is dropped before its end was cancelled.
pub(super) struct Sending<'a> {
    pub(super) span: Span,
    operation: Operation,
    began: Option<Instant>,
    operations: &'a Operations,
    error: Option<&'static str>,
}

impl<T: Transport> Engine<T> {
    /// Begins an operation on an event, or on a command.
    pub(super) fn sending(&self, operation: Operation, destination: &dyn std::fmt::Display) -> Sending<'_> {
        let span = match operation {
            Operation::Emit => tracing::info_span!(
                "emit",
                otel.name = format!("emit {destination}"),
                otel.kind = "producer",
                otel.status_code = Empty,
                error.type = Empty,
                messaging.system = T::NAME,
                messaging.operation.name = "emit",
                messaging.operation.type = "send",
                messaging.destination.name = %destination,
                messaging.message.id = Empty,
            ),
            Operation::Invoke => tracing::info_span!(
                "invoke",
                otel.name = format!("invoke {destination}"),
                otel.kind = "client",
                otel.status_code = Empty,
                error.type = Empty,
                messaging.system = T::NAME,
                messaging.operation.name = "invoke",
                messaging.operation.type = "send",
                messaging.destination.name = %destination,
                messaging.message.id = Empty,
            ),
        };
        let operations = &self.shared.operations;
        Sending { span, operation, began: operations.begin(), operations, error: Some(CANCELLED) }
    }
}

impl Sending<'_> {
    /// Notes which message it became.
    pub(super) fn is(&self, message: &Message) {
        self.span.record("messaging.message.id", message.id.as_str());
    }

    /// Notes how it ended.
    pub(super) fn ended(mut self, error: Option<&'static str>) {
        self.error = error;
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.operations.record(self.operation, self.began, self.error);
        if let Some(error) = self.error {
            failed(&self.span, error);
        }
    }
}

impl<T: Transport> Work<T> {
    /// The span of one attempt.
    pub(super) fn span(&self, message: &Message) -> Span {
        let span = tracing::info_span!(
            "process",
            otel.name = format!("process {}", self.registered.address),
            otel.kind = "consumer",
            otel.status_code = Empty,
            error.type = Empty,
            messaging.system = T::NAME,
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.destination.name = %self.registered.address,
            messaging.message.id = %message.id,
        );
        message.trace_context.adopt(&span);
        span
    }
}

/// Notes on a span why what it stands for failed.
pub(super) fn failed(span: &Span, error: &'static str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", error);
}
