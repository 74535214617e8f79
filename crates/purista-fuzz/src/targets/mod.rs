//! One module for each target.

pub mod addresses;
pub mod amqp_properties;
pub mod cloud_event;
pub mod cloud_event_encode;
pub mod dapr_answers;
pub mod dapr_numbers;
pub mod dead_letter;
pub mod envelope;
pub mod environment;
pub mod error_payload;
pub mod filter_index;
pub mod jetstream_answers;
pub mod mqtt_properties;
pub mod mqtt_records;
pub mod mqtt_stream;
pub mod names;
pub mod nats_headers;
pub mod nats_subjects;
pub mod payload;
pub mod refusals;
pub mod servers;
pub mod trace_context;
pub mod unread;
