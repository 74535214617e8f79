//! What brokers say, in text, when they refuse: limits are those that they tell.

use purista_amqp::fuzzing as amqp;
use purista_nats::fuzzing as nats;

use crate::{Verdict, input};

/// Checks one input: a status and its description, as of NATS, and a text, as of RabbitMQ.
pub fn run(data: &[u8]) -> Verdict {
    let mut fields = input::texts(data);
    let [status, description, text] = std::array::from_fn(|_| fields.next().unwrap_or_default());
    let most = status.parse().ok().and_then(|status| nats::largest_batch(status, &description));
    if let Some(most) = most {
        assert!(most > 0, "{description}");
        assert_eq!(last_number(&description), Some(most));
    }
    // Longer ones are none that can be sent.
    let text = &text[..text.floor_char_boundary(255)];
    let limit = amqp::max_message_size(text);
    if let Some(limit) = limit {
        assert!(numbers(text).any(|number| number == Some(limit)), "{limit} of {text:?}");
    }
    Verdict::accepted(most.is_some() || limit.is_some())
}

fn numbers(text: &str) -> impl DoubleEndedIterator<Item = Option<usize>> {
    let digits = text.split(|character: char| !character.is_ascii_digit());
    digits.filter(|digits| !digits.is_empty()).map(|digits| digits.parse().ok())
}

fn last_number(text: &str) -> Option<usize> {
    numbers(text).next_back()?
}
