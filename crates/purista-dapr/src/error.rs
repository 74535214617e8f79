//! From what the sidecar answers to the errors of the bridge.

use axum::http::StatusCode;
use purista_core::{Error, ErrorKind};
use serde::Deserialize;

use crate::transport::NAME;

/// How much is told of what a sidecar says, in characters.
const MAX_REASON: usize = 300;

/// What sidecars say of an API that their configuration forbids: with the invocation API, and without it.
const NO_API: [&str; 2] = ["failed getting app id", "404 page not found"];

/// What is said of a message that is too large: by sidecars, by gRPC, and by the brokers behind components.
const TOO_LARGE: [&str; 20] = [
    "stream too large",
    "body too large",
    "body size exceeds",
    "entity too large",
    "message larger than",
    "larger than configured max",
    "maximum payload exceeded",
    "message size exceeds",
    "message size exceeded",
    "message-size-exceeded",
    "message was too large",
    "message is too large",
    "message too large",
    "message too long",
    "message too big",
    "messagetoobig",
    "must be shorter than",
    "request_size is too large",
    "packet too large",
    "invalid bulk length",
];

/// What brokers behind components say of credentials that may not publish.
const NOT_ALLOWED: [&str; 8] = [
    "access_refused",
    "accessdenied",
    "authorizationerror",
    "permissions violation",
    "permissiondenied",
    "not authorized",
    "noperm",
    "unauthorized-access",
];

/// What a resolver of names says of an app that it does not know (SQLite, mDNS, Consul, DNS), and what is said of a sidecar
/// without an app.
const NO_APP: [&str; 5] = [
    "no host found",
    "couldn't find service",
    "no healthy services found",
    "no such host",
    "app channel is not initialized",
];

/// What is said of work that was not done in time, or is too much.
const NOT_IN_TIME: [&str; 3] = ["deadline exceeded", "deadlineexceeded", "timeout exceeded"];
const TOO_MUCH: [&str; 2] = ["resourceexhausted", "too many requests"];

/// Creates an error of this bridge.
pub(crate) fn error(kind: ErrorKind, operation: &'static str) -> Error {
    Error::new(kind, operation).with_bridge(NAME)
}

/// What a sidecar or an app says when it fails.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    /// The sidecar's name for the failure. Apps have none.
    code: Option<String>,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    error_code: Option<String>,
    message: String,
}

impl Refusal {
    pub(crate) fn read(status: StatusCode, body: &[u8]) -> Self {
        // Middleware and proxies of the sidecar answer with text.
        let text = || Body { error_code: None, message: String::from_utf8_lossy(body).trim().to_owned() };
        let Body { error_code, message } = serde_json::from_slice(body).unwrap_or_else(|_| text());
        Self { status, code: error_code.filter(|code| code.starts_with("ERR")), message }
    }

    /// Returns whether the sidecar failed itself, as opposed to the app that it called.
    pub(crate) fn is_of_sidecar(&self) -> bool {
        self.code.is_some() || self.is_of_authentication()
    }

    /// Returns whether the sidecar missed its token.
    fn is_of_authentication(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED && self.message == "invalid api token"
    }

    /// Returns whether the sidecar has no such API, or its configuration forbids it.
    pub(crate) fn is_of_api(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.says(&NO_API)
    }

    /// Returns whether the sidecar cannot find other apps, nor its own.
    pub(crate) fn is_of_resolver(&self) -> bool {
        self.says(&["name resolver not initialized"])
    }

    /// Translates why the sidecar did not take something of so many bytes; `max` is the most that we would have sent.
    pub(crate) fn into_error(self, operation: &'static str, size: usize, max: usize) -> Error {
        let kind = match self.kind(operation) {
            ErrorKind::PayloadTooLarge { .. } => ErrorKind::payload_too_large(size, self.limit(size, max)),
            kind => kind,
        };
        let code = self.code.as_deref().unwrap_or("no error code").chars().take(MAX_REASON);
        let (code, says): (String, String) =
            (code.collect(), self.message.chars().take(MAX_REASON).collect());
        let hint = self.hint(operation).map(|hint| format!("; {hint}")).unwrap_or_default();
        error(kind, operation)
            .with_context(format!("the sidecar answers {}, {code}: {says}{hint}", self.status))
    }

