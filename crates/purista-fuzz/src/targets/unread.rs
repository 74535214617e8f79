//! Commands and responses that cannot be read: whom their error is told, which is a message itself.

use purista_core::{
    Id, Message, ServiceAddress,
    fuzzing::{unread_command, unread_response},
};

use crate::{Verdict, input};

/// The longest name or id that counts as known.
const MAX_NAME: usize = 64;

/// Checks one input: the bytes of a message, and what travelled beside it.
pub fn run(data: &[u8]) -> Verdict {
    let mut fields = data.splitn(2, |byte| *byte == input::SEPARATOR).map(input::expand);
    let bytes = fields.next().unwrap_or_default();
    let beside = fields.next().and_then(|text| String::from_utf8(text).ok());
    let own = ServiceAddress::new("Own", "1", "own");
    let command = unread_command(&bytes, &own, |_| beside.clone(), MAX_NAME);
    let response = unread_response(&bytes);
    if let Some(command) = &command {
        for name in [&command.sender.address.service_name, &command.sender.address.service_target] {
            assert!((1..=MAX_NAME).contains(&name.len()), "{name:?}");
        }
        let answer = command.unavailable(&Id::from("own"));
        assert_eq!(answer.correlation_id, command.correlation_id);
        assert_eq!(Message::decode(answer.encode()).expect("an answer is a message"), answer);
    }
    if let Some(response) = &response {
        assert!(response.message_type().is_response());
        assert_eq!(&Message::decode(response.encode()).expect("it is a message"), response);
    }
    if let Ok(whole) = Message::decode(bytes) {
        says_the_same(&whole, command.as_ref(), response.as_ref());
    }
    Verdict::accepted(command.is_some() || response.is_some())
}

/// Of a message that can be read, the same is told.
fn says_the_same(whole: &Message, command: Option<&Message>, response: Option<&Message>) {
    let is_response = whole.message_type().is_response();
    assert!(response.is_none() || is_response, "{whole:?}");
    // An empty id is told as unknown.
    if let Some(told) = response
        && !whole.sender.instance_id.is_empty()
    {
        assert_eq!((&told.sender, &told.correlation_id), (&whole.sender, &whole.correlation_id));
    }
    let is_command = whole.message_type() == purista_core::MessageType::Command;
    assert!(command.is_none() || is_command, "{whole:?}");
    let fits = |id: &Option<Id>| id.as_ref().is_some_and(|id| (1..=MAX_NAME).contains(&id.len()));
    if let Some(told) = command
        && fits(&whole.correlation_id)
    {
        assert_eq!(told.correlation_id, whole.correlation_id);
    }
}
