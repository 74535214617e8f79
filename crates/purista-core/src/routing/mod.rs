//! Turns names that users chose into addresses, patterns and identities that a broker takes literally.
//!
//! All routed brokers share one address of thirteen tokens (wire format, MQTT topics and NATS subjects): a prefix,
//! the message type, principal, tenant, four tokens for the sender, the event name and four for the receiver. A
//! message renders to an [`Address`], a subscription to a [`Pattern`]; the adapter brings the [`AddressStyle`].
//!
//! - An address always has thirteen tokens, and nothing in a message can act as a separator or a wildcard.
//! - Tokens are lossy: `acme-1` and `acme_1` share one. Compare the real values after receipt.
//! - Queues, consumers and groups must not be shared by accident: name them with [`injective_name`].

mod address;
pub mod case;
mod render;
mod token;

pub use address::{Address, Endpoint, Pattern};
pub use token::{AddressStyle, bounded_name, injective_name};
