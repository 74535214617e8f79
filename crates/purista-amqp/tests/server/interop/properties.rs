//! Properties as the samples write them.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Map, Value, json};

/// Reads what a client sends.
pub(crate) fn from_json(properties: &Value) -> BasicProperties {
    let mut made = BasicProperties::default();
    for (name, value) in properties.as_object().unwrap() {
        let text = || value.as_str().unwrap();
        let number = || value.as_u64().unwrap();
        made = match name.as_str() {
            "contentType" => made.with_content_type(text().into()),
            "contentEncoding" => made.with_content_encoding(text().into()),
            "headers" => made.with_headers(headers(value)),
            "deliveryMode" => made.with_delivery_mode(number().try_into().unwrap()),
            "correlationId" => made.with_correlation_id(text().into()),
            "replyTo" => made.with_reply_to(text().into()),
            "messageId" => made.with_message_id(text().into()),
            "timestamp" => made.with_timestamp(number()),
            "type" => made.with_type(text().into()),
            "expiration" => made.with_expiration(text().into()),
            other => panic!("{other}"),
        };
    }
    made
}

fn headers(values: &Value) -> FieldTable {
    let mut headers = FieldTable::default();
    for (name, value) in values.as_object().unwrap() {
        headers.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().unwrap().into()));
    }
    headers
}

/// Writes what came, which is no more than the original sends, and a time limit.
pub(crate) fn to_json(properties: &BasicProperties) -> Value {
    let mut known = Map::new();
    let mut put =
        |name: &str, value: Option<Value>| known.extend(value.map(|value| (name.to_owned(), value)));
    for (name, text) in [
        ("contentType", properties.content_type()),
        ("contentEncoding", properties.content_encoding()),
        ("correlationId", properties.correlation_id()),
        ("replyTo", properties.reply_to()),
        ("messageId", properties.message_id()),
        ("type", properties.kind()),
        ("expiration", properties.expiration()),
    ] {
        put(name, text.as_ref().map(|text| json!(text.as_str())));
    }
    put("deliveryMode", properties.delivery_mode().map(Into::into));
    put("timestamp", properties.timestamp().map(Into::into));
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => json!(text.to_string()),
        other => panic!("the original sends strings only: {other:?}"),
    };
    let headers = properties.headers().as_ref().map(|headers| headers.inner().iter());
    let headers = headers.map(|all| all.map(|(name, value)| (name.to_string(), text(value))).collect());
    put("headers", headers.map(Value::Object));
    let known = Value::Object(known);
    assert_eq!(*properties, from_json(&known), "more than the original sends");
    known
}
