//! How a command line ends, and the exit code that tells it.

use std::{fmt::Write as _, process::ExitCode};

use purista::{Error, ErrorKind, InvokeError, Payload, StatusCode};

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal $name:literal $meaning:literal;)*) => {
        /// How it ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Outcome {
            $($variant,)*
        }

        impl Outcome {
            const ALL: &'static [(u8, &'static str, &'static str)] = &[$(($code, $name, $meaning),)*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)* }
            }
        }
    };
}

outcomes! {
    Ok = 0 "ok" "it is done";
    Failed = 1 "failed" "anything that is not listed here";
    Usage = 2 "usage" "the arguments, the JSON or the URL are wrong: nothing was sent";
    Handled = 3 "handled" "the service answered with an error that it means its caller to see";
    Unhandled = 4 "unhandled" "the service failed";
    Nobody = 5 "nobody" "nobody serves the command, not this instance, or nobody gets the event that must be got";
    Timeout = 6 "timeout" "the time limit passed: the command may be executed, the event may arrive";
    Unreachable = 7 "unreachable" "the broker cannot be reached, or the connection was lost";
    Denied = 8 "denied" "the broker refused credentials or permission, or the connection is not secure";
    Unsupported = 9 "unsupported" "the broker cannot do what an option asks for, or holds something else";
    Refused = 10 "refused" "the message is too large or has too long a name, or the answer cannot be read";
    Busy = 11 "busy" "a limit was reached: try again later";
    Unhealthy = 12 "unhealthy" "a check of the doctor failed";
}

impl Outcome {
    pub(crate) fn exit_code(self) -> ExitCode {
        self.code().into()
    }

    /// Returns the table of all exit codes, for the help.
    pub(crate) fn table() -> String {
        Self::ALL.iter().fold("Exit codes:".to_owned(), |mut table, (code, name, meaning)| {
            let _always = write!(table, "\n  {code:>2}  {name:<12} {meaning}");
            table
        })
    }

    const fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidConfig => Self::Usage,
            ErrorKind::NoHandler | ErrorKind::OtherInstance | ErrorKind::Unroutable => Self::Nobody,
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Unavailable => Self::Unreachable,
            ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::Tls => Self::Denied,
            ErrorKind::Unsupported(_) | ErrorKind::TopologyMismatch => Self::Unsupported,
            ErrorKind::InvalidMessage | ErrorKind::PayloadTooLarge { .. } => Self::Refused,
            ErrorKind::Backpressure => Self::Busy,
            _ => Self::Failed,
        }
    }
}

/// Why something did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    pub(crate) message: String,
    pub(crate) status: Option<StatusCode>,
    pub(crate) data: Option<Payload>,
}

impl Failure {
    pub(crate) fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self { outcome, message: message.into(), status: None, data: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Outcome::Usage, message)
    }

    /// A start that takes too long did not reach the broker, whatever took so long.
    pub(crate) fn of_start(error: &Error) -> Self {
        let outcome = match Outcome::of(error.kind()) {
            Outcome::Timeout => Outcome::Unreachable,
            outcome => outcome,
        };
        Self::new(outcome, error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Outcome::of(error.kind()), error.to_string())
    }
}

impl From<InvokeError> for Failure {
    fn from(error: InvokeError) -> Self {
        match error {
            InvokeError::Handled(error) => Self {
                outcome: Outcome::Handled,
                message: error.message().to_owned(),
                status: Some(error.status()),
                data: error.data().cloned(),
            },
            InvokeError::Unhandled(status) => Self {
                outcome: Outcome::Unhandled,
                message: "the command failed; the log of its service tells why".to_owned(),
                status: Some(status),
                data: None,
            },
            InvokeError::Bridge(error) => error.into(),
            other => Self::new(Outcome::Failed, other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_code_and_stands_in_the_readme() {
        let readme = include_str!("../README.md");
        for (index, (code, name, meaning)) in Outcome::ALL.iter().enumerate() {
            assert_eq!(index, usize::from(*code));
            assert!(
                readme.contains(&format!("| {code} | `{name}` | {meaning} |")),
                "{code} {name} {meaning}"
            );
        }
    }
}
