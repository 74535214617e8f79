//! The generic texts of status codes.

use purista_core::{ErrorPayload, Message, MessageType, StatusCode};

use super::samples;

#[test]
fn reasons_are_those_of_the_wire() {
    let reasons = [
        (100, "Info Continue"),
        (200, "OK"),
        (203, "Non Authoritative Info"),
        (229, "IM Used"),
        (307, "Redirect Temp"),
        (400, "Bad Request"),
        (404, "Not Found"),
        (407, "Proxy Auth Required"),
        (413, "Payload Too Large"),
        (418, "Im A Teapot"),
        (429, "Too Many Requests"),
        (440, "Login Time Out"),
        (499, "Token Required"),
        (500, "Internal Server Error"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
        (504, "Gateway Timeout"),
        (511, "Network Auth Required"),
        (0, "Unknown Error"),
        (226, "Unknown Error"),
        (599, "Unknown Error"),
        (u16::MAX, "Unknown Error"),
    ];
    for (code, reason) in reasons {
        assert_eq!(StatusCode::new(code).reason(), reason, "{code}");
        assert_eq!(StatusCode::new(code).to_string(), format!("{code} {reason}"));
    }
}

#[test]
fn unhandled_samples_tell_the_reason_and_nothing_else() {
    let errors = samples::all().map(|sample| Message::decode(sample).unwrap()).filter(|message| {
        message.message_type() == MessageType::CommandErrorResponse && message.payload().is_some()
    });
    let errors: Vec<(bool, ErrorPayload)> = errors
        .map(|message| {
            let handled = String::from_utf8_lossy(&message.encode()).contains(r#""isHandledError":true"#);
            (handled, message.error_payload().unwrap())
        })
        .collect();
    assert_eq!(errors.iter().filter(|(handled, _)| *handled).count(), 4);
    for (_, error) in errors.iter().filter(|(handled, _)| !handled) {
        assert_eq!(error.message, error.status.reason());
        assert_eq!(error.data, None);
    }
}
