use std::{cmp::Ordering, fmt, hash};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Name, text::text};

const BYTES: usize = 16;
pub(super) const HEX: usize = 2 * BYTES;

/// The id of a message, a call, a trace or a bridge instance.
///
/// PURISTA generates 16 random bytes and writes them as 32 lowercase hexadecimal characters. A foreign peer may
/// choose any other text; it is kept as it is. Two ids are equal when their text is.
///
/// ```
/// use purista_core::Id;
///
/// let order = Id::from("order 7");
/// assert_eq!((order.as_str(), order.len()), ("order 7", 7));
/// assert_eq!(order, "order 7");
/// assert_ne!(Id::random(), Id::random());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Id(Repr);

#[derive(Clone, PartialEq, Eq)]
enum Repr {
    /// Text of 32 lowercase hexadecimal characters, always in this form, so that equality is that of the text.
    Generated([u8; HEX]),
    Foreign(Name),
}

text!(Id);

impl Id {
    /// Generates an id that nobody can guess.
    #[must_use]
    pub fn random() -> Self {
        let mut text = [0; HEX];
        let bytes = rand::random::<u128>().to_ne_bytes();
        text.copy_from_slice(const_hex::Buffer::<BYTES>::new().format(&bytes).as_bytes());
        Self(Repr::Generated(text))
    }

    /// Returns whether it has the form of a generated one, which needs no escape in JSON.
    pub(super) const fn is_generated(&self) -> bool {
        matches!(self.0, Repr::Generated(_))
    }

    /// Takes over an id that has the form of a generated one.
    pub(super) fn generated(text: &str) -> Option<Self> {
        parse_generated(text).map(|text| Self(Repr::Generated(text)))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Hexadecimal characters always are text.
            Repr::Generated(text) => std::str::from_utf8(text).unwrap_or_default(),
            Repr::Foreign(text) => text.as_str(),
        }
    }
}

fn parse_generated(text: &str) -> Option<[u8; HEX]> {
    let text: [u8; HEX] = text.as_bytes().try_into().ok()?;
    text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(text)
}

/// As the text hashes, which an id can be found by.
impl hash::Hash for Id {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        Self::generated(text).unwrap_or_else(|| Self(Repr::Foreign(text.into())))
    }
}

impl From<String> for Id {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
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
            assert_eq!((id.as_str(), id.len()), (text, text.len()));
            assert_eq!(serde_json::from_str::<Id>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        }
    }

    #[test]
    fn generated_ids_are_32_lowercase_hex_characters() {
        let text = Id::random().to_string();
        assert!(parse_generated(&text).is_some(), "{text}");
        assert_ne!(Id::from(text.to_uppercase()), Id::from(text));
    }

    #[test]
    fn an_id_is_found_and_ordered_by_its_text() {
        let ids = ["b", "0af7651916cd43dd8448eb211c80319c", "a", "~"].map(Id::from);
        let set: std::collections::HashSet<_> = ids.iter().cloned().collect();
        let ordered: std::collections::BTreeSet<_> = ids.iter().cloned().collect();
        for id in &ids {
            assert!(set.contains(id.as_str()) && ordered.contains(id.as_str()), "{id}");
        }
        let texts: Vec<_> = ordered.iter().map(Id::as_str).collect();
        assert_eq!(texts, ["0af7651916cd43dd8448eb211c80319c", "a", "b", "~"]);
    }
}