    fn kind(&self, operation: &'static str) -> ErrorKind {
        if self.is_too_large() {
            return ErrorKind::payload_too_large(0, 0);
        }
        if self.is_of_api() {
            return ErrorKind::Forbidden;
        }
        match self.code.as_deref() {
            // There is no such component, or it has no name.
            Some(
                "ERR_PUBSUB_NOT_FOUND"
                | "ERR_PUBSUB_NOT_CONFIGURED"
                | "ERR_PUBSUB_EMPTY"
                | "ERR_TOPIC_NAME_EMPTY"
                | "ERR_APP_CHANNEL_NIL"
                | "ERR_API_UNIMPLEMENTED",
            ) => ErrorKind::InvalidConfig,
            Some("ERR_PUBSUB_FORBIDDEN") => ErrorKind::Forbidden,
            Some(
                "ERR_PUBSUB_REQUEST_METADATA"
                | "ERR_PUBSUB_CLOUD_EVENTS_SER"
                | "ERR_PUBSUB_EVENTS_SER"
                | "ERR_MALFORMED_REQUEST"
                | "ERR_MALFORMED_REQUEST_DATA"
                | "ERR_BAD_REQUEST",
            ) => ErrorKind::InvalidMessage,
            // It broke off.
            Some("ERR_BODY_READ") => ErrorKind::Unavailable,
            Some("ERR_DIRECT_INVOKE") => self.kind_of_call(operation),
            Some("ERR_PUBSUB_PUBLISH_MESSAGE") if self.says(&NOT_ALLOWED) => ErrorKind::Forbidden,
            Some("ERR_PUBSUB_PUBLISH_MESSAGE") if self.says(&NOT_IN_TIME) => ErrorKind::Timeout,
            Some("ERR_PUBSUB_PUBLISH_MESSAGE") if self.says(&TOO_MUCH) => ErrorKind::Backpressure,
            _ => self.kind_of_status(),
        }
    }

    fn kind_of_call(&self, operation: &'static str) -> ErrorKind {
        match self.status {
            StatusCode::FORBIDDEN => ErrorKind::Forbidden,
            _ if self.is_of_resolver() => ErrorKind::InvalidConfig,
            _ if self.says(&["invalid app id", "app id is empty"]) => ErrorKind::InvalidConfig,
            _ if self.says(&["invalid method"]) => ErrorKind::InvalidMessage,
            // The sidecar of this bridge has no app.
            _ if self.says(&["cannot invoke local endpoint"]) => ErrorKind::NoHandler,
            _ if operation == "invoke" && self.says(&NO_APP) => ErrorKind::NoHandler,
            _ if self.says(&NOT_IN_TIME) => ErrorKind::Timeout,
            _ if self.says(&TOO_MUCH) => ErrorKind::Backpressure,
            _ => self.kind_of_status(),
        }
    }

