//! Errors with what caused them, on one line.

use std::{error::Error as StdError, fmt};

/// How many causes are told, and how much of each, in bytes.
const MOST: (usize, usize) = (8, 300);

/// Displays an error and its causes, each after a colon.
pub(crate) struct WithCauses<'a>(pub(crate) &'a (dyn StdError + 'static));

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.0.to_string();
        f.write_str(&told)?;
        write_causes(f, told, self.0.source())
    }
}

/// Writes causes after what is told already; those that it says itself are left out.
pub(crate) fn write_causes(
    f: &mut fmt::Formatter<'_>,
    mut told: String,
    mut cause: Option<&(dyn StdError + 'static)>,
) -> fmt::Result {
    for _ in 0..MOST.0 {
        let Some(error) = cause else { break };
        let text = error.to_string();
        if !told.contains(&text) {
            write!(f, ": {}", &text[..text.floor_char_boundary(MOST.1)])?;
            told.push_str(&text);
        }
        cause = error.source();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind, HandlerError, InvokeError};

    #[derive(Debug)]
    struct Outer(Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the order failed")
        }
    }

    impl StdError for Outer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn causes_are_told_once() {
        let refused = std::io::Error::other("refused");
        let inner = Error::new(ErrorKind::Unavailable, "connect").context("2 of 3 servers").source(refused);
        let error = Error::new(ErrorKind::Unavailable, "start").bridge("test").source(inner.clone());
        let cause = "connect: the broker cannot be reached (2 of 3 servers): refused";
        let told = format!("start on the test bridge: the broker cannot be reached: {cause}");
        assert_eq!(error.to_string(), told);
        assert_eq!(HandlerError::from(error.clone()).to_string(), told);
        assert_eq!(InvokeError::from(error.clone()).to_string(), told);
        assert_eq!(format!("{error:?}").matches("caused by").count(), 2, "{error:?}");
        assert_eq!(HandlerError::from(Outer(inner)).to_string(), format!("the order failed: {cause}"));
    }

    #[test]
    fn long_causes_are_cut() {
        let long = std::io::Error::other("\u{e9}".repeat(10_000));
        let told = Error::new(ErrorKind::Unexpected, "emit").source(long).to_string();
        assert!(told.len() < 400, "{} bytes", told.len());
    }
}
