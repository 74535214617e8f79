//! The envelope as JSON: one pass into a flat struct that borrows, then split by type (wire format, section 1).

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use bytestring::ByteString;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use super::{
    Body, CONTENT_ENCODING, CONTENT_TYPE, Id, Message, MessageType, Name, Payload, Receiver, Sender,
    ServiceAddress, now, own, payload::exceeds_depth,
};
use crate::{
    error::{Error, ErrorKind},
    trace::TraceContext,
};

/// The longest trace context in bytes that is taken over; a longer one counts as none.
const MAX_OTP: usize = 8 * 1024;

/// The fields of a message, as they came.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire<'a> {
    pub(super) message_type: MessageType,
    pub(super) id: Option<Id>,
    pub(super) timestamp: Option<u64>,
    pub(super) content_type: Option<Name>,
    pub(super) content_encoding: Option<Name>,
    pub(super) trace_id: Option<Id>,
    pub(super) correlation_id: Option<Id>,
    pub(super) principal_id: Option<Name>,
    pub(super) tenant_id: Option<Name>,
    pub(super) event_name: Option<Name>,
    pub(super) otp: Option<Name>,
    pub(super) sender: Object<WireParty<Id>>,
    pub(super) receiver: Option<Object<WireParty<Option<Id>>>>,
    pub(super) is_handled_error: Option<bool>,
    #[serde(borrow, default, deserialize_with = "value")]
    pub(super) payload: Option<WirePayload<'a>>,
}

/// A payload of any message.
pub(super) enum WirePayload<'a> {
    /// One JSON value.
    Value(&'a RawValue),
    /// Text that may be anything.
    Unchecked(&'a str),
}

/// A sender or receiver.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireParty<I> {
    pub(super) service_name: Name,
    pub(super) service_version: Name,
    pub(super) service_target: Name,
    pub(super) instance_id: I,
}

/// A command's payload on the wire.
#[derive(Default, Deserialize)]
struct WireInput<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    parameter: Option<&'a RawValue>,
}

/// What is decoded from an object only: a derived type takes an array of its fields' values as well.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// Keeps `null` apart from an absent field.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn value<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WirePayload<'a>>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(|raw| Some(WirePayload::Value(raw)))
}

impl Message {
    /// Decodes a message. Its payload shares the bytes.
    ///
    /// Unknown fields are ignored. Peers of the TypeScript original leave out `id` and `timestamp` of some
    /// messages; these get a generated id and the time of receipt.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidMessage`] if the bytes are no UTF-8, no JSON object, miss a field that the type of
    /// message needs, name one twice, or nest deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    pub fn decode(bytes: impl Into<Bytes>) -> Result<Self, Error> {
        let text =
            ByteString::try_from(bytes.into()).map_err(|error| invalid("not UTF-8").with_source(error))?;
        if let Some(Ok(message)) = own::read(&text).map(|wire| wire.into_message(&text)) {
            return Ok(message);
        }
        let Object::<Wire<'_>>(wire) =
            serde_json::from_str(&text).map_err(|error| invalid("not a message").with_source(error))?;
        wire.into_message(&text)
    }

    /// Encodes the message as compact JSON.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut json = Writer(Vec::with_capacity(768 + self.payload_len()));
        json.raw("{\"messageType\":\"", self.message_type().as_str());
        json.id("\",\"id\":", Some(&self.id));
        json.number(",\"timestamp\":", self.timestamp);
        json.text(",\"contentType\":", &self.content_type);
        json.text(",\"contentEncoding\":", &self.content_encoding);
        json.id(",\"traceId\":", self.trace_id.as_ref());
        json.id(",\"correlationId\":", self.correlation_id.as_ref());
        json.name(",\"principalId\":", self.principal_id.as_ref());
        json.name(",\"tenantId\":", self.tenant_id.as_ref());
        json.name(",\"eventName\":", self.event_name.as_ref());
        json.text(",\"otp\":", self.trace_context.as_otp());
        json.party(",\"sender\":", &self.sender.address, Some(&self.sender.instance_id));
        if let Some(receiver) = &self.receiver {
            json.party(",\"receiver\":", &receiver.address, receiver.instance_id.as_ref());
        }
        if let Body::CommandErrorResponse { handled, .. } = self.body {
            json.raw(",\"isHandledError\":", if handled { "true" } else { "false" });
        }
        if let Body::Command { payload, parameter } = &self.body {
            json.raw(",\"payload\":{", "");
            json.payload("\"payload\":", payload.as_ref());
            let after_payload = if payload.is_some() { ",\"parameter\":" } else { "\"parameter\":" };
            json.payload(after_payload, parameter.as_ref());
            json.raw("}", "");
        } else {
            json.payload(",\"payload\":", self.payload());
        }
        json.raw("}", "");
        json.0.into()
    }
}

impl<'a> WirePayload<'a> {
    fn value(self) -> Result<&'a RawValue, Error> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Unchecked(text) => parsed(text),
        }
    }

    fn input(self) -> Result<WireInput<'a>, Error> {
        let text = match self {
            Self::Value(value) => value.get(),
            Self::Unchecked(text) => text,
        };
        parsed(text).map(|Object(input)| input)
    }
}

