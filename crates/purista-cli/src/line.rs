//! A message on one line.

use std::fmt::Write as _;

use purista::{Message, Payload};

use crate::output::{on_one_line, visible};

/// The whole envelope, as JSON.
pub(crate) fn whole(message: &Message) -> String {
    let json = message.encode();
    // Strings hold no ends of lines; between the tokens of a payload from elsewhere there may be some.
    String::from_utf8_lossy(&json).replace(['\n', '\r'], " ")
}

/// What people look at: time, type, event, sender and receiver, whose it is, and the payload.
pub(crate) fn short(message: &Message) -> String {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut line = format!(
        "{} {} {} {} > {}",
        time_of_day(message.timestamp),
        message.message_type(),
        or_none(message.event_name.as_ref().map(ToString::to_string)),
        message.sender.address,
        or_none(message.receiver.as_ref().map(|receiver| receiver.address.to_string())),
    );
    for (what, value) in [("tenant", &message.tenant_id), ("principal", &message.principal_id)] {
        if let Some(value) = value {
            let _always = write!(line, " {what} {value}");
        }
    }
    let mut line = visible(&line);
    line.push(' ');
    line.push_str(&on_one_line(message.payload().map_or("-", Payload::as_str)));
    line
}

/// In UTC.
fn time_of_day(milliseconds: u64) -> String {
    let (seconds, rest) = (milliseconds / 1_000, milliseconds % 1_000);
    let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{rest:03}Z", seconds % 60)
}

#[cfg(test)]
mod tests {
    use purista::{EventDraft, Id};

    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        let payload = Payload::from_json_text("{\n\"a\":\r\n1.10}").unwrap();
        let draft = EventDraft::event(("A\n", "1", "\u{1b}[2J"), "happened").with_payload(payload);
        let mut message = draft.with_tenant_id("acme").stamp(&Id::from("i"));
        message.timestamp = 86_399_999;
        let short = short(&message);
        let expected =
            "23:59:59.999Z customMessage happened A\\u{a} v1 \\u{1b}[2J > - tenant acme { \"a\":  1.10}";
        assert_eq!(short, expected);
        let whole = whole(&message);
        assert!(!whole.contains(['\n', '\r']) && whole.contains("1.10"), "{whole}");
        assert_eq!(Message::decode(whole.into_bytes()).unwrap().event_name.unwrap(), "happened");
    }
}
