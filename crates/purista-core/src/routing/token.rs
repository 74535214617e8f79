//! Renders single values: as tokens of an address, or as parts of an identity.

use sha2::{Digest as _, Sha256};

use super::case;
use crate::error::{Error, Result};

/// Starts the escaped form of a value. No conversion produces it.
const ESCAPE: char = '~';

/// The longest marker of an absent value.
const MAX_MARKER: usize = 64;

/// What stands for an absent value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    bytes: [u8; MAX_MARKER],
    len: usize,
}

impl Marker {
    const fn new(text: &str) -> Self {
        assert!(!text.is_empty() && text.len() <= MAX_MARKER, "the marker must have 1 to 64 bytes");
        let mut bytes = [0; MAX_MARKER];
        let mut index = 0;
        while index < text.len() {
            bytes[index] = text.as_bytes()[index];
            index += 1;
        }
        Self { bytes, len: text.len() }
    }

    pub(super) fn as_str(&self) -> &str {
        // It was text.
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl std::fmt::Debug for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Describes how a broker spells addresses: what separates tokens, what stands for any or no value.
///
/// ```
/// use purista_core::routing::AddressStyle;
///
/// const MQTT: AddressStyle = AddressStyle::new('/', '+', "none", "#$");
///
/// assert_eq!(MQTT.token(Some("signUp")), "sign_up");
/// assert_eq!(MQTT.token(None), "none");
/// assert_eq!(MQTT.token(Some("#")), "~23");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressStyle {
    pub(super) separator: char,
    pub(super) wildcard: char,
    pub(super) empty_marker: Marker,
    /// One bit per ASCII character that must not appear in a token.
    unsafe_ascii: u128,
    max_token_len: usize,
}

impl AddressStyle {
    /// Creates a style.
    ///
    /// - `separator` stands between two tokens, `wildcard` for any single token.
    /// - `empty_marker` stands for an absent value (wire format: `none` on MQTT, `empty` on NATS).
    /// - `reserved` are further characters the broker gives a meaning, such as a wildcard for many tokens. White
    ///   space, control characters, the separator and the wildcard are reserved in every style.
    ///
    /// # Panics
    ///
    /// Panics if the separator, the wildcard or a reserved character is not ASCII punctuation or is `_`, if the
    /// separator or the wildcard is `~`, and if the marker is empty or contains anything reserved. In a `const`,
    /// this is a compile error.
    #[must_use]
    pub const fn new(
        separator: char,
        wildcard: char,
        empty_marker: &'static str,
        reserved: &'static str,
    ) -> Self {
        assert!(
            separator != wildcard && separator != ESCAPE && wildcard != ESCAPE,
            "each needs its own character"
        );
        let white_space_and_controls = (bit(' ') | (bit(' ') - 1)) | bit('\x7f');
        let mut unsafe_ascii = white_space_and_controls | reserve(separator) | reserve(wildcard);
        let mut index = 0;
        while index < reserved.len() {
            unsafe_ascii |= reserve(reserved.as_bytes()[index] as char);
            index += 1;
        }

        assert!(!empty_marker.is_empty() && empty_marker.is_ascii(), "the marker must be ASCII text");
        index = 0;
        while index < empty_marker.len() {
            let character = empty_marker.as_bytes()[index] as char;
            assert!(
                (unsafe_ascii | bit(ESCAPE)) & bit(character) == 0,
                "the marker must not contain anything reserved"
            );
            index += 1;
        }
        let empty_marker = Marker::new(empty_marker);
        Self { separator, wildcard, empty_marker, unsafe_ascii, max_token_len: usize::MAX }
    }

    /// Sets what stands for an absent value, as a peer is configured: converted to snake case, as the TypeScript original
    /// does.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if that is empty, longer than 64 bytes, or no safe token.
    pub fn with_empty_marker(mut self, marker: &str) -> Result<Self> {
        let marker = case::snake(marker);
        if marker.is_empty()
            || marker.len() > MAX_MARKER
            || marker.starts_with(ESCAPE)
            || !self.is_safe(&marker)
        {
            return Err(Error::invalid_config("the marker of an absent value is no token of 1 to 64 bytes"));
        }
        self.empty_marker = Marker::new(&marker);
        Ok(self)
    }

    /// Limits the tokens in bytes, for a broker that limits its addresses. A value whose token were longer renders to `~~`
    /// and 32 hexadecimal digits of its SHA-256 digest.
    ///
    /// # Panics
    ///
    /// Panics if that does not fit into the limit. In a `const`, this is a compile error.
    #[must_use]
    pub const fn with_max_token_len(mut self, bytes: usize) -> Self {
        assert!(bytes >= 2 + DIGEST_DIGITS, "a digest must fit");
        self.max_token_len = bytes;
        self
    }

    /// Renders one value as a token: in snake case, escaped, or as the empty marker if absent.
    ///
    /// A value is escaped if its snake case is empty or contains a character that is unsafe here. The escaped form is `~`
    /// and the value's UTF-8 bytes in hexadecimal; no other value renders to it, but that `~` shares the one of the empty
    /// text. A value may render to the empty marker, as it does with the TypeScript original: what is compared after
    /// receipt is the value.
    #[must_use]
    pub fn token(&self, value: Option<&str>) -> String {
        let mut token = String::new();
        self.append_token(&mut token, value);
        token
    }