    fn kind_of_status(&self) -> ErrorKind {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                ErrorKind::Unauthenticated
            }
            StatusCode::FORBIDDEN => ErrorKind::Forbidden,
            StatusCode::TOO_MANY_REQUESTS => ErrorKind::Backpressure,
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => ErrorKind::Timeout,
            StatusCode::BAD_REQUEST | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                ErrorKind::InvalidMessage
            }
            StatusCode::NOT_IMPLEMENTED => ErrorKind::InvalidConfig,
            status if status.is_server_error() => ErrorKind::Unavailable,
            _ => ErrorKind::Unexpected,
        }
    }

    fn is_too_large(&self) -> bool {
        self.status == StatusCode::PAYLOAD_TOO_LARGE || (self.code.is_some() && self.says(&TOO_LARGE))
    }

    /// Returns the limit that was exceeded, if somebody tells; otherwise all that is known: it is below the size.
    fn limit(&self, size: usize, max: usize) -> usize {
        let told = self.message.split_once("larger than").and_then(|(_, told)| {
            told.split(|character: char| !character.is_ascii_digit()).rev().find_map(|part| part.parse().ok())
        });
        told.filter(|limit| *limit < size).unwrap_or_else(|| max.min(size.saturating_sub(1)))
    }

    /// Names the setting that is in the way.
    fn hint(&self, operation: &'static str) -> Option<String> {
        let api = if operation == "start" { "metadata" } else { operation_api(operation) };
        if self.is_of_api() {
            return Some(format!(
                "spec.api.allowed or spec.api.denied of its configuration keeps the API {api} from us, or it is too old"
            ));
        }
        let hint = match self.code.as_deref() {
            _ if self.is_of_authentication() => "its DAPR_API_TOKEN is not the api_token of this bridge",
            Some(_) if self.says(&["stream too large"]) => "its limit is --max-body-size",
            Some("ERR_PUBSUB_FORBIDDEN") => {
                "publishingScopes, allowedTopics or protectedTopics of its component forbid the topic"
            }
            Some("ERR_DIRECT_INVOKE") if self.is_of_resolver() => {
                "spec.nameResolution of its configuration is missing or failed, see its log"
            }
            Some("ERR_DIRECT_INVOKE") if self.status == StatusCode::FORBIDDEN => {
                "spec.accessControl of the configuration of the other sidecar forbids the call"
            }
            _ if self.status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                "its limit is --read-buffer-size"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// Returns whether the message has one of these in it, whatever its case.
    fn says(&self, parts: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        parts.iter().any(|part| message.contains(part))
    }
}

/// Returns what the sidecar's configuration calls the API of an operation.
fn operation_api(operation: &str) -> &'static str {
    if operation == "invoke" { "invoke" } else { "publish" }
}

#[cfg(test)]
mod failures;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        Refusal::read(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let says = |operation, status, body| refusal(status, body).into_error(operation, 1, 1).to_string();
        let resolver = r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"name resolver not initialized"}"#;
        for (said, named) in [
            (says("invoke", 500, resolver), "spec.nameResolution"),
            (says("emit", 404, "404 page not found\n"), "spec.api.allowed"),
            (says("start", 401, "invalid api token\n"), "DAPR_API_TOKEN"),
            (says("emit", 403, r#"{"errorCode":"ERR_PUBSUB_FORBIDDEN","message":"no"}"#), "publishingScopes"),
        ] {
            assert!(said.contains(named), "{said}");
        }
    }

    #[test]
    fn an_app_is_not_taken_for_its_sidecar() {
        let is_of_sidecar = |status, body| refusal(status, body).is_of_sidecar();
        assert!(!is_of_sidecar(401, r#"{"status":401,"message":"Unauthorized"}"#));
        assert!(!is_of_sidecar(500, r#"{"errorCode":"MINE","message":"stream too large"}"#));
        assert!(is_of_sidecar(401, "invalid api token\n"));
        assert!(is_of_sidecar(500, r#"{"errorCode":"ERR_DIRECT_INVOKE","message":""}"#));
    }

    #[test]
    fn what_is_told_of_an_answer_is_bounded() {
        let long = format!(r#"{{"errorCode":"ERR_{0}","message":"{0}"}}"#, "x".repeat(10_000));
        for body in [&*long, &long[1..]] {
            let said = refusal(500, body).into_error("emit", 1, 1).to_string();
            assert!(said.len() < 1_000, "{} bytes", said.len());
        }
    }

    #[test]
    fn a_limit_is_told_or_at_least_not_wrong() {
        let limit = |size, says: &str| refusal(500, says).limit(size, 2_000);
        assert_eq!(limit(3_000, "larger than configured max size 1024"), 1_024);
        assert_eq!(limit(3_000, "received message larger than max (3000 vs. 1024)"), 1_024);
        assert_eq!(limit(3_000, "topic-77: stream too large"), 2_000);
        assert_eq!(limit(1_500, "stream too large"), 1_499);
        assert_eq!(limit(0, "larger than 7"), 0);
    }
}
