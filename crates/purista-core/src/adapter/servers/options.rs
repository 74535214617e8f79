use std::{collections::BTreeMap, fmt};

use fluent_uri::pct_enc::{EStr, encoder::Query};

use super::{
    ServerUrl, UrlScheme,
    list::{bounded, separated},
    refused,
    url::{decoded, trimmed},
};
use crate::{
    adapter::{OptionText, UrlOption},
    error::{Error, Result},
};

/// The options of a bridge that stand in its URL, apart from the servers.
///
/// They are pairs `name=value` behind the last server: in its query, together with what the query of the broker's own URLs can
/// say, or, where the query is the broker's alone, in its fragment, which is behind `#`. Names and values are
/// percent-encoded. What is not known is refused, and so is what stands there twice, or before another server.
///
/// ```
/// use purista_core::adapter::{UrlOptions, UrlScheme};
///
/// const SCHEMES: &[UrlScheme] = &[UrlScheme::plain("nats", 4222)];
/// let split = |url| UrlOptions::split(url, SCHEMES, &[], &["prefix"]);
/// let (servers, _options) = split("nats://one,two?prefix=acme")?;
/// assert_eq!(servers, "nats://one,two");
/// assert!(split("nats://one?prefx=acme").unwrap_err().to_string().contains("known are prefix"));
/// # Ok::<_, purista_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct UrlOptions {
    given: BTreeMap<String, OptionText>,
    /// The names of what else the query says.
    parameters: Vec<String>,
    has_user: bool,
}

impl UrlOptions {
    /// Takes the options out of a URL, or a list of URLs, and returns the servers without them, otherwise as they are written.
    ///
    /// `parameters` are what the query of the broker's own URLs can say; they stay. `known` are the options.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for an option that is not known, has no value, is there twice or
    /// before another server, or is not percent-encoded. The error repeats no part of the URL, as it may be a secret.
    pub fn split(
        text: &str,
        schemes: &[UrlScheme],
        parameters: &[&str],
        known: &[&str],
    ) -> Result<(String, Self)> {
        let text = trimmed(bounded(text)?);
        let entries = separated(text)?;
        let Some((server, earlier)) = entries.split_last() else {
            return Ok((text.to_owned(), Self::default()));
        };
        if earlier.iter().filter_map(|entry| query_of(entry)).any(|query| has_name(query, known)) {
            return Err(refused("options stand behind the last server of a list"));
        }
        let has_own_query = ServerUrl::scheme_of(trimmed(server))
            .and_then(|name| schemes.iter().find(|scheme| scheme.is_named(&name)))
            .is_some_and(|scheme| scheme.has_own_query());
        let split = if has_own_query { server.split_once('#') } else { server.split_once('?') };
        let mut options = Self { has_user: entries.iter().any(|entry| has_user(entry)), ..Self::default() };
        let Some((server, written)) = split else {
            // Where it goes to the broker, it would not do what it says.
            if has_own_query && query_of(server).is_some_and(|query| has_name(query, known)) {
                return Err(refused(
                    "the query of a WebSocket is the broker's alone: options stand behind #; if the query is the broker's \
                     although it has the name of an option, the URL ends with #",
                ));
            }
            return Ok((text.to_owned(), options));
        };
        if written.contains('@') {
            return Err(refused(
                "/ ? and # in user or password are written %2F, %3F and %23; elsewhere @ is %40",
            ));
        }
        for query in earlier.iter().filter_map(|entry| query_of(entry)) {
            let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
            let names = names.filter_map(|name| text_of(name).ok());
            options.parameters.extend(names.filter(|name| parameters.contains(&name.as_str())));
        }
        let parameters = if has_own_query { &[] } else { parameters };
        let kept = options.read(written, parameters, known)?;
        let before = &text[..text.len() - written.len() - 1];
        debug_assert!(before.ends_with(server));
        let servers =
            if kept.is_empty() { before.to_owned() } else { format!("{before}?{}", kept.join("&")) };
        Ok((servers, options))
    }

    /// Reads what is written behind the servers, and returns what of it is the broker's own.
    fn read<'t>(&mut self, written: &'t str, parameters: &[&str], known: &[&str]) -> Result<Vec<&'t str>> {
        let mut kept = Vec::new();
        for (index, pair) in written.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            let unknown = || unknown(index + 1, known, parameters);
            let (name, value) = pair.split_once('=').ok_or_else(unknown)?;
            let name = text_of(name)?;
            if parameters.contains(&name.as_str()) {
                kept.push(pair);
                self.parameters.push(name);
                continue;
            }
            let name = known.iter().find(|known| **known == name).ok_or_else(unknown)?;
            // Commas are looked for before anything is decoded, so that %2C is part of a value.
            let parts = value.split(',').map(text_of).collect::<Result<_>>()?;
            if self.given.insert((*name).to_owned(), OptionText::new(name, parts)).is_some() {
                return Err(refused(format!("the option {name} is there twice")));
            }
        }
        Ok(kept)
    }

    /// Sets all of them at a builder, in the order of these tables.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if a value is none for its option.
    pub fn apply<B>(&self, builder: B, tables: &[&[UrlOption<B>]]) -> Result<B> {
        let mut options = tables.iter().flat_map(|table| table.iter());
        options.try_fold(builder, |builder, option| match self.given.get(option.name()) {
            Some(text) => option.set(builder, text),
            None => Ok(builder),
        })
    }

    /// Refuses a URL that says the same thing in several of these ways: each is the name of an option, `?` and the name of a
    /// parameter of the broker's own, or `@` for user and password before the host.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if more than one of them is there.
    pub fn at_most_one(&self, ways: &[&str]) -> Result<()> {
        let is_there = |way: &&&str| match way.strip_prefix('?') {
            Some(parameter) => self.parameters.iter().any(|there| there == parameter),
            None if **way == "@" => self.has_user,
            None => self.given.contains_key(**way),
        };
        if ways.iter().filter(is_there).count() < 2 {
            return Ok(());
        }
        let name = |way: &&str| match *way {
            "@" => "user and password".to_owned(),
            way => way.trim_start_matches('?').to_owned(),
        };
        let names: Vec<_> = ways.iter().map(name).collect();
        Err(refused(format!("of {} a URL can say one", names.join(", "))))
    }
}

/// Shows no values, as they may be secrets.
impl fmt::Debug for UrlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.given.keys()).finish()
    }
}

fn unknown(position: usize, known: &[&str], parameters: &[&str]) -> Error {
    let all: Vec<_> = known.iter().chain(parameters).copied().collect();
    refused(format!(
        "option {position} of the URL is not known, or has no value; known are {}",
        all.join(", ")
    ))
}

fn text_of(written: &str) -> Result<String> {
    let encoded = EStr::<Query>::new(written).ok_or_else(|| {
        refused("a character in an option is not one of a URL: it is percent-encoded, # is %23, and % is %25")
    })?;
    decoded(encoded, "an option")
}

fn query_of(entry: &str) -> Option<&str> {
    entry.split('#').next()?.split_once('?').map(|(_, query)| query)
}

fn has_name(query: &str, known: &[&str]) -> bool {
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    names.filter_map(|name| text_of(name).ok()).any(|name| known.contains(&name.as_str()))
}

fn has_user(entry: &str) -> bool {
    let start = entry.find("://").map_or(0, |end| end + "://".len());
    entry[start..].split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}
