//! The envelope: samples of the wire, generated messages, payloads to the byte, and input that is no message.

#[cfg(test)]
mod generated;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod numbers;
#[cfg(test)]
mod payload;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod status;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// A JSON object whose values are kept as text.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// The fields of an object that decodes as a sender and little else.
const SENDER: &str =
    r#"{"serviceName":"Warehouse","serviceVersion":"3","serviceTarget":"count","instanceId":"w-1"}"#;

/// The smallest message of a type, with these fields added.
fn message_with(message_type: &str, more: &str) -> String {
    let call = match message_type {
        "command" | "commandSuccessResponse" | "commandErrorResponse" | "stream" => {
            r#","correlationId":"c-1","receiver":{"serviceName":"Counter","serviceVersion":"2","serviceTarget":"ask"}"#
        }
        _ => "",
    };
    format!(r#"{{"messageType":"{message_type}","sender":{SENDER}{call}{more}}}"#)
}