    /// Appends what [`token`](Self::token) returns.
    pub fn append_token(&self, out: &mut String, value: Option<&str>) {
        match value {
            Some(value) => self.append_value(out, value),
            None => out.push_str(self.empty_marker.as_str()),
        }
    }

    pub(super) fn append_value(&self, out: &mut String, value: &str) {
        let start = out.len();
        if !case::append_snake(out, value) && self.is_safe(value) {
            out.push_str(value);
        }
        if out.len() == start {
            append_escaped(out, value);
        }
        if out.len() - start > self.max_token_len {
            out.truncate(start);
            out.extend([ESCAPE; 2]);
            append_digest(out, value);
        }
    }

    /// Appends text without converting it, or its escaped form if it is no single safe token.
    pub(super) fn append_verbatim(&self, out: &mut String, text: &str) {
        if !text.is_empty() && !text.contains(ESCAPE) && self.is_safe(text) {
            out.push_str(text);
        } else {
            append_escaped(out, text);
        }
    }

    fn is_safe(&self, text: &str) -> bool {
        !text.chars().any(|character| {
            if character.is_ascii() {
                self.unsafe_ascii & bit(character) != 0
            } else {
                character.is_whitespace() || character.is_control() || is_noncharacter(character)
            }
        })
    }
}

/// Bounds the length of a rendered value: no escaped and no converted form is longer.
pub(super) const fn max_token_len(value: &str) -> usize {
    ESCAPE.len_utf8() + 2 * value.len()
}

const fn reserve(character: char) -> u128 {
    assert!(character.is_ascii_punctuation() && character != '_', "only ASCII punctuation can be reserved");
    bit(character)
}

const fn bit(ascii: char) -> u128 {
    1 << (ascii as u32)
}

/// Returns whether a character is one of those that MQTT brokers refuse although they are valid UTF-8.
const fn is_noncharacter(character: char) -> bool {
    let code = character as u32;
    matches!(code, 0xfdd0..=0xfdef) || matches!(code & 0xffff, 0xfffe | 0xffff)
}

fn append_escaped(out: &mut String, value: &str) {
    out.push(ESCAPE);
    for byte in value.bytes() {
        append_hex(out, byte);
    }
}

/// How many hexadecimal digits stand for a text that is too long: 128 bits.
const DIGEST_DIGITS: usize = 32;

fn append_digest(out: &mut String, value: &str) {
    Sha256::digest(value).iter().take(DIGEST_DIGITS / 2).for_each(|byte| append_hex(out, *byte));
}

fn append_hex(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 0xf)]));
}

/// Joins parts to the name of a queue, a consumer, a group or a client, so that different parts never share a name.
///
/// The name holds nothing but ASCII letters, digits, `-` and `_`, which every broker takes literally, and keeps the
/// case. Parts are joined by `-`. Inside a part, letters and digits stay as they are, `-` becomes `_-`, `_` becomes
/// `__`, and any other byte of the UTF-8 text becomes `_` and two hexadecimal digits. An empty part becomes `_empty`.
/// None of these forms begins with another, so a name can be read back in one way only.
///
/// The name of ordinary parts is as long as the parts, that of hostile ones up to three times as long: check it
/// against the broker's limit. Without any part the name is empty.
///
/// ```
/// use purista_core::routing::injective_name;
///
/// assert_eq!(injective_name(&["User", "1", "signUp"]), "User-1-signUp");
/// assert_eq!(injective_name(&["sign-up", "1.2"]), "sign_-up-1_2e2");
/// ```
#[must_use]
pub fn injective_name(parts: &[&str]) -> String {
    let mut name = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            name.push('-');
        }
        append_part(&mut name, part);
    }
    name
}

/// Joins parts as [`injective_name`] does, and keeps the name within a limit in bytes.
///
/// A name that were longer is cut, and ends with `_h` and 32 hexadecimal digits of the whole name's SHA-256 digest: a form
/// that no shorter name has. The limit must leave room for these 34 bytes. Where the cut goes through an escaped byte, `x`
/// stands for its first half.
///
/// ```
/// use purista_core::routing::bounded_name;
///
/// assert_eq!(bounded_name(&["User", "1", "signUp"], 64), "User-1-signUp");
/// assert_eq!(bounded_name(&["User", &"1".repeat(100)], 64).len(), 64);
/// ```
#[must_use]
pub fn bounded_name(parts: &[&str], limit: usize) -> String {
    let mut name = injective_name(parts);
    if name.len() > limit {
        let whole = name.clone();
        name.truncate(limit.saturating_sub(2 + DIGEST_DIGITS));
        // With the mark of the digest, half of an escape would be one for `_`, and a shorter name could be the same.
        if ends_within_escape(&name) {
            name.pop();
            name.push('x');
        }
        name.push_str("_h");
        append_digest(&mut name, &whole);
    }
    name
}

/// Returns whether what was cut from a name ends with the `_` that begins an escape.
fn ends_within_escape(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        // Whatever stands after it belongs to the escape, as `_` itself does.
        if byte == b'_' && bytes.next().is_none() {
            return true;
        }
    }
    false
}

fn append_part(name: &mut String, part: &str) {
    if part.is_empty() {
        name.push_str("_empty");
    }
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => name.push(char::from(byte)),
            b'_' => name.push_str("__"),
            b'-' => name.push_str("_-"),
            _ => {
                name.push('_');
                append_hex(name, byte);
            }
        }
    }
}
