use std::{collections::HashMap, env};

use crate::error::{Error, Result};

/// The name of a variable, and what a builder does with it.
pub type Setter<'n, B> = (&'n str, fn(B, String) -> B);

/// The environment variables that configure a bridge. One that is empty counts as not set.
#[derive(Clone, Debug, Default)]
pub struct Variables(HashMap<String, String>);

impl Variables {
    /// Reads those of this process. What is no Unicode is left out.
    #[must_use]
    pub fn of_process() -> Self {
        env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// Returns a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns a variable that is needed.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if it is not set.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| Error::invalid_config(format!("{name} is not set")))
    }

    /// Returns a variable as a number.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if it is none, or out of range.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>> {
        let parse =
            |text: &str| text.parse().map_err(|_| Error::invalid_config(format!("{name} is no such number")));
        self.get(name).map(parse).transpose()
    }

    /// Returns two variables that belong together.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if only one of them is set.
    pub fn pair(&self, one: &str, other: &str) -> Result<Option<(&str, &str)>> {
        match (self.get(one), self.get(other)) {
            (Some(one), Some(other)) => Ok(Some((one, other))),
            (None, None) => Ok(None),
            _ => Err(Error::invalid_config(format!("{one} and {other} belong together"))),
        }
    }

    /// Hands each variable that is set to its setter.
    pub fn apply<B>(&self, builder: B, setters: &[Setter<'_, B>]) -> B {
        setters.iter().fold(builder, |builder, (name, set)| match self.get(name) {
            Some(value) => set(builder, value.to_owned()),
            None => builder,
        })
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self(variables.filter(|(_, value): &(String, String)| !value.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_found() {
        let variables: Variables = [("ONE", "1"), ("EMPTY", ""), ("TEXT", "text")].into_iter().collect();
        assert_eq!(
            (variables.get("ONE"), variables.get("EMPTY"), variables.get("NONE")),
            (Some("1"), None, None)
        );
        assert_eq!(variables.number::<u16>("ONE").unwrap(), Some(1));
        assert_eq!(variables.number::<u16>("NONE").unwrap(), None);
        variables.number::<u16>("TEXT").unwrap_err();
        variables.required("EMPTY").unwrap_err();
        assert_eq!(variables.pair("ONE", "TEXT").unwrap(), Some(("1", "text")));
        assert_eq!(variables.pair("EMPTY", "NONE").unwrap(), None);
        variables.pair("ONE", "EMPTY").unwrap_err();
        let set: [Setter<'_, String>; 2] =
            [("TEXT", |builder, value| builder + &value), ("EMPTY", |builder, _| builder + "empty")];
        assert_eq!(variables.apply("set: ".to_owned(), &set), "set: text");
    }
}
