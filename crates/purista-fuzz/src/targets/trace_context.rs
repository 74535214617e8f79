//! Trace contexts: what is malformed is no trace, and a child stays in the trace with all that travels with it.

use purista_core::TraceContext;

use crate::{Verdict, input};

/// A child has all fields of its parent; `{}` becomes no longer than this.
const MORE: usize = 16;

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags] = parts[..] else { return false };
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    version == "00"
        && [trace.len(), span.len(), flags.len()] == [32, 16, 2]
        && parts.iter().all(|part| is_hex(part))
        && !zero(trace)
        && !zero(span)
}

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let mut fields = input::texts(data);
    let otp = fields.next().unwrap_or_default();
    let of_otp = check_otp(&otp);
    let [traceparent, tracestate, baggage] = std::array::from_fn(|_| fields.next());
    let is_wanted = traceparent.as_deref().is_some_and(is_traceparent);
    let context = TraceContext::from_fields(traceparent.clone(), tracestate.clone(), baggage.clone());
    assert_eq!(context.is_some(), is_wanted, "{traceparent:?}");
    if let Some(context) = context {
        assert_eq!(context.traceparent(), traceparent);
        assert_eq!((context.tracestate(), context.baggage()), (tracestate, baggage));
        check_otp(context.as_otp());
        return Verdict::Accepted;
    }
    Verdict::accepted(of_otp)
}

/// Returns whether there is a trace in the field of an envelope.
fn check_otp(otp: &str) -> bool {
    let context = TraceContext::from_otp(otp);
    assert_eq!(context.as_otp(), otp);
    let child = context.child();
    let Some(traceparent) = context.traceparent() else {
        assert!(child.is_empty(), "{otp}");
        return false;
    };
    assert!(is_traceparent(&traceparent), "{traceparent}");
    assert!(otp.trim_start().starts_with('{'), "no object: {otp}");
    let parent = child.traceparent().expect("a child stays in the trace");
    assert!(is_traceparent(&parent), "{parent}");
    assert_eq!((&parent[..35], &parent[52..]), (&traceparent[..35], &traceparent[52..]));
    assert_eq!((child.tracestate(), child.baggage()), (context.tracestate(), context.baggage()));
    assert!(child.as_otp().len() <= otp.len() + MORE, "{} of {otp}", child.as_otp());
    true
}
