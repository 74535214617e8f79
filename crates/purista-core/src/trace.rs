//! The distributed trace that a message belongs to.

#[cfg(feature = "opentelemetry")]
mod opentelemetry;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::message::Name;

/// W3C trace context of a message, as the envelope's `otp` field carries it.
///
/// `otp` is a JSON object of propagation fields, encoded as a string; `{}` where there is no trace. A child context
/// stays in the trace and gets a span id of its own.
///
/// ```
/// use purista_core::TraceContext;
///
/// let root = TraceContext::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
///     .expect("a valid traceparent");
/// let child = root.child().traceparent().expect("still in the trace");
/// assert!(child.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
/// assert_ne!(child, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceContext(Name);

/// The propagation fields, see the W3C recommendations Trace Context and Baggage.
#[derive(Serialize, Deserialize)]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baggage: Option<String>,
}

impl TraceContext {
    /// No trace.
    pub const EMPTY: Self = Self(Name::from_static("{}"));

    /// Takes over the text of an `otp` field; what is no trace context counts as none when it is read.
    #[must_use]
    pub fn from_otp(otp: impl Into<Name>) -> Self {
        Self(otp.into())
    }

    /// Creates the context that a `traceparent` header names; `None` if it is malformed.
    #[must_use]
    pub fn from_traceparent(traceparent: &str) -> Option<Self> {
        Self::from_fields(Some(traceparent.to_owned()), None, None)
    }

    /// Creates a context from the headers `traceparent`, `tracestate` and `baggage`; `None` without a well-formed
    /// `traceparent`.
    #[must_use]
    pub fn from_fields(
        traceparent: Option<String>,
        tracestate: Option<String>,
        baggage: Option<String>,
    ) -> Option<Self> {
        let traceparent = traceparent.filter(|text| split_traceparent(text).is_some())?;
        Some(Self::encode(&Fields { traceparent: Some(traceparent), tracestate, baggage }))
    }

    fn encode(fields: &Fields) -> Self {
        serde_json::to_string(fields).map_or(Self::EMPTY, |otp| Self(otp.into()))
    }

    fn fields(&self) -> Option<Fields> {
        // A derived type takes an array of its fields' values as well.
        let is_object = !self.is_empty() && self.0.trim_start().starts_with('{');
        if is_object { serde_json::from_str(&self.0).ok() } else { None }
    }

    /// Returns whether there is no trace.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == "{}"
    }

    /// Returns the text of the `otp` field.
    #[must_use]
    pub fn as_otp(&self) -> &str {
        &self.0
    }

    /// Returns the `traceparent`, if there is a well-formed one.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        self.fields()?.traceparent.filter(|text| split_traceparent(text).is_some())
    }

    /// Returns the `tracestate`.
    #[must_use]
    pub fn tracestate(&self) -> Option<String> {
        self.fields()?.tracestate
    }

    /// Returns the `baggage`.
    #[must_use]
    pub fn baggage(&self) -> Option<String> {
        self.fields()?.baggage
    }

    /// Returns the context for a message that this one caused; no trace stays no trace.
    #[must_use]
    pub fn child(&self) -> Self {
        let Some(mut fields) = self.fields() else { return Self::EMPTY };
        let Some((head, flags)) = fields.traceparent.as_deref().and_then(split_traceparent) else {
            return Self::EMPTY;
        };
        // The low bit keeps it from being zero, which the recommendation calls invalid.
        let span_id = rand::random::<u64>() | 1;
        fields.traceparent = Some(format!("{head}-{span_id:016x}-{flags}"));
        Self::encode(&fields)
    }
}

/// How contexts and spans meet. Without the feature `opentelemetry`, contexts travel and spans do not know of them.
#[cfg(not(feature = "opentelemetry"))]
impl TraceContext {
    /// Returns the context for a message that this one's handler sends.
    pub(crate) fn next(&self) -> Self {
        self.child()
    }

    /// Returns the context for a message that nothing caused.
    pub(crate) const fn or_current(self) -> Self {
        self
    }

    /// Returns the context for a message that a span sends.
    pub(crate) const fn sent_in(self, _span: &tracing::Span) -> Self {
        self
    }

    /// Makes a span part of the trace.
    pub(crate) const fn adopt(&self, _span: &tracing::Span) {}
}

/// Splits `00-<trace id>-<span id>-<flags>` into what a child keeps: version with trace id, and flags.
fn split_traceparent(text: &str) -> Option<(&str, &str)> {
    let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let (version, trace, span, flags) =
        (text.get(..2)?, text.get(3..35)?, text.get(36..52)?, text.get(53..55)?);
    let dashes = [2, 35, 52].iter().all(|at| text.as_bytes()[*at] == b'-');
    let valid = text.len() == 55
        && dashes
        && version == "00"
        && [trace, span, flags].into_iter().all(hex)
        && !zero(trace)
        && !zero(span);
    valid.then_some((&text[..35], flags))
}

impl Default for TraceContext {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_contexts_are_no_trace() {
        for otp in ["", "null", "{\"traceparent\":7}", "{\"traceparent\":\"00-xyz\"}", "[", "ä{}"] {
            let context = TraceContext::from_otp(otp);
            assert_eq!(context.traceparent(), None, "{otp}");
            assert!(context.child().is_empty(), "{otp}");
            assert_eq!(context.as_otp(), otp);
        }
        let array = r#"["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",null,null]"#;
        assert_eq!(TraceContext::from_otp(array).traceparent(), None);
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        assert_eq!(TraceContext::from_traceparent(zero_trace), None);
    }

    #[test]
    fn a_child_keeps_state_and_baggage() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let context =
            TraceContext::from_fields(Some(parent.into()), Some("a=1".into()), Some("b=2".into())).unwrap();
        let child = context.child();
        assert_eq!((child.tracestate(), child.baggage()), (Some("a=1".into()), Some("b=2".into())));
        assert!(child.traceparent().unwrap().ends_with("-00"));
    }
}
