//! What the server says of a pull request instead of a message.

use async_nats::StatusCode;

/// What becomes of a pull request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is over, or was used up.
    Over,
    /// The consumer is gone.
    Gone,
    /// The consumer is about to be elsewhere.
    Moved,
    /// It can never be met; with the largest batch that can, if that is the reason.
    Refused(Option<usize>),
}

/// Reads a status, with its description in lower case.
pub(crate) fn what_is_said(status: StatusCode, description: &str) -> Said {
    let says = |text: &str| description.contains(text);
    if status == StatusCode::NO_RESPONDERS || says("consumer deleted") || says("stream deleted") {
        return Said::Gone;
    }
    if says("leadership change") || says("server shutdown") {
        return Said::Moved;
    }
    if says("exceeded maxrequestbatch") {
        let most = description.rsplit(' ').next().and_then(|most| most.parse().ok());
        return Said::Refused(most.filter(|most| *most > 0));
    }
    let is_refused = ["exceeded", "push based", "bad request", "pin id", "invalid"].into_iter().any(says);
    // A message that is larger than the request allows is no refusal.
    if (is_refused && !says("maxbytes")) || status.as_u16() == 400 || status.as_u16() == 423 {
        return Said::Refused(None);
    }
    Said::Over
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_of_the_server_is_read() {
        for (status, description, said) in [
            (503, "", Said::Gone),
            (409, "consumer deleted", Said::Gone),
            (409, "leadership change", Said::Moved),
            (409, "server shutdown", Said::Moved),
            (409, "exceeded maxwaiting", Said::Refused(None)),
            (409, "exceeded maxrequestbatch of 5", Said::Refused(Some(5))),
            (409, "exceeded maxrequestexpires of 1s", Said::Refused(None)),
            (409, "consumer is push based", Said::Refused(None)),
            (409, "message size exceeds maxbytes", Said::Over),
            (409, "exceeded maxrequestmaxbytes of 1", Said::Over),
            (409, "batch completed", Said::Over),
            (400, "bad request - invalid json", Said::Refused(None)),
            (423, "nats-pin-id mismatch", Said::Refused(None)),
            (404, "no messages", Said::Over),
            (408, "request timeout", Said::Over),
            (408, "requests pending", Said::Over),
        ] {
            let code = StatusCode::from_u16(status).unwrap();
            assert_eq!(what_is_said(code, description), said, "{status} {description}");
        }
    }
}
