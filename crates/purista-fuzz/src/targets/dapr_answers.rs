//! What a sidecar and the apps behind it answer: to commands, to what it is asked of itself, and when it fails.

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;
use purista_core::{CommandDraft, Id, MAX_TIMEOUT, Message, MessageType, ServiceAddress};
use purista_dapr::fuzzing as dapr;

use crate::{Verdict, input};

/// How much is logged of what a sidecar says.
const MAX_ERROR: usize = 3_000;

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let mut fields = input::fields(data);
    let [body, status, time_limit] = std::array::from_fn(|_| fields.next().unwrap_or_default());
    let status = std::str::from_utf8(&status).ok().and_then(|status| status.parse().ok());
    let status = StatusCode::from_u16(status.unwrap_or(200)).unwrap_or(StatusCode::OK);
    let mut headers = HeaderMap::new();
    if let Ok(time_limit) = HeaderValue::from_bytes(&time_limit) {
        headers.insert("purista-time-limit", time_limit);
    }
    let limit = dapr::time_limit(&headers);
    // The clock goes on.
    assert!(limit.is_none_or(|limit| limit <= MAX_TIMEOUT * 2), "{limit:?}");

    let command =
        CommandDraft::new(ServiceAddress::client(), ("User", "1", "signUp")).stamp(&Id::from("web"));
    let failed = dapr::failed(&command, status).expect("a status has an answer");
    assert_eq!(failed.error_payload().expect("it is an error").status.as_u16(), status.as_u16());
    let error = dapr::sidecar_error(&body, status);
    assert!(error.to_string().len() <= MAX_ERROR, "{} bytes", error.to_string().len());
    let metadata = dapr::metadata(&body);
    let is_answer = dapr::answer(&command, status, Bytes::from(body.clone()))
        .is_ok_and(|answer| check_answer(&command, &body, status, &answer));
    Verdict::accepted(is_answer || metadata.is_some())
}

/// The bare result of a service comes as it is, in the name of whoever was asked.
fn check_answer(command: &Message, body: &[u8], status: StatusCode, answer: &Message) -> bool {
    let is_text = body.first() == Some(&b'"');
    let inner = serde_json::from_slice::<String>(body);
    let is_bare = is_text && !inner.is_ok_and(|inner| Message::decode(inner.into_bytes()).is_ok());
    if is_bare && status != StatusCode::NO_CONTENT {
        assert_eq!(answer.message_type(), MessageType::CommandSuccessResponse);
        let trimmed = body.trim_ascii_end();
        assert_eq!(answer.payload().map(|payload| payload.as_str().as_bytes()), Some(trimmed));
        assert_eq!((&answer.correlation_id, &answer.id), (&command.correlation_id, &command.id));
    }
    true
}
