//! What sidecars answer, by the lists of dapr 1.18.1 (`pkg/messages`, `pkg/api/errors`) and with what its components and
//! resolvers of names put into them.

use ErrorKind::{
    Backpressure, Forbidden, InvalidConfig, InvalidMessage, NoHandler, Timeout, Unauthenticated, Unavailable,
    Unexpected,
};

use super::*;

const SIZE: usize = 3_000_000;
const MAX: usize = 2_000_000;

const LARGE: ErrorKind = ErrorKind::payload_too_large(SIZE, MAX);
const OVER_1_MIB: ErrorKind = ErrorKind::payload_too_large(SIZE, 1_048_576);

type Case = (&'static str, ErrorKind);

/// With the status and the code of each.
const OF_THE_SIDECAR: &[(u16, &str, &str, ErrorKind)] = &[
    (400, "ERR_PUBSUB_NOT_CONFIGURED", "pubsub pubsub is not configured", InvalidConfig),
    (404, "ERR_PUBSUB_NOT_FOUND", "pubsub pubsub is not found", InvalidConfig),
    (400, "ERR_PUBSUB_NOT_FOUND", "pubsub 'pubsub' not found", InvalidConfig),
    (404, "ERR_PUBSUB_EMPTY", "pubsub name is empty", InvalidConfig),
    (404, "ERR_TOPIC_NAME_EMPTY", "topic is empty in pubsub pubsub", InvalidConfig),
    (403, "ERR_PUBSUB_FORBIDDEN", "topic a is not allowed for app id b", Forbidden),
    (400, "ERR_PUBSUB_REQUEST_METADATA", "failed deserializing metadata", InvalidMessage),
    (500, "ERR_PUBSUB_CLOUD_EVENTS_SER", "cannot create cloudevent", InvalidMessage),
    (400, "ERR_PUBSUB_EVENTS_SER", "error when marshalling cloud event envelope", InvalidMessage),
    (500, "ERR_PUBLISH_OUTBOX", "error while publishing outbox message", Unavailable),
    (400, "ERR_MALFORMED_REQUEST", "failed deserializing HTTP body", InvalidMessage),
    (400, "ERR_MALFORMED_REQUEST_DATA", "can't serialize request data field", InvalidMessage),
    (400, "ERR_BAD_REQUEST", "invalid request", InvalidMessage),
    (400, "ERR_BODY_READ", "failed to read request body: unexpected EOF", Unavailable),
    (400, "ERR_BODY_READ", "failed to read request body: stream too large", LARGE),
    (500, "ERR_APP_CHANNEL_NIL", "app channel is not initialized", InvalidConfig),
    (501, "ERR_API_UNIMPLEMENTED", "this API is currently not implemented", InvalidConfig),
    (500, "ERR_HEALTH_NOT_READY", "dapr is not ready: [app]", Unavailable),
    (500, "ERR_OUTBOUND_HEALTH_NOT_READY", "dapr outbound is not ready", Unavailable),
    (500, "ERR_HEALTH_APPID_NOT_MATCH", "dapr app-id does not match", Unavailable),
    (500, "ERR_INTERNAL", "failed to encode response as JSON", Unavailable),
    (500, "ERR_MALFORMED_RESPONSE", "failed to serialize", Unavailable),
    (500, "ERROR", "anything", Unavailable),
    // APIs that are not allowed, with and without the one for calls.
    (404, "ERR_DIRECT_INVOKE", "failed getting app id either from the URL path or the header", Forbidden),
    (404, "", "404 page not found\n", Forbidden),
    // Middleware, and proxies on the way.
    (401, "", "invalid api token\n", Unauthenticated),
    (413, "", "<html>Request Entity Too Large</html>", LARGE),
    (429, "", "You have reached maximum request limit.", Backpressure),
    (431, "", "Request Header Fields Too Large", InvalidMessage),
    (502, "", "upstream connect error", Unavailable),
    (504, "", "upstream request timeout", Timeout),
    (302, "", "", Unexpected),
];

/// What it says of a publish that its component did not take.
const OF_COMPONENTS: &[Case] = &[
    ("stream too large", LARGE),
    ("unexpected EOF", Unavailable),
    ("circuit breaker is open", Unavailable),
    ("context deadline exceeded", Timeout),
    ("PRECONDITION_FAILED - message size 3000000 is larger than configured max size 1048576", OVER_1_MIB),
    ("nats: maximum payload exceeded", LARGE),
    ("nats: message size exceeds maximum allowed", LARGE),
    ("kafka server: Message was too large, server rejected it to avoid allocation error", LARGE),
    ("message larger than configured Producer.MaxMessageBytes: 3000100 > 1048576", OVER_1_MIB),
    ("*Error{Condition: amqp:link:message-size-exceeded}", LARGE),
    ("InvalidParameter: Invalid parameter: Message too long", LARGE),
    ("Message must be shorter than 262144 bytes", LARGE),
    ("The value for request_size is too large", LARGE),
    ("message size exceeds MaxMessageSize", LARGE),
    ("ERR Protocol error: invalid bulk length", LARGE),
    (
        "code = ResourceExhausted desc = grpc: received message larger than max (3000100 vs. 1048576)",
        OVER_1_MIB,
    ),
    ("code = ResourceExhausted desc = trying to send message larger than max (3 vs. 1048576)", OVER_1_MIB),
    ("rpc error: code = ResourceExhausted desc = quota", Backpressure),
    ("Exception (403) Reason: ACCESS_REFUSED - access to exchange 'a' refused", Forbidden),
    ("nats: permissions violation for publish to a", Forbidden),
    ("kafka server: the client is not authorized to access this topic", Forbidden),
    ("NOPERM this user has no permissions to run the 'xadd' command", Forbidden),
    ("rabbitmq: channel/connection is not open", Unavailable),
    ("nats: no response from stream", Unavailable),
    ("dial tcp 127.0.0.1:6379: connect: connection refused", Unavailable),
];

/// What it says of calls that failed.
const OF_CALLS: &[Case] = &[
    ("no host found with the given ID", NoHandler),
    ("couldn't find service: a", NoHandler),
    ("no healthy services found with AppID 'a'", NoHandler),
    ("lookup a-dapr.default.svc: no such host", NoHandler),
    ("rpc error: code = Internal desc = app channel is not initialized", NoHandler),
    ("cannot invoke local endpoint: app channel not initialized", NoHandler),
    ("name resolver not initialized", InvalidConfig),
    ("invalid app id a.b.c", InvalidConfig),
    ("app id is empty", InvalidConfig),
    ("rpc error: code = InvalidArgument desc = invalid method: a", InvalidMessage),
    ("Post \"http://127.0.0.1:3000/a\": stream too large", LARGE),
    ("code = ResourceExhausted desc = trying to send message larger than max (3 vs. 1048576)", OVER_1_MIB),
    ("invoke API is not ready", Unavailable),
    ("app is not in a healthy state", Unavailable),
    ("error invoking app channel: dial tcp 127.0.0.1:3000: connect: connection refused", Unavailable),
    ("failed to invoke target a after 3 retries. Error: rpc error: code = Unavailable", Unavailable),
    ("circuit breaker is open", Unavailable),
    ("too many requests", Backpressure),
    ("rpc error: code = DeadlineExceeded desc = context deadline exceeded", Timeout),
];

fn found(operation: &'static str, status: u16, code: &str, message: &str) -> ErrorKind {
    let body = serde_json::json!({ "errorCode": code, "message": message }).to_string();
    let body = if code.is_empty() { message.as_bytes() } else { body.as_bytes() };
    Refusal::read(StatusCode::from_u16(status).unwrap(), body).into_error(operation, SIZE, MAX).kind()
}

#[test]
fn every_failure_of_a_sidecar_has_its_kind() {
    for &(status, code, message, kind) in OF_THE_SIDECAR {
        assert_eq!(found("emit", status, code, message), kind, "{status} {code}: {message}");
    }
    for &(message, kind) in OF_COMPONENTS {
        let message = format!("error when publishing to topic a in pubsub b: {message}");
        for operation in ["emit", "respond", "dead letter"] {
            assert_eq!(found(operation, 500, "ERR_PUBSUB_PUBLISH_MESSAGE", &message), kind, "{message}");
        }
    }
    for &(message, kind) in OF_CALLS {
        let message = format!("failed to invoke, id: a, err: {message}");
        assert_eq!(found("invoke", 500, "ERR_DIRECT_INVOKE", &message), kind, "{message}");
    }
    let denied = "rpc error: code = PermissionDenied desc = access control policy has denied access";
    assert_eq!(found("invoke", 403, "ERR_DIRECT_INVOKE", denied), Forbidden);
}

#[test]
fn what_is_too_large_or_forbidden_stays_so() {
    assert!(
        ![LARGE, OVER_1_MIB, Forbidden, InvalidConfig, InvalidMessage]
            .into_iter()
            .any(ErrorKind::is_temporary)
    );
    assert!([Unavailable, Timeout, Backpressure, NoHandler].into_iter().all(ErrorKind::is_temporary));
}
