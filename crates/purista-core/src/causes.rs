//! Errors with what caused them, on one line.

use std::{error::Error as StdError, fmt, io, iter};

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

/// Returns an error and what caused it, one after the other: also what an [`io::Error`] wraps, which it does not call its
/// source.
pub fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    iter::successors(Some(error), |cause| {
        let cause: &'e (dyn StdError + 'static) = *cause;
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        }
    })
}

/// Returns whether a failure of a socket says that the peer closed it.
#[must_use]
pub const fn is_closed(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
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
    fn what_a_failure_of_a_socket_wraps_is_a_cause() {
        let refused = Error::new(ErrorKind::Tls, "start").with_source(fmt::Error);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, refused);
        let outer = Outer(Error::new(ErrorKind::Unavailable, "connect").with_source(wrapped));
        let kinds: Vec<_> =
            causes(&outer).filter_map(|cause| cause.downcast_ref()).map(Error::kind).collect();
        assert_eq!(kinds, [ErrorKind::Unavailable, ErrorKind::Tls]);
        assert!(causes(&outer).last().is_some_and(|cause| cause.is::<fmt::Error>()));
    }

    #[test]
    fn causes_are_told_once() {
        let refused = io::Error::other("refused");
        let inner =
            Error::new(ErrorKind::Unavailable, "connect").with_context("2 of 3 servers").with_source(refused);
        let error =
            Error::new(ErrorKind::Unavailable, "start").with_bridge("test").with_source(inner.clone());
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
        let long = io::Error::other("\u{e9}".repeat(10_000));
        let told = Error::new(ErrorKind::Unexpected, "emit").with_source(long).to_string();
        assert!(told.len() < 400, "{} bytes", told.len());
    }
}
