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
    ServiceAddress, now, payload::exceeds_depth,
};
use crate::{
    error::{Error, ErrorKind},
    trace::TraceContext,
};

/// The longest trace context in bytes that is taken over; a longer one counts as none.
const MAX_OTP: usize = 8 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    message_type: MessageType,
    id: Option<Id>,
    timestamp: Option<u64>,
    content_type: Option<Name>,
    content_encoding: Option<Name>,
    trace_id: Option<Id>,
    correlation_id: Option<Id>,
    principal_id: Option<Name>,
    tenant_id: Option<Name>,
    event_name: Option<Name>,
    otp: Option<Name>,
    sender: Object<WireSender>,
    receiver: Option<Object<WireReceiver>>,
    is_handled_error: Option<bool>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSender {
    service_name: Name,
    service_version: Name,
    service_target: Name,
    instance_id: Id,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReceiver {
    service_name: Name,
    service_version: Name,
    service_target: Name,
    instance_id: Option<Id>,
}

/// A command's payload on the wire.
#[derive(Deserialize)]
struct WireInput<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    parameter: Option<&'a RawValue>,
}

/// What is decoded from an object only: a derived type takes an array of its fields' values as well.
struct Object<T>(T);

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
        let Object::<Wire<'_>>(wire) =
            serde_json::from_str(&text).map_err(|error| invalid("not a message").with_source(error))?;
        wire.into_message(&text)
    }

    /// Encodes the message as compact JSON.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut object = ObjectWriter::new(768 + self.payload_len());
        object.text("messageType", self.message_type().as_str());
        object.id("id", Some(&self.id));
        object.number("timestamp", self.timestamp);
        object.text("contentType", &self.content_type);
        object.text("contentEncoding", &self.content_encoding);
        object.id("traceId", self.trace_id.as_ref());
        object.id("correlationId", self.correlation_id.as_ref());
        object.name("principalId", self.principal_id.as_ref());
        object.name("tenantId", self.tenant_id.as_ref());
        object.name("eventName", self.event_name.as_ref());
        object.text("otp", self.trace_context.as_otp());
        object.object("sender", |sender| {
            sender.address(&self.sender.address);
            sender.id("instanceId", Some(&self.sender.instance_id));
        });
        if let Some(receiver) = &self.receiver {
            object.object("receiver", |fields| {
                fields.address(&receiver.address);
                fields.id("instanceId", receiver.instance_id.as_ref());
            });
        }
        if let Body::CommandErrorResponse { handled, .. } = self.body {
            object.raw("isHandledError", if handled { "true" } else { "false" });
        }
        if let Body::Command { payload, parameter } = &self.body {
            object.object("payload", |input| {
                input.payload("payload", payload.as_ref());
                input.payload("parameter", parameter.as_ref());
            });
        } else {
            object.payload("payload", self.payload());
        }
        object.finish()
    }
}

impl Wire<'_> {
    fn into_message(self, text: &ByteString) -> Result<Message, Error> {
        let part = |raw: Option<&RawValue>| match raw {
            Some(raw) if exceeds_depth(raw.get()) => Err(invalid("the payload nests too deep")),
            raw => Ok(raw.map(|raw| Payload::part_of(text, raw))),
        };
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
                let Object::<WireInput<'_>>(input) = match self.payload {
                    Some(raw) => serde_json::from_str(raw.get())
                        .map_err(|error| invalid("a command's payload is no input").with_source(error))?,
                    None => Object(WireInput { payload: None, parameter: None }),
                };
                Body::Command { payload: part(input.payload)?, parameter: part(input.parameter)? }
            }
            MessageType::CommandSuccessResponse => Body::CommandSuccessResponse(part(self.payload)?),
            MessageType::CommandErrorResponse => Body::CommandErrorResponse {
                handled: self.is_handled_error.unwrap_or(false),
                payload: part(self.payload)?,
            },
            MessageType::CustomMessage => Body::CustomMessage(part(self.payload)?),
            MessageType::Stream => Body::Stream(part(self.payload)?),
            info => Body::Info(info, part(self.payload)?),
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

/// Writes a JSON object field by field; payloads go in as the text they are.
struct ObjectWriter {
    json: Vec<u8>,
}

impl ObjectWriter {
    fn new(capacity: usize) -> Self {
        let mut json = Vec::with_capacity(capacity);
        json.push(b'{');
        Self { json }
    }

    fn key(&mut self, key: &'static str) {
        if self.json.last() != Some(&b'{') {
            self.json.push(b',');
        }
        self.json.push(b'"');
        self.json.extend_from_slice(key.as_bytes());
        self.json.extend_from_slice(b"\":");
    }

    fn raw(&mut self, key: &'static str, json: &str) {
        self.key(key);
        self.json.extend_from_slice(json.as_bytes());
    }

    fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        let needs_escape = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
        if text.as_bytes().iter().any(needs_escape) {
            // Writing to a vector and encoding a string cannot fail.
            let _infallible = serde_json::to_writer(&mut self.json, text);
        } else {
            self.json.push(b'"');
            self.json.extend_from_slice(text.as_bytes());
            self.json.push(b'"');
        }
    }

    fn number(&mut self, key: &'static str, number: u64) {
        self.key(key);
        let _infallible = serde_json::to_writer(&mut self.json, &number);
    }

    fn name(&mut self, key: &'static str, name: Option<&Name>) {
        if let Some(name) = name {
            self.text(key, name);
        }
    }

    fn id(&mut self, key: &'static str, id: Option<&Id>) {
        if let Some(id) = id {
            self.text(key, id.as_str());
        }
    }

    fn payload(&mut self, key: &'static str, payload: Option<&Payload>) {
        if let Some(payload) = payload {
            self.raw(key, payload.as_str());
        }
    }

    fn address(&mut self, address: &ServiceAddress) {
        self.text("serviceName", &address.service_name);
        self.text("serviceVersion", &address.service_version);
        self.text("serviceTarget", &address.service_target);
    }

    fn object(&mut self, key: &'static str, fields: impl FnOnce(&mut Self)) {
        self.key(key);
        self.json.push(b'{');
        fields(self);
        self.json.push(b'}');
    }

    fn finish(mut self) -> Bytes {
        self.json.push(b'}');
        self.json.into()
    }
}
