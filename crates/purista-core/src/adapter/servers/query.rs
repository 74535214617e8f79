use std::{collections::BTreeMap, fmt, str::FromStr};

use fluent_uri::pct_enc::{EStr, encoder::Query};

use super::{refused, url::decoded};
use crate::error::Result;

/// The parameters in the query of a URL.
#[derive(Clone, Default)]
pub struct Parameters(BTreeMap<String, String>);

impl Parameters {
    pub(super) fn read(query: &str, known: &[&str]) -> Result<Self> {
        let unknown = || {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            refused(format!(
                "the query of a server's URL has a parameter that is not known; known are {known}"
            ))
        };
        let mut parameters = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(unknown)?;
            let text = |text| decoded(EStr::<Query>::new(text).unwrap_or(EStr::EMPTY), "query");
            let (name, value) = (text(name)?, text(value)?);
            if !known.contains(&name.as_str()) {
                return Err(unknown());
            }
            if parameters.insert(name, value).is_some() {
                return Err(refused("the query of a server's URL has a parameter twice"));
            }
        }
        Ok(Self(parameters))
    }

    /// Returns a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns a parameter as a number.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if it is none, or out of range.
    pub fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>> {
        let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let parse = |text: &str| {
            let number = Some(text).filter(is_number).and_then(|text| text.parse().ok());
            number.ok_or_else(|| refused(format!("{name} in the query of a server's URL is no such number")))
        };
        self.get(name).map(parse).transpose()
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
