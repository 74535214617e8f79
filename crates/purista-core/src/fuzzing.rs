//! What is private and reads foreign bytes, for the fuzz targets. It is no part of the API.

use crate::message::{Message, ServiceAddress};

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
