//! What can be told of a message that cannot be read, so that whoever waits for its sake hears of it.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer as _,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Body, CONTENT_ENCODING, CONTENT_TYPE, Id, Message, MessageType, Name, Receiver, Sender, ServiceAddress,
    now,
};
use crate::trace::TraceContext;

/// What stands for a part of the sender that is not known.
const UNKNOWN: &str = "unknown";

impl Message {
    /// Reads what an unreadable command tells of its caller: enough to answer it. `None` if nobody can wait for it, as it
    /// is something else than a command, or names no call.
    ///
    /// What the bytes do not tell, `known` may: what travelled beside them, by the names `correlationId`, `tenantId`,
    /// `principalId`, `senderInstanceId`, `senderServiceName`, `senderServiceVersion` and `senderServiceTarget`. Names
    /// and ids that are longer than `max_len` count as unknown.
    pub(crate) fn unread_command(
        bytes: &[u8],
        address: &ServiceAddress,
        known: impl Fn(&str) -> Option<String>,
        max_len: usize,
    ) -> Option<Self> {
        let fields = Fields::of_bytes(bytes);
        if fields.text("messageType").is_some_and(|it| it != MessageType::Command.as_str()) {
            return None;
        }
        fields.into_message(known, max_len, address, Body::Command { payload: None, parameter: None })
    }

    /// Reads which call an unreadable response is about, and who sent it.
    pub(crate) fn unread_response(bytes: &[u8]) -> Option<Self> {
        let fields = Fields::of_bytes(bytes);
        let message_type = fields.text("messageType")?;
        MessageType::ALL.iter().find(|it| it.is_response() && it.as_str() == message_type)?;
        // Whom it is from decides whether it counts, so all of that must be there.
        let address = fields.address("sender")?;
        let body = Body::CommandErrorResponse { handled: false, payload: None };
        fields.into_message(|_| None, usize::MAX, &address, body)
    }
}

/// The fields of a JSON object, as far as they can be read.
struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Fields<'static> {
    fn of_bytes(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let fields = Fields::of(&text).0.into_iter();
        Fields(fields.map(|(name, json)| (name.into_owned().into(), json.into_owned().into())).collect())
    }
}

impl<'a> Fields<'a> {
    /// Reads up to where the text is no JSON any more. The values of fields that nobody asks for are not kept.
    fn of(json: &'a str) -> Self {
        let mut fields = Vec::new();
        let mut deserializer = serde_json::Deserializer::from_str(json);
        // What was read before it failed is in there.
        let _cut = deserializer.deserialize_map(Collect(&mut fields));
        Fields(fields)
    }

    fn raw(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, json)| &**json)
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.raw(name)?).ok()
    }

    fn party(&self, name: &str) -> Fields<'_> {
        self.raw(name).map_or(Fields(Vec::new()), Fields::of)
    }

    fn address(&self, party: &str) -> Option<ServiceAddress> {
        let party = self.party(party);
        let part = |name: &str| party.text(name).filter(|text| !text.is_empty());
        Some(ServiceAddress::new(part("serviceName")?, part("serviceVersion")?, part("serviceTarget")?))
    }

    fn into_message(
        self,
        known: impl Fn(&str) -> Option<String>,
        max_len: usize,
        receiver: &ServiceAddress,
        body: Body,
    ) -> Option<Message> {
        let is_usable = |text: &String| !text.is_empty() && text.len() <= max_len;
        let of = |name: &str| self.text(name).filter(is_usable).or_else(|| known(name).filter(is_usable));
        let party = self.party("sender");
        let of_sender = |field: &str, name: &str| {
            let told = party.text(field).filter(is_usable).or_else(|| known(name).filter(is_usable));
            told.unwrap_or_else(|| UNKNOWN.to_owned())
        };
        let sender = ServiceAddress::new(
            of_sender("serviceName", "senderServiceName"),
            of_sender("serviceVersion", "senderServiceVersion"),
            of_sender("serviceTarget", "senderServiceTarget"),
        );
        let correlation_id = Id::from(of("correlationId")?);
        Some(Message {
            id: of("id").map_or_else(Id::random, Id::from),
            timestamp: now(),
            content_type: CONTENT_TYPE,
            content_encoding: CONTENT_ENCODING,
            trace_id: of("traceId").map(Id::from),
            correlation_id: Some(correlation_id),
            principal_id: of("principalId").map(Name::from),
            tenant_id: of("tenantId").map(Name::from),
            event_name: None,
            trace_context: TraceContext::EMPTY,
            sender: Sender::new(sender, Id::from(of_sender("instanceId", "senderInstanceId"))),
            receiver: Some(Receiver::new(self.address("receiver").unwrap_or_else(|| receiver.clone()))),
            body,
        })
    }
}

