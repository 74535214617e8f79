//! Subjects, topics and routing keys: nothing in a message acts as a separator or a wildcard, all stays within the
//! broker's limits, and a subscription's pattern finds each message that its filter takes.

use arbitrary::{Arbitrary, Result, Unstructured};
use purista_core::{Filter, Id, Message, MessageType};

use crate::{Verdict, names};

const TOKENS: usize = 13;

/// What a short string of AMQP holds.
const MAX_SHORT_STRING: usize = 255;

/// What the server reads of a line by default is 4,096 bytes; other subjects stand beside it.
const MAX_SUBJECT: usize = 3_500;

/// Stands in the same line as the subject.
const MAX_GROUP: usize = 1_024;

const MAX_TOPIC: usize = 65_535;

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    Verdict::accepted(check(&mut Unstructured::new(data)).unwrap_or(false))
}

fn check(bytes: &mut Unstructured<'_>) -> Result<bool> {
    let prefix = prefix(bytes)?;
    let message = names::message(bytes)?;
    let filter = names::filter(bytes, &message)?;
    let is_match = filter.matches(&message);
    nats(&prefix, &message, &filter, is_match);
    mqtt(&prefix, &message, &filter, is_match);
    amqp(&prefix, &message, &filter, is_match);
    dapr(&message);
    Ok(is_match)
}

/// Makes a prefix that the configuration takes.
fn prefix(bytes: &mut Unstructured<'_>) -> Result<String> {
    if u8::arbitrary(bytes)? < 128 {
        return Ok("purista".to_owned());
    }
    let mut prefix: String =
        names::name(bytes)?.chars().filter(|character| !character.is_control()).collect();
    prefix.truncate(prefix.floor_char_boundary(64));
    let is_taken = !prefix.is_empty() && !prefix.starts_with('$');
    Ok(if is_taken { prefix } else { "p".to_owned() })
}

/// Decides whether a pattern finds an address, token by token.
fn finds(pattern: &str, address: &str, separator: char, wildcard: &str) -> bool {
    let (mut pattern, mut address) = (pattern.split(separator), address.split(separator));
    loop {
        match (pattern.next(), address.next()) {
            (None, None) => return true,
            (Some(wanted), Some(token)) if wanted == wildcard || wanted == token => {}
            _ => return false,
        }
    }
}

fn check_address(address: &str, separator: char, reserved: &[char]) {
    assert_eq!(address.split(separator).count(), TOKENS, "{address}");
    let is_odd = |character: char| {
        character.is_whitespace() || character.is_control() || reserved.contains(&character)
    };
    assert!(
        !address.contains(is_odd) && address.split(separator).all(|token| !token.is_empty()),
        "{address}"
    );
}

fn nats(prefix: &str, message: &Message, filter: &Filter, is_match: bool) {
    use purista_nats::fuzzing as nats;
    let (subject, pattern) = (nats::subject(prefix, message), nats::pattern(prefix, filter));
    check_address(&subject, '.', &['*', '>', '$']);
    check_address(&pattern, '.', &['>', '$']);
    assert!(subject.len() < MAX_SUBJECT && pattern.len() < MAX_SUBJECT, "{subject} {pattern}");
    let is_found = finds(&pattern, &subject, '.', "*");
    assert!(is_found || !is_match, "{pattern} does not find {subject}");
    assert_eq!(nats::covers(&pattern, &subject), is_found);
    let sender = &message.sender.address;
    for name in nats::shared_names(prefix, sender) {
        assert!(name.len() < MAX_SUBJECT && !name.contains(char::is_whitespace), "{name}");
        assert!(name.split('.').all(|token| !token.is_empty()), "{name}");
    }
    let group = nats::queue_group(sender);
    let ends_it = |letter: char| letter.is_whitespace() || letter.is_control();
    assert!(group.len() <= MAX_GROUP && !group.contains(ends_it), "{group}");
}

fn mqtt(prefix: &str, message: &Message, filter: &Filter, is_match: bool) {
    use purista_mqtt::fuzzing as mqtt;
    let (topic, pattern) = (mqtt::topic(prefix, message), mqtt::pattern(prefix, filter));
    check_address(&topic, '/', &['+', '#', '$']);
    check_address(&pattern, '/', &['#', '$']);
    assert!(topic.len() <= MAX_TOPIC && rumqttc::valid_topic(&topic), "{topic}");
    assert!(rumqttc::valid_filter(&pattern), "{pattern}");
    assert!(finds(&pattern, &topic, '/', "+") || !is_match, "{pattern} does not find {topic}");
    assert_eq!(rumqttc::matches(&topic, &pattern), finds(&pattern, &topic, '/', "+"));
    let (sender, id) = (&message.sender.address, &message.sender.instance_id);
    for name in mqtt::shared_names(prefix, sender, id) {
        assert!(name.len() <= MAX_TOPIC && !name.contains(char::is_control), "{name}");
        assert!(name.split('/').all(|level| !level.is_empty()), "{name}");
    }
}

fn amqp(prefix: &str, message: &Message, filter: &Filter, is_match: bool) {
    use purista_amqp::fuzzing as amqp;
    let (address, pattern) = (amqp::address(prefix, message), amqp::pattern(prefix, filter));
    check_address(&address, '.', &['*', '#']);
    check_address(&pattern, '.', &['#']);
    assert!(pattern.len() <= MAX_SHORT_STRING, "{} bytes: {pattern}", pattern.len());
    assert!(finds(&pattern, &address, '.', "*") || !is_match, "{pattern} does not find {address}");
    for is_typescript in [false, true] {
        let (exchange, key, properties) = amqp::route(is_typescript, message).expect("the prefix can be");
        assert!(exchange.len() <= MAX_SHORT_STRING && key.len() <= MAX_SHORT_STRING, "{exchange} {key}");
        if is_typescript {
            assert_eq!(amqp::contradicts(message, properties.headers().as_ref()), None);
        }
    }
}

fn dapr(message: &Message) {
    use purista_dapr::fuzzing as dapr;
    let [app, path] = dapr::shared_names(&message.sender.address);
    let command = path.strip_prefix("purista/command/").expect("that is where commands are");
    for name in [&*app, command] {
        let is_safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        // As with the original, which makes no other name of it.
        assert!(name == "~" || !name.is_empty() && name.bytes().all(is_safe), "{name}");
    }
    if message.message_type() == MessageType::CustomMessage
        && let Some(event_name) = &message.event_name
    {
        let topic = dapr::topic(event_name, "all");
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        assert!(topic.bytes().all(is_safe) && (1..=128).contains(&topic.len()), "{topic}");
        assert!(topic != "all" && !topic.starts_with("amq.") && !topic.contains(".."), "{topic}");
    }
    let _text = Id::from(app);
}
