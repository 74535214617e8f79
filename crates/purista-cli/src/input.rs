//! JSON that a user writes, or has in a file.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Read},
    str::FromStr,
};

use purista::Payload;

use crate::outcome::Failure;

/// The most that is read, in bytes; no broker takes more.
const LIMIT: u64 = 64 * 1024 * 1024;

/// Where a JSON text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Here(String),
    File(String),
    StandardInput,
}

impl FromStr for Text {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix('@') {
            Some(path) => Self::File(path.to_owned()),
            None if text == "-" => Self::StandardInput,
            None => Self::Here(text.to_owned()),
        })
    }
}

impl Text {
    /// Reads it; `what` names it for errors.
    pub(crate) fn read(self, what: &str) -> Result<Payload, Failure> {
        let text = match self {
            Self::Here(text) => text,
            Self::File(path) => {
                let file = File::open(&path).and_then(read_all);
                file.map_err(|error| {
                    Failure::usage(format!("{what}: the file {path} cannot be read: {error}"))
                })?
            }
            Self::StandardInput => read_all(io::stdin().lock())
                .map_err(|error| Failure::usage(format!("{what}: standard input cannot be read: {error}")))?,
        };
        Payload::from_json_text(text).map_err(|error| {
            let told = error.to_string();
            let why = told.split_once(": ").map_or(&*told, |(_operation, why)| why);
            let hint = "a text has quotes of its own, '\"Ada\"', and a file an @ before its name";
            Failure::usage(format!("{what}: {why}; {hint}"))
        })
    }
}

fn read_all(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    let read = source.take(LIMIT + 1).read_to_string(&mut text)?;
    if read as u64 > LIMIT {
        return Err(io::Error::other(format!("it has more than {LIMIT} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_limit_is_not_read() {
        assert!(read_all(io::repeat(b'1').take(LIMIT)).is_ok());
        assert!(read_all(io::repeat(b'1')).is_err_and(|error| error.to_string().contains("more than")));
    }
}
