//! Commands and their answers (wire format, section 6).

use axum::http::StatusCode;
use bytes::Bytes;
use purista_core::{Id, Message, Payload, Result, adapter::milliseconds_left};
use tokio::time::Instant;

/// The time that the caller of a command waits, in milliseconds.
pub(crate) const TIME_LIMIT: &str = "purista-time-limit";

/// Tells how long the caller of a command still waits.
pub(crate) fn time_limit(deadline: Instant) -> (&'static str, String) {
    (TIME_LIMIT, milliseconds_left(deadline).to_string())
}

/// Reads an answer to a command. The original encodes its answers twice, and of some sends the bare result.
pub(crate) fn answer(command: &Message, status: StatusCode, body: Bytes) -> Result<Message> {
    if status == StatusCode::NO_CONTENT {
        return bare(command, None);
    }
    if body.first() != Some(&b'"') {
        return Message::decode(body);
    }
    let encoded_twice = serde_json::from_slice::<String>(&body);
    let is_message = encoded_twice.as_ref().is_ok_and(|text| looks_like_answer(command, text));
    match encoded_twice.map(String::into_bytes).map(Message::decode) {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(unreadable)) if is_message => Err(unreadable),
        _ => bare(command, Some(std::str::from_utf8(&body).unwrap_or_default())),
    }
}

/// Returns whether a text is the answer to a command rather than its bare result.
fn looks_like_answer(command: &Message, text: &str) -> bool {
    let names_call = command.correlation_id.as_ref().is_some_and(|id| text.contains(id.as_str()));
    text.starts_with('{') && names_call && text.contains("\"messageType\"")
}

/// Makes the success response of a service that sent its bare result.
fn bare(command: &Message, result: Option<&str>) -> Result<Message> {
    let payload = result.map(Payload::from_json_text).transpose()?;
    respond(command, "commandSuccessResponse", payload.as_ref())
}

/// Makes the error response of an app that answers with a status only.
pub(crate) fn failed(command: &Message, status: StatusCode) -> Result<Message> {
    let code = purista_core::StatusCode::new(status.as_u16());
    let payload = Payload::json(&serde_json::json!({ "status": status.as_u16(), "message": code.reason() }))?;
    respond(command, "commandErrorResponse", Some(&payload))
}

fn respond(command: &Message, kind: &str, payload: Option<&Payload>) -> Result<Message> {
    let (sender, receiver) = (&command.sender, command.receiver.as_ref());
    let address = receiver.map_or(&sender.address, |receiver| &receiver.address);
    let from = (&address.service_name, &address.service_version, &address.service_target);
    let to = &sender.address;
    // Whoever was asked: it does not say who it is.
    let asked = receiver.and_then(|receiver| receiver.instance_id.clone());
    let instance = asked.unwrap_or_else(|| Id::from("unknown"));
    let mut response = serde_json::json!({
        "messageType": kind,
        "id": command.id,
        "correlationId": command.correlation_id,
        // An answer of another tenant is none.
        "tenantId": command.tenant_id,
        "principalId": command.principal_id,
        "traceId": command.trace_id,
        "isHandledError": false,
        "sender": {
            "serviceName": from.0, "serviceVersion": from.1, "serviceTarget": from.2, "instanceId": instance,
        },
        "receiver": {
            "serviceName": to.service_name, "serviceVersion": to.service_version,
            "serviceTarget": to.service_target, "instanceId": sender.instance_id,
        },
    })
    .to_string();
    if let Some(payload) = payload {
        // As it is: read and written anew, a number may lose digits, and half of a surrogate would be refused.
        response.pop();
        response.push_str(",\"payload\":");
        response.push_str(payload.as_str());
        response.push('}');
    }
    Message::decode(response.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{HeaderMap, HeaderName};
    use purista_core::{CommandDraft, Receiver, ServiceAddress};

    use super::*;
    use crate::app_channel::deadline;

    #[tokio::test(start_paused = true)]
    async fn time_limits_are_rounded_up_and_never_to_nothing() {
        for (limit, milliseconds) in
            [(0, 1), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (499_001, 500), (30_000_000, 30_000)]
        {
            let (name, value) = time_limit(Instant::now() + Duration::from_micros(limit));
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())]);
            let left = deadline(&headers).unwrap() - Instant::now();
            assert_eq!(left, Duration::from_millis(milliseconds), "{limit} us");
        }
        assert_eq!(deadline(&HeaderMap::new()), None);
    }

    #[test]
    fn answers_of_the_original_are_understood() {
        let command = CommandDraft::new(ServiceAddress::client(), ("User", "1", "echo"))
            .with_tenant_id("acme-1")
            .stamp(&Id::from("i"));
        let once =
            respond(&command, "commandSuccessResponse", Some(&Payload::json(&7).unwrap())).unwrap().encode();
        let twice = serde_json::to_vec(std::str::from_utf8(&once).unwrap()).unwrap();
        let read = |status, body: &[u8]| answer(&command, status, Bytes::copy_from_slice(body)).unwrap();
        for body in [&once[..], &twice] {
            assert_eq!(read(StatusCode::OK, body).payload().unwrap().as_str(), "7");
        }
        let exact = Payload::from_json_text("[1.10, 98765432109876543210987, 1e400]").unwrap();
        let bare = respond(&command, "commandSuccessResponse", Some(&exact)).unwrap();
        assert_eq!(bare.payload(), Some(&exact), "a number changed");
        let odd = read(StatusCode::OK, b"\"\\u0041\\ud800\" ");
        assert_eq!(odd.payload().unwrap().as_str(), "\"\\u0041\\ud800\"");
        assert!(answer(&command, StatusCode::OK, Bytes::from_static(b"\"open")).is_err());
        // It was a message before somebody broke it.
        let broken = std::str::from_utf8(&once).unwrap().replace("\"sender\"", "\"sent\"");
        let broken = serde_json::to_vec(&broken).unwrap();
        assert!(answer(&command, StatusCode::OK, broken.into()).is_err());
        let text = read(StatusCode::OK, b"\"just a string\"");
        assert_eq!(text.payload().unwrap().as_str(), "\"just a string\"");
        assert_eq!(
            (text.correlation_id, text.tenant_id),
            (command.correlation_id.clone(), command.tenant_id.clone())
        );
        assert_eq!(read(StatusCode::NO_CONTENT, b"").payload(), None);
        assert!(answer(&command, StatusCode::OK, Bytes::from_static(b"{}")).is_err());
        assert_eq!(text.sender.instance_id.to_string(), "unknown");
        let to_one = Receiver::from(("User", "1", "echo")).with_instance_id("one");
        let to_one = CommandDraft::new(ServiceAddress::client(), to_one).stamp(&Id::from("i"));
        let bare = answer(&to_one, StatusCode::NO_CONTENT, Bytes::new()).unwrap();
        assert_eq!(bare.sender.instance_id, Id::from("one"));
        let error = failed(&command, StatusCode::BAD_REQUEST).unwrap().error_payload().unwrap();
        assert_eq!(
            (error.status, error.message.as_str()),
            (purista_core::StatusCode::BAD_REQUEST, "Bad Request")
        );
    }
}
