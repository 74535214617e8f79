use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Name;

const BYTES: usize = 16;
const HEX: usize = 2 * BYTES;

/// The id of a message, a call, a trace or a bridge instance.
///
/// PURISTA generates 16 random bytes and writes them as 32 lowercase hexadecimal characters. A foreign peer may
/// choose any other text; it is kept as it is. Two ids are equal when their text is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    /// Text of 32 lowercase hexadecimal characters, always in this form, so that equality is that of the text.
    Generated([u8; BYTES]),
    Foreign(Name),
}

impl Id {
    /// Generates an id that nobody can guess.
    #[must_use]
    pub fn random() -> Self {
        Self(Repr::Generated(rand::random::<u128>().to_ne_bytes()))
    }

    /// Returns the number of bytes of the text.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Generated(_) => HEX,
            Repr::Foreign(text) => text.len(),
        }
    }

    /// Returns whether the text is empty, which no valid message has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `read` with the text, without allocating.
    pub fn with_str<R>(&self, read: impl FnOnce(&str) -> R) -> R {
        match &self.0 {
            Repr::Generated(bytes) => read(const_hex::Buffer::<BYTES>::new().format(bytes)),
            Repr::Foreign(text) => read(text),
        }
    }
}

fn parse_generated(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != HEX || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    const_hex::decode_to_array(text).ok()
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        Self(parse_generated(text).map_or_else(|| Repr::Foreign(text.into()), Repr::Generated))
    }
}

impl From<String> for Id {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&Self> for Id {
    fn from(id: &Self) -> Self {
        id.clone()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|text| f.write_str(text))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|text| fmt::Debug::fmt(text, f))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_str(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id as a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_whatever_its_form() {
        for text in [
            "",
            "0af7651916cd43dd8448eb211c80319c",
            "0AF7651916CD43DD8448EB211C80319C",
            "0xf7651916cd43dd8448eb211c803190",
            "0af7651916cd43dd8448eb211c80319g",
            "order 7",
            "日本",
        ] {
            let id = Id::from(text);
            assert_eq!(id.to_string(), text);
            assert_eq!(id.len(), text.len());
            assert_eq!(serde_json::from_str::<Id>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        }
    }

    #[test]
    fn generated_ids_are_32_lowercase_hex_characters() {
        let text = Id::random().to_string();
        assert!(parse_generated(&text).is_some(), "{text}");
        assert_ne!(Id::from(text.to_uppercase()), Id::from(text));
    }
}