/// Collects the fields that somebody asks for.
struct Collect<'f, 'a>(&'f mut Vec<(Cow<'a, str>, Cow<'a, str>)>);

const ASKED_FOR: [&str; 12] = [
    "messageType",
    "id",
    "correlationId",
    "traceId",
    "principalId",
    "tenantId",
    "sender",
    "receiver",
    "serviceName",
    "serviceVersion",
    "serviceTarget",
    "instanceId",
];

impl<'de: 'a, 'a> Visitor<'de> for Collect<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            if ASKED_FOR.contains(&&*name) {
                self.0.push((name, value.get().into()));
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"messageType":"command","id":"i","correlationId":"c","tenantId":"acme",
        "sender":{"serviceName":"A","serviceVersion":"1","serviceTarget":"b","instanceId":"web"},
        "receiver":{"serviceName":"B","serviceVersion":"2","serviceTarget":"c"},"payload":"#;

    fn command(bytes: &[u8]) -> Option<Message> {
        let known = |name: &str| (name == "correlationId").then(|| "beside".to_owned());
        Message::unread_command(bytes, &ServiceAddress::new("own", "1", "own"), known, 16)
    }

    #[test]
    fn a_caller_is_known_however_the_rest_looks() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for rest in ["", "[1]}", "\u{fffd}\"", "7,\"timestamp\":-1,\"otp\":7}", &format!("{deep}}}")] {
            let bytes = [WHOLE.as_bytes(), b"\"\xff\"".as_slice(), b",\"x\":", rest.as_bytes()].concat();
            let read = command(&bytes).unwrap();
            assert_eq!(read.correlation_id, Some(Id::from("c")), "{rest}");
            assert_eq!((read.id.to_string(), read.tenant_id.as_deref()), ("i".to_owned(), Some("acme")));
            assert_eq!(read.sender.instance_id, Id::from("web"));
            assert_eq!(read.sender.address, ServiceAddress::new("A", "1", "b"));
            assert_eq!(read.receiver.unwrap().address, ServiceAddress::new("B", "2", "c"));
        }
    }

    #[test]
    fn what_is_missing_may_be_known_otherwise() {
        for bytes in [&b""[..], b"{}", b"\xff\xfe", b"[]", b"{\"correlationId\":7}", b"{\"sender\":\"x\"}"] {
            let read = command(bytes).unwrap();
            assert_eq!(read.correlation_id, Some(Id::from("beside")), "{bytes:?}");
            assert_eq!(read.sender.instance_id, Id::from(UNKNOWN));
            assert_eq!(read.receiver.unwrap().address, ServiceAddress::new("own", "1", "own"));
        }
        let long = WHOLE.replace("\"acme\"", "\"a name that is too long\"");
        assert_eq!(command(long.as_bytes()).unwrap().tenant_id, None);
    }

    #[test]
    fn only_commands_are_answered_and_only_responses_are_taken_for_some() {
        for other in ["commandErrorResponse", "customMessage", "stream", "nonsense"] {
            assert!(
                command(WHOLE.replace("\"command\"", &format!("{other:?}")).as_bytes()).is_none(),
                "{other}"
            );
        }
        assert!(Message::unread_response(WHOLE.as_bytes()).is_none());
        let response = WHOLE.replace("\"command\"", "\"commandSuccessResponse\"");
        let read = Message::unread_response(response.as_bytes()).unwrap();
        assert!(read.message_type().is_response() && read.sender.instance_id == "web");
        let anonymous = response.replace("serviceName", "name");
        assert!(Message::unread_response(anonymous.as_bytes()).is_none());
    }
}
