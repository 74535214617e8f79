//! CloudEvents that come, in both content modes: what is taken is the message that is in there, and comes out of a
//! CloudEvent of its own again.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use bytes::Bytes;
use purista_core::{ErrorKind, Message};
use purista_dapr::fuzzing as dapr;

use super::cloud_event_encode::check_both_modes;
use crate::{Verdict, input};

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let mut fields = input::fields(data);
    let body = Bytes::from(fields.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    if let Some(media_type) = fields.next().and_then(|value| HeaderValue::from_bytes(&value).ok()) {
        headers.insert(CONTENT_TYPE, media_type);
    }
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let name = [b"ce-", &name[..]].concat();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&name), HeaderValue::from_bytes(&value)) {
            headers.append(name, value);
        }
    }
    match dapr::received(&headers, &body) {
        Ok((message, original)) => {
            let again = Message::decode(original.clone()).expect("it was decoded before");
            // What a peer left out is made anew each time.
            assert_eq!(again.message_type(), message.message_type());
            assert_eq!(again.body, message.body);
            assert!(original.len() <= body.len());
            check_both_modes(&message);
            Verdict::Accepted
        }
        Err((_, error)) => {
            assert_eq!(error.kind(), ErrorKind::InvalidMessage);
            Verdict::Refused
        }
    }
}
