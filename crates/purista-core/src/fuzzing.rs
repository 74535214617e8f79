//! What is private and reads foreign bytes, for the fuzz targets. It is no part of the API.

use std::time::Duration;

use crate::message::{Message, ServiceAddress};

/// What an adapter reads beside a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beside<T> {
    pub time_limit: Option<Duration>,
    pub is_refusal: bool,
    /// What this adapter has more of it.
    pub more: T,
}

impl<T> Beside<T> {
    #[must_use]
    pub const fn new(time_limit: Option<Duration>, is_refusal: bool, more: T) -> Self {
        Self { time_limit, is_refusal, more }
    }
}

/// Reads what an unreadable command tells of its caller.
#[must_use]
pub fn unread_command(
    bytes: &[u8],
    address: &ServiceAddress,
    known: impl Fn(&str) -> Option<String>,
    max_len: usize,
) -> Option<Message> {
    Message::unread_command(bytes, address, known, max_len)
}

/// Reads which call an unreadable response is about, and who sent it.
#[must_use]
pub fn unread_response(bytes: &[u8]) -> Option<Message> {
    Message::unread_response(bytes)
}
