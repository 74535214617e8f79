use std::fmt;

use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{finite::Finite, misfit::fit};
use crate::error::{Error, ErrorKind};

/// How deep arrays and objects may nest in a payload.
///
/// The limit of `serde_json`: what is within it can be decoded into a type.
pub const MAX_DEPTH: usize = 127;

/// One JSON value as text, shared and never changed on its way: no digit of a number is lost.
///
/// Cloning is cheap. An absent payload is `None` beside this type; `null` is a payload.
///
/// ```
/// use purista_core::Payload;
///
/// let payload = Payload::from_json_text(r#"{"price": 12345678901234567890.10}"#)?;
/// assert_eq!(payload.as_str(), r#"{"price": 12345678901234567890.10}"#);
/// assert_eq!(Payload::json(&["a", "b"])?.deserialize::<Vec<String>>()?, ["a", "b"]);
/// # Ok::<(), purista_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(ByteString);

impl Payload {
    /// Encodes a value as JSON. Every number decodes to the same bits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidMessage`] if the value has no form in JSON (a map whose keys are not strings, a number that is
    /// NaN or infinite), or nests deeper than [`MAX_DEPTH`]. A [`serde_json::Value`] says `null` itself for such a number.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let text = serde_json::to_string(&Finite(value))
            .map_err(|error| invalid("the value cannot be encoded", error))?;
        Self::checked(text.into())
    }

    /// Takes over JSON text as it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidMessage`] if the text is not exactly one JSON value or nests deeper than [`MAX_DEPTH`].
    pub fn from_json_text(text: impl Into<String>) -> Result<Self, Error> {
        let raw =
            RawValue::from_string(text.into()).map_err(|error| invalid("the text is not JSON", error))?;
        Self::checked(Box::<str>::from(raw).into())
    }

    fn checked(text: ByteString) -> Result<Self, Error> {
        if exceeds_depth(&text) {
            return Err(
                Error::new(ErrorKind::InvalidMessage, "encode payload").with_context("nested too deep")
            );
        }
        Ok(Self(text))
    }

    /// What stands for no parameter on the wire of the TypeScript original.
    pub(crate) const fn empty_object() -> Self {
        Self(ByteString::from_static("{}"))
    }

    pub(crate) fn is_empty_object(&self) -> bool {
        let inside = self.0.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        inside.is_some_and(|inside| inside.trim().is_empty())
    }

    /// Decodes the value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidMessage`] if the JSON does not fit the type. It names the field, and tells no value.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, Error> {
        fit(&self.0).map_err(|misfit| {
            let context = format!("the payload does not fit the expected type: {misfit}");
            Error::new(ErrorKind::InvalidMessage, "payload").with_context(context)
        })
    }

    /// Returns the JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the length of the JSON text in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a JSON value is never empty text")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Shares a part of a received message that is known to be one JSON value.
    pub(super) fn part_of(message: &ByteString, part: &RawValue) -> Self {
        Self(message.slice_ref(part.get()))
    }
}

fn invalid(context: &'static str, source: serde_json::Error) -> Error {
    Error::new(ErrorKind::InvalidMessage, "payload").with_context(context).with_source(source)
}

/// Tells whether valid JSON text nests deeper than [`MAX_DEPTH`].
pub(super) fn exceeds_depth(json: &str) -> bool {
    // Chunks that a `u8` can count are counted many bytes at once, ten times as fast as by `usize`.
    let opens = |byte: &u8| u8::from(matches!(byte, b'[' | b'{'));
    let openers_in = |chunk: &[u8]| usize::from(chunk.iter().map(opens).sum::<u8>());
    if json.as_bytes().chunks(u8::MAX.into()).map(openers_in).sum::<usize>() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    false
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Payload {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::checked(Box::<str>::from(raw).into()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn depth_is_limited_where_types_can_still_be_decoded() {
        let deepest = Payload::from_json_text(nested(MAX_DEPTH)).unwrap();
        deepest.deserialize::<serde_json::Value>().unwrap();
        for depth in [MAX_DEPTH + 1, 100_000] {
            let error = Payload::from_json_text(nested(depth)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidMessage);
        }
    }

    #[test]
    fn brackets_inside_strings_do_not_nest() {
        let text = serde_json::to_string(&["[{\"\\".repeat(500)]).unwrap();
        assert!(Payload::from_json_text(text).is_ok());
    }

    #[test]
    fn digits_are_kept() {
        let digits = "12345678901234567890123.000000000000000000001";
        assert_eq!(Payload::from_json_text(digits).unwrap().as_str(), digits);
    }
}
