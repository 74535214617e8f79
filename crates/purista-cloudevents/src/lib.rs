//! What PURISTA event bridges share that speak CloudEvents over HTTP.
//!
//! Brokers that deliver by requests (Dapr's sidecars, Knative's Triggers) differ in who is asked to subscribe, and agree
//! in the rest, which is here: [`CloudEvent`] and [`received`] write and read messages as CloudEvents; [`Server`] takes the
//! requests; [`Subscribed`] and [`Served`] have a message handled once, however often it is delivered, and answer when its
//! handler is done.

mod admission;
mod event;
mod numbers;
mod received;
mod recent;
mod served;
mod server;
mod subscribed;

pub use admission::Admission;
pub use event::{CloudEvent, DEAD_LETTER, STRUCTURED, event_id};
pub use numbers::are_readable;
pub use received::{Malformed, Received, received};
pub use served::{Answer, Reply, Served};
pub use server::{Server, json, status, with_token};
pub use subscribed::{Settled, Subscribed};
