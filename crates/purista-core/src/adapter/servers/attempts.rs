use super::ServerUrl;
use crate::error::{Error, ErrorKind};

/// Collects why no server of a list could be used, and returns one error for all: that of the attempt that came furthest,
/// because it is the most specific; of several, that of the first server.
#[derive(Debug, Default)]
pub struct Attempts {
    failed: usize,
    telling: Option<(ServerUrl, Error)>,
}

impl Attempts {
    /// Adds the error of one server.
    pub fn failed(&mut self, server: &ServerUrl, error: Error) {
        tracing::debug!(?error, %server, "not connected");
        self.failed += 1;
        if self.telling.as_ref().is_none_or(|(_, telling)| progress(telling.kind()) < progress(error.kind()))
        {
            self.telling = Some((server.clone(), error));
        }
    }

    /// Returns the error for all of them.
    #[must_use]
    pub fn into_error(self) -> Error {
        match self.telling {
            Some((server, error)) if self.failed > 1 => {
                error.and_context(format!("none of {} servers can be used: this is of {server}", self.failed))
            }
            Some((_, error)) => error,
            None => Error::new(ErrorKind::Unavailable, "start").with_context("there is no server"),
        }
    }
}

/// Returns how far an attempt came that failed like this.
const fn progress(kind: ErrorKind) -> u8 {
    match kind {
        // Nobody is there, or does not answer.
        kind if kind.is_temporary() => 0,
        // Something answers.
        ErrorKind::Unexpected => 1,
        ErrorKind::Tls => 2,
        ErrorKind::Unauthenticated => 3,
        ErrorKind::Forbidden => 4,
        // It lets us in, and lacks what we need; or our own files cannot be read.
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{ServerList, UrlScheme};

    const SCHEMES: &[UrlScheme] = &[UrlScheme::plain("amqp", 5_672)];

    fn told(kinds: &[ErrorKind]) -> String {
        let list = ServerList::parse("amqp://ada:s3cret@one,amqp://two,amqp://[::1]:3", SCHEMES).unwrap();
        let mut attempts = Attempts::default();
        for (server, kind) in list.iter().zip(kinds) {
            attempts.failed(server, Error::new(*kind, "start").with_bridge("amqp").with_context("why"));
        }
        attempts.into_error().to_string()
    }

    #[tokio::test]
    async fn the_first_server_that_takes_the_connection_is_the_last_one_that_is_tried() {
        let list = ServerList::parse("amqp://one,amqp://two,amqp://three", SCHEMES).unwrap();
        let tried = parking_lot::Mutex::new(Vec::new());
        let connect = async |server: &ServerUrl, taker: &str| {
            tried.lock().push(server.to_string());
            if server.to_string() == taker {
                Ok(())
            } else {
                Err(Error::new(ErrorKind::Unavailable, "start"))
            }
        };
        list.first_that_takes(|server| connect(server, "amqp://two:5672")).await.unwrap();
        assert_eq!(*tried.lock(), ["amqp://one:5672", "amqp://two:5672"]);
        let none = list.first_that_takes(|server| connect(server, "amqp://four:5672")).await.unwrap_err();
        assert_eq!(none.kind(), ErrorKind::Unavailable);
        assert_eq!(tried.lock().len(), 5);
    }

    #[test]
    fn the_attempt_that_came_furthest_tells() {
        use ErrorKind::{Forbidden, InvalidConfig, Tls, Unauthenticated, Unavailable, Unexpected};
        let one = "start on the amqp bridge: the broker cannot be reached (why)";
        assert_eq!(told(&[Unavailable]), one);
        let of = |server: &str, kind: &str| {
            format!(
                "start on the amqp bridge: {kind} (why; none of 3 servers can be used: this is of amqp://{server})"
            )
        };
        let table = [
            ([Unavailable, Unavailable, Unavailable], "one:5672", Unavailable),
            ([Unavailable, Unavailable, Tls], "[::1]:3", Tls),
            ([Unavailable, Tls, Unexpected], "two:5672", Tls),
            ([Unauthenticated, Tls, Unavailable], "one:5672", Unauthenticated),
            ([Unavailable, Unauthenticated, Unauthenticated], "two:5672", Unauthenticated),
            ([Unauthenticated, Forbidden, Unavailable], "two:5672", Forbidden),
            ([InvalidConfig, Forbidden, Unavailable], "one:5672", InvalidConfig),
        ];
        for (kinds, server, kind) in table {
            assert_eq!(told(&kinds), of(server, &kind.to_string()), "{kinds:?}");
        }
        assert_eq!(told(&[]), "start: the broker cannot be reached (there is no server)");
    }
}
