//! From what the sidecar answers to the errors of the bridge.

use axum::http::StatusCode;
use purista_core::{Error, ErrorKind};
use serde::Deserialize;

use crate::transport::NAME;

/// What a resolver of names says of an app that it does not know: SQLite, mDNS, Consul, DNS.
const UNKNOWN_APP: [&str; 4] =
    ["no host found", "couldn't find service", "no healthy services found", "no such host"];

/// What a sidecar calls it that it has no such component for events.
const NO_COMPONENT: [&str; 2] = ["ERR_PUBSUB_NOT_FOUND", "ERR_PUBSUB_NOT_CONFIGURED"];

/// How much is told of what a sidecar says, in characters.
const MAX_REASON: usize = 300;

/// Creates an error of this bridge.
pub(crate) fn error(kind: ErrorKind, operation: &'static str) -> Error {
    Error::new(kind, operation).bridge(NAME)
}

/// Says that the connection over which something was sent is lost.
pub(crate) fn lost(operation: &'static str) -> Error {
    error(ErrorKind::Unavailable, operation).context("the connection was lost")
}

/// What the sidecar says when it fails itself.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SidecarError {
    /// Its name for the failure. Apps have none.
    pub(crate) error_code: Option<String>,
    message: String,
}

impl SidecarError {
    pub(crate) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// Translates why the sidecar could not do what was asked for.
    pub(crate) fn into_error(self, status: StatusCode, operation: &'static str) -> Error {
        let is_named = |text: &&str| self.message.contains(*text);
        let kind = match status {
            _ if self.error_code.as_deref().is_some_and(|code| NO_COMPONENT.contains(&code)) => {
                ErrorKind::InvalidConfig
            }
            StatusCode::UNAUTHORIZED => ErrorKind::Unauthenticated,
            StatusCode::FORBIDDEN => ErrorKind::Forbidden,
            StatusCode::TOO_MANY_REQUESTS => ErrorKind::Backpressure,
            _ if operation == "invoke" && UNKNOWN_APP.iter().any(is_named) => ErrorKind::NoHandler,
            _ if status.is_server_error() => ErrorKind::Unavailable,
            _ => ErrorKind::Unexpected,
        };
        let code = self.error_code.as_deref().unwrap_or("no error code");
        let says: String = self.message.chars().take(MAX_REASON).collect();
        error(kind, operation).context(format!("the sidecar answers {status}, {code}: {says}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_no_resolver_knows_has_no_handler() {
        let body = br#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: a, err: no host found with the given ID"}"#;
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        assert_eq!(SidecarError::read(body).into_error(status, "invoke").kind(), ErrorKind::NoHandler);
        assert_eq!(SidecarError::read(body).into_error(status, "emit").kind(), ErrorKind::Unavailable);
        let forbidden = SidecarError::read(b"no JSON").into_error(StatusCode::FORBIDDEN, "emit");
        assert_eq!(forbidden.kind(), ErrorKind::Forbidden);
    }
}
