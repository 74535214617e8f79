use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::text::text;

/// An immutable piece of text that is cheap to clone: a service name, an event name, a tenant.
///
/// Up to 23 bytes are stored in place; longer text is shared. The text is compared byte by byte: nothing is
/// normalised, so `acme-1` and `acme_1` are two names.
///
/// ```
/// use purista_core::Name;
///
/// let name = Name::from("acme-1");
/// assert_eq!((name.as_str(), name.clone().to_string()), ("acme-1", "acme-1".to_owned()));
/// assert_ne!(name, "acme_1");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(SmolStr);

text!(Name);

impl Name {
    /// Creates a name from text that lives as long as the program, without copying it.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(SmolStr::new_static(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}
