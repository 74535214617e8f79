use std::{collections::HashMap, env, fmt};

use crate::error::{Error, Result};

/// The environment variables that configure a bridge. One that is empty counts as not set; one that is not Unicode is
/// refused where it is asked for.
#[derive(Clone, Default)]
pub struct Variables(HashMap<String, Value>);

/// `None` is not Unicode.
type Value = Option<String>;

impl Variables {
    /// Reads those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let all = env::vars_os().filter(|(_, value)| !value.is_empty());
        Self(
            all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok())))
                .collect(),
        )
    }

    /// Returns a variable.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if it is not Unicode.
    pub fn get(&self, name: &str) -> Result<Option<&str>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(Error::invalid_config(format!("{name} is not Unicode"))),
        }
    }

    /// Returns a variable that is needed.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if it is not set.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.get(name)?.ok_or_else(|| Error::invalid_config(format!("{name} is not set")))
    }

    /// Returns a variable as a number.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if it is none, or out of range.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>> {
        let parse =
            |text: &str| text.parse().map_err(|_| Error::invalid_config(format!("{name} is no such number")));
        self.get(name)?.map(parse).transpose()
    }

    /// Returns two variables that belong together.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if only one of them is set.
    pub fn pair(&self, one: &str, other: &str) -> Result<Option<(&str, &str)>> {
        match (self.get(one)?, self.get(other)?) {
            (Some(one), Some(other)) => Ok(Some((one, other))),
            (None, None) => Ok(None),
            _ => Err(Error::invalid_config(format!("{one} and {other} belong together"))),
        }
    }

    /// Hands a variable to a setter, if it is set.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if one is not Unicode.
    pub fn apply<B>(&self, builder: B, name: &str, set: fn(B, String) -> B) -> Result<B> {
        Ok(match self.get(name)? {
            Some(value) => set(builder, value.to_owned()),
            None => builder,
        })
    }

    /// Hands two variables that belong together to a setter, if they are set.
    ///
    /// # Errors
    ///
    /// As with [`pair`](Self::pair).
    pub fn apply_pair<B>(
        &self,
        builder: B,
        one: &str,
        other: &str,
        set: fn(B, String, String) -> B,
    ) -> Result<B> {
        Ok(match self.pair(one, other)? {
            Some((one, other)) => set(builder, one.to_owned(), other.to_owned()),
            None => builder,
        })
    }

    /// Refuses variables of which each would take the place of the others.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if more than one of them is set.
    pub fn at_most_one(&self, names: &[&str]) -> Result<()> {
        match names.iter().filter(|name| self.0.contains_key(**name)).count() {
            0 | 1 => Ok(()),
            _ => Err(Error::invalid_config(format!("of {} one can be set", names.join(", ")))),
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let set = variables.filter(|(_, value): &(String, String)| !value.is_empty());
        Self(set.map(|(name, value)| (name, Some(value))).collect())
    }
}

/// Shows no values, as they may be secrets.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_found() {
        let variables: Variables = [("ONE", "1"), ("EMPTY", ""), ("TEXT", "text")].into_iter().collect();
        assert_eq!(
            ["ONE", "EMPTY", "NONE"].map(|name| variables.get(name).unwrap()),
            [Some("1"), None, None]
        );
        assert_eq!(variables.number::<u16>("ONE").unwrap(), Some(1));
        assert_eq!(variables.number::<u16>("NONE").unwrap(), None);
        variables.number::<u16>("TEXT").unwrap_err();
        variables.required("EMPTY").unwrap_err();
        assert_eq!(variables.pair("ONE", "TEXT").unwrap(), Some(("1", "text")));
        assert_eq!(variables.pair("EMPTY", "NONE").unwrap(), None);
        variables.pair("ONE", "EMPTY").unwrap_err();
        let (one, both) = (
            |set: String, value: String| set + &value,
            |set: String, one: String, other: String| set + &one + &other,
        );
        assert_eq!(variables.apply("set: ".to_owned(), "TEXT", one).unwrap(), "set: text");
        assert_eq!(variables.apply("set: ".to_owned(), "EMPTY", one).unwrap(), "set: ");
        assert_eq!(variables.apply_pair("set: ".to_owned(), "ONE", "TEXT", both).unwrap(), "set: 1text");
        assert_eq!(variables.apply_pair("set: ".to_owned(), "EMPTY", "NONE", both).unwrap(), "set: ");
        variables.apply_pair(String::new(), "ONE", "EMPTY", both).unwrap_err();
        variables.at_most_one(&["ONE", "EMPTY", "NONE"]).unwrap();
        variables.at_most_one(&["ONE", "TEXT"]).unwrap_err();
        assert!(!format!("{variables:?}").contains("text"), "{variables:?}");
    }

    #[test]
    fn what_is_not_unicode_is_not_left_out() {
        let variables = Variables(HashMap::from([("ODD".to_owned(), None)]));
        for refused in [
            variables.get("ODD").map(drop),
            variables.required("ODD").map(drop),
            variables.number::<u16>("ODD").map(drop),
            variables.pair("ODD", "NONE").map(drop),
            variables.apply(String::new(), "ODD", |set, value| set + &value).map(drop),
        ] {
            assert_eq!(refused.unwrap_err().kind(), crate::ErrorKind::InvalidConfig);
        }
    }
}
