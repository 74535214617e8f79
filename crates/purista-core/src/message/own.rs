//! Reads what our own encoder wrote: each field where it stands, without a parser. Whatever looks different is left to
//! the parser, which also decides what is refused.

use std::borrow::Cow;

use super::{
    CONTENT_ENCODING, CONTENT_TYPE, Id, MessageType, Name,
    id::HEX,
    wire::{Object, Wire, WireParty, WirePayload},
};

/// Text of a message, up to where it is not read yet.
struct Reader<'a>(&'a str);

/// Reads the fields of a message; `None` if it does not look as our own encoder writes it. The payload is not checked.
pub(super) fn read(text: &str) -> Option<Wire<'_>> {
    let mut reader = Reader(text);
    reader.skip("{\"messageType\":")?;
    let message_type = reader.text()?;
    let message_type = *MessageType::ALL.iter().find(|known| known.as_str() == message_type)?;
    reader.skip(",\"id\":")?;
    let id = reader.id()?;
    reader.skip(",\"timestamp\":")?;
    let timestamp = reader.number()?;
    let (content_type, content_encoding) = reader.content()?;
    Some(Wire {
        message_type,
        id: Some(id),
        timestamp: Some(timestamp),
        content_type: Some(content_type),
        content_encoding: Some(content_encoding),
        trace_id: reader.optional(",\"traceId\":", Reader::id)?,
        correlation_id: reader.optional(",\"correlationId\":", Reader::id)?,
        principal_id: reader.optional(",\"principalId\":", Reader::name)?,
        tenant_id: reader.optional(",\"tenantId\":", Reader::name)?,
        event_name: reader.optional(",\"eventName\":", Reader::name)?,
        otp: reader.optional(",\"otp\":", Reader::name)?,
        sender: {
            reader.skip(",\"sender\":")?;
            Object(reader.party(|reader| {
                reader.skip(",\"instanceId\":")?;
                reader.id()
            })?)
        },
        receiver: reader.optional(",\"receiver\":", |reader| {
            reader.party(|reader| reader.optional(",\"instanceId\":", Reader::id)).map(Object)
        })?,
        is_handled_error: reader.optional(",\"isHandledError\":", Reader::boolean)?,
        payload: reader.rest()?,
    })
}

impl<'a> Reader<'a> {
    fn skip(&mut self, literal: &'static str) -> Option<()> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(())
    }

    /// Reads what follows a literal; `Some(None)` if something else does.
    fn optional<T>(
        &mut self,
        literal: &'static str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.skip(literal) {
            Some(()) => read(self).map(Some),
            None => Some(None),
        }
    }

    /// Reads a string.
    fn text(&mut self) -> Option<Cow<'a, str>> {
        let inside = self.0.strip_prefix('"')?;
        let plain = inside.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\')?;
        if inside.as_bytes()[plain] == b'"' {
            self.0 = &inside[plain + 1..];
            return Some(inside[..plain].into());
        }
        self.escaped()
    }

    #[cold]
    fn escaped(&mut self) -> Option<Cow<'a, str>> {
        let mut values = serde_json::Deserializer::from_str(self.0).into_iter::<String>();
        let text = values.next()?.ok()?;
        self.0 = &self.0[values.byte_offset()..];
        Some(text.into())
    }

    fn name(&mut self) -> Option<Name> {
        Some(self.text()?.as_ref().into())
    }

    fn id(&mut self) -> Option<Id> {
        // Most are generated, and need no search for their end.
        let generated = self.0.get(..HEX + 2).and_then(|quoted| quoted.strip_prefix('"')?.strip_suffix('"'));
        if let Some(id) = generated.and_then(Id::generated) {
            self.0 = &self.0[HEX + 2..];
            return Some(id);
        }
        Some(self.text()?.as_ref().into())
    }

    fn number(&mut self) -> Option<u64> {
        let digits = self.0.bytes().position(|byte| !byte.is_ascii_digit())?;
        let (number, rest) = self.0.split_at(digits);
        self.0 = rest;
        // A number of JSON does not begin with zero.
        if number.len() > 1 && number.starts_with('0') { None } else { number.parse().ok() }
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.skip("true") {
            Some(()) => Some(true),
            None => self.skip("false").map(|()| false),
        }
    }

    fn content(&mut self) -> Option<(Name, Name)> {
        const USUAL: &str = ",\"contentType\":\"application/json\",\"contentEncoding\":\"utf-8\"";
        if self.skip(USUAL).is_some() {
            return Some((CONTENT_TYPE, CONTENT_ENCODING));
        }
        self.skip(",\"contentType\":")?;
        let content_type = self.name()?;
        self.skip(",\"contentEncoding\":")?;
        Some((content_type, self.name()?))
    }

    fn party<I>(&mut self, instance_id: impl FnOnce(&mut Self) -> Option<I>) -> Option<WireParty<I>> {
        self.skip("{\"serviceName\":")?;
        let service_name = self.name()?;
        self.skip(",\"serviceVersion\":")?;
        let service_version = self.name()?;
        self.skip(",\"serviceTarget\":")?;
        let service_target = self.name()?;
        let instance_id = instance_id(self)?;
        self.skip("}")?;
        Some(WireParty { service_name, service_version, service_target, instance_id })
    }

    /// Returns the payload, with which the message ends, if there is one.
    fn rest(&mut self) -> Option<Option<WirePayload<'a>>> {
        match self.skip(",\"payload\":") {
            Some(()) => self.0.strip_suffix('}').map(|text| Some(WirePayload::Unchecked(text))),
            None => (self.0 == "}").then_some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{CommandDraft, EventDraft, Message, Payload, TraceContext};

    #[test]
    fn what_is_encoded_here_needs_no_parser() {
        let traced =
            TraceContext::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let event = EventDraft::event(("User", "1", "signUp"), "user \"registered\"")
            .with_payload(Payload::json(&[1, 2]).unwrap())
            .with_trace_context(traced.unwrap())
            .with_receiver(("Mail", "1", "send"));
        let command =
            CommandDraft::new(("User", "1", "signUp"), ("Mail", "1", "send")).with_tenant_id("租户");
        let command = command.stamp(&"bridge \"7\"".into());
        let bare = EventDraft::custom(("User", "1", "signUp")).stamp(&Id::random());
        let answer = command.success(&"mail".into(), None, None);
        for message in [event.stamp(&Id::random()), bare, answer, command] {
            let encoded = message.encode();
            let text = std::str::from_utf8(&encoded).unwrap();
            assert!(read(text).is_some(), "{text}");
            assert_eq!(Message::decode(encoded.clone()).unwrap(), message);
        }
    }
}
