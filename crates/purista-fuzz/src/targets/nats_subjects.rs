//! What NATS says in text: subjects of acknowledgements, errors, and how often a message had failed.

use purista_nats::fuzzing as nats;

use crate::{Verdict, input};

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let mut fields = input::texts(data);
    let [reply_to, error, noted] = std::array::from_fn(|_| fields.next().unwrap_or_default());
    let info = nats::delivery_info(&reply_to);
    if let Some((delivered, sequence)) = info {
        for form in ["$JS.ACK.s.c.", "$JS.ACK._.account.s.c."] {
            let written = format!("{form}{delivered}.{sequence}.1.1700000000000000000.0");
            assert_eq!(nats::delivery_info(&written), info, "{written}");
        }
        assert!(reply_to.starts_with("$JS.ACK."), "{reply_to}");
    }
    let subject = nats::violation(&error);
    // The server escapes what it quotes.
    if let Some(subject) = subject.as_ref().filter(|_| !error.contains('\\')) {
        assert!(error.contains(&format!("\"{subject}")), "{error}");
    }
    let delivered = info.map_or(u32::MAX, |(delivered, _)| delivered);
    for delivered in [delivered, 0, 1, 2] {
        let attempt = nats::attempt(noted.as_bytes(), delivered);
        assert!(attempt >= 1, "{noted} {delivered}");
    }
    Verdict::accepted(info.is_some() || subject.is_some())
}