fn parsed<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<T, Error> {
    serde_json::from_str(payload)
        .map_err(|error| invalid("a command's payload is no input").with_source(error))
}

impl Wire<'_> {
    fn into_message(self, text: &ByteString) -> Result<Message, Error> {
        let part = |raw: Option<&RawValue>| match raw {
            Some(raw) if exceeds_depth(raw.get()) => Err(invalid("the payload nests too deep")),
            raw => Ok(raw.map(|raw| Payload::part_of(text, raw))),
        };
        let whole = |payload: Option<WirePayload<'_>>| part(payload.map(WirePayload::value).transpose()?);
        let receiver = self.receiver.map(|Object(receiver)| Receiver {
            address: ServiceAddress::new(
                receiver.service_name,
                receiver.service_version,
                receiver.service_target,
            ),
            instance_id: receiver.instance_id,
        });
        let needs_correlation = matches!(self.message_type, MessageType::Command | MessageType::Stream)
            || self.message_type.is_response();
        if needs_correlation && (self.correlation_id.is_none() || receiver.is_none()) {
            return Err(invalid("a command, response or frame without correlation id or receiver"));
        }
        let body = match self.message_type {
            MessageType::Command => {
                let input = self.payload.map(WirePayload::input).transpose()?.unwrap_or_default();
                Body::Command { payload: part(input.payload)?, parameter: part(input.parameter)? }
            }
            MessageType::CommandSuccessResponse => Body::CommandSuccessResponse(whole(self.payload)?),
            MessageType::CommandErrorResponse => Body::CommandErrorResponse {
                handled: self.is_handled_error.unwrap_or(false),
                payload: whole(self.payload)?,
            },
            MessageType::CustomMessage => Body::CustomMessage(whole(self.payload)?),
            MessageType::Stream => Body::Stream(whole(self.payload)?),
            info => Body::Info(info, whole(self.payload)?),
        };
        let Object(sender) = self.sender;
        Ok(Message {
            id: self.id.unwrap_or_else(Id::random),
            timestamp: self.timestamp.unwrap_or_else(now),
            content_type: self.content_type.unwrap_or(CONTENT_TYPE),
            content_encoding: self.content_encoding.unwrap_or(CONTENT_ENCODING),
            trace_id: self.trace_id,
            correlation_id: self.correlation_id,
            principal_id: self.principal_id,
            tenant_id: self.tenant_id,
            event_name: self.event_name,
            trace_context: self
                .otp
                .filter(|otp| otp.len() <= MAX_OTP)
                .map_or(TraceContext::EMPTY, TraceContext::from_otp),
            sender: Sender::new(
                ServiceAddress::new(sender.service_name, sender.service_version, sender.service_target),
                sender.instance_id,
            ),
            receiver,
            body,
        })
    }
}

fn invalid(context: &'static str) -> Error {
    Error::new(ErrorKind::InvalidMessage, "decode").with_context(context)
}

/// Writes JSON: each piece of text that is known, and a value behind it. Payloads go in as the text they are.
struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, known: &'static str, json: &str) {
        self.0.extend_from_slice(known.as_bytes());
        self.0.extend_from_slice(json.as_bytes());
    }

    fn quoted(&mut self, known: &'static str, text: &str) {
        self.raw(known, "\"");
        self.raw("", text);
        self.0.push(b'"');
    }

    fn text(&mut self, known: &'static str, text: &str) {
        let needs_escape = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\\');
        // Without an end before the last byte, many are looked at at once.
        if text.as_bytes().iter().fold(false, |any, byte| any | needs_escape(byte)) {
            self.raw(known, "");
            // Writing to a vector and encoding a string cannot fail.
            let _infallible = serde_json::to_writer(&mut self.0, text);
        } else {
            self.quoted(known, text);
        }
    }

    fn number(&mut self, known: &'static str, number: u64) {
        self.raw(known, "");
        let _infallible = serde_json::to_writer(&mut self.0, &number);
    }

    fn name(&mut self, known: &'static str, name: Option<&Name>) {
        if let Some(name) = name {
            self.text(known, name);
        }
    }

    fn id(&mut self, known: &'static str, id: Option<&Id>) {
        match id {
            Some(id) if id.is_generated() => self.quoted(known, id.as_str()),
            Some(id) => self.text(known, id.as_str()),
            None => {}
        }
    }

    fn payload(&mut self, known: &'static str, payload: Option<&Payload>) {
        if let Some(payload) = payload {
            self.raw(known, payload.as_str());
        }
    }

    fn party(&mut self, known: &'static str, address: &ServiceAddress, instance_id: Option<&Id>) {
        self.raw(known, "");
        self.text("{\"serviceName\":", &address.service_name);
        self.text(",\"serviceVersion\":", &address.service_version);
        self.text(",\"serviceTarget\":", &address.service_target);
        self.id(",\"instanceId\":", instance_id);
        self.raw("}", "");
    }
}
