//! Names of queues, consumers, groups and clients: other parts, other names.

use arbitrary::{Arbitrary, Result, Unstructured};
use purista_core::{
    Id, ServiceAddress,
    routing::{AddressStyle, bounded_name, injective_name},
};

use crate::{Verdict, names};

/// What a digest and its mark need.
const DIGEST: usize = 34;

const MAX_PARTS: usize = 5;

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    Verdict::accepted(check(&mut Unstructured::new(data)).is_ok())
}

fn check(bytes: &mut Unstructured<'_>) -> Result<()> {
    let limit = DIGEST + usize::from(u8::arbitrary(bytes)?);
    let parts = parts(bytes)?;
    let others = if bool::arbitrary(bytes)? { near(bytes, &parts)? } else { self::parts(bytes)? };
    check_parts(&parts, limit);
    check_parts(&others, limit);
    let name = |parts: &[String], limit| bounded_name(&refs(parts), limit);
    assert_eq!(name(&parts, limit) == name(&others, limit), parts == others, "{parts:?} {others:?}");
    for part in &parts {
        check_token(part);
    }
    let one = (names::address(bytes)?, names::name(bytes)?);
    // Most differ in one part.
    let mut other = one.clone();
    match u8::arbitrary(bytes)? % 5 {
        0 => other.0.service_name = names::name(bytes)?.into(),
        1 => other.0.service_version = names::name(bytes)?.into(),
        2 => other.0.service_target = names::name(bytes)?.into(),
        3 => other.1 = names::name(bytes)?,
        _ => other = (names::address(bytes)?, names::name(bytes)?),
    }
    check_adapters(&one, &other);
    Ok(())
}

fn refs(parts: &[String]) -> Vec<&str> {
    parts.iter().map(String::as_str).collect()
}

/// Makes parts without a limit of length.
fn parts(bytes: &mut Unstructured<'_>) -> Result<Vec<String>> {
    let count = bytes.int_in_range(1..=MAX_PARTS)?;
    (0..count)
        .map(|_| match u8::arbitrary(bytes)? {
            0..=31 => Ok(String::new()),
            32..=159 => names::name(bytes),
            _ => Ok(<&str>::arbitrary(bytes)?.to_owned()),
        })
        .collect()
}

/// Makes parts that differ in little: one is cut in two, or two are joined, by what joins parts.
fn near(bytes: &mut Unstructured<'_>, parts: &[String]) -> Result<Vec<String>> {
    let mut near = parts.to_vec();
    let index = bytes.choose_index(near.len())?;
    if bool::arbitrary(bytes)? {
        let part = near.remove(index);
        let at = part.floor_char_boundary(bytes.int_in_range(0..=part.len())?);
        near.insert(index, part[at..].to_owned());
        near.insert(index, part[..at].to_owned());
    } else {
        let join = *bytes.choose(&["-", "_", "", "_-", "\u{0}"])?;
        let next = if index + 1 < near.len() { near.remove(index + 1) } else { String::new() };
        near[index].push_str(join);
        near[index].push_str(&next);
    }
    Ok(near)
}

fn check_parts(parts: &[String], limit: usize) {
    let whole = injective_name(&refs(parts));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    assert!(whole.bytes().all(is_plain), "{whole}");
    let expected: Vec<Vec<u8>> = parts.iter().map(|part| part.clone().into_bytes()).collect();
    assert_eq!(read_back(&whole), Some(expected), "{whole}");
    let bounded = bounded_name(&refs(parts), limit);
    if whole.len() <= limit {
        assert_eq!(bounded, whole);
    } else {
        assert_eq!(bounded.len(), limit);
        assert!(bounded.bytes().all(is_plain), "{bounded}");
        assert_eq!(read_back(&bounded), None, "a shorter name could be the same: {bounded}");
    }
}

/// Reads the parts of a name, by the grammar that is documented.
fn read_back(name: &str) -> Option<Vec<Vec<u8>>> {
    let mut parts = vec![Vec::new()];
    let (mut rest, mut is_empty_part) = (name.as_bytes(), false);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let part = parts.last_mut()?;
        match byte {
            b'-' => {
                if part.is_empty() && !is_empty_part {
                    return None;
                }
                is_empty_part = false;
                parts.push(Vec::new());
            }
            _ if is_empty_part => return None,
            b'_' if rest.starts_with(b"empty") && part.is_empty() => {
                rest = &rest[5..];
                is_empty_part = true;
            }
            b'_' => match rest {
                [plain @ (b'_' | b'-'), after @ ..] => {
                    part.push(*plain);
                    rest = after;
                }
                [high, low, after @ ..] => {
                    let digit = |digit: u8| match digit {
                        b'0'..=b'9' => Some(digit - b'0'),
                        b'a'..=b'f' => Some(digit - b'a' + 10),
                        _ => None,
                    };
                    let escaped = digit(*high)? << 4 | digit(*low)?;
                    if escaped.is_ascii_alphanumeric() || b"-_".contains(&escaped) {
                        return None;
                    }
                    part.push(escaped);
                    rest = after;
                }
                _ => return None,
            },
            _ => part.push(byte),
        }
    }
    (is_empty_part || !parts.last()?.is_empty()).then_some(parts)
}

/// A token takes a value literally. A value may render to the marker for none, as it does with the original.
fn check_token(value: &str) {
    const STYLES: [AddressStyle; 3] = [
        AddressStyle::new('.', '*', "empty", ">$").with_max_token_len(255),
        AddressStyle::new('.', '*', "none", "#").with_max_token_len(64),
        AddressStyle::new('/', '+', "none", "#$"),
    ];
    for (style, reserved) in STYLES.iter().zip([".*>$", ".*#", "/+#$"]) {
        let token = style.token(Some(value));
        assert!(!token.is_empty(), "{value:?}");
        let is_odd = |character: char| {
            character.is_whitespace() || character.is_control() || reserved.contains(character)
        };
        assert!(!token.contains(is_odd), "{token:?}");
        assert!(token.len() <= 1 + 2 * value.len(), "{token}");
        // What has no words stays as it is, also what begins as an escaped value does.
        let is_hex = |text: &&str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(escaped) = token.strip_prefix('~').filter(is_hex) {
            let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(escaped == hex || value == "~", "{value:?} {token}");
        }
    }
}

type Instance = (ServiceAddress, String);

/// Names that are promised to differ do, and those of the same are the same.
fn check_adapters(one: &Instance, other: &Instance) {
    let all = |(address, id): &Instance| {
        let id = Id::from(id.as_str());
        let mut of = purista_nats::fuzzing::names_of("purista", address);
        of.extend(purista_amqp::fuzzing::names_of("purista", address));
        of.extend(purista_mqtt::fuzzing::names_of("purista", address));
        let mut at = purista_nats::fuzzing::names_at("purista", address, &id);
        at.extend(purista_amqp::fuzzing::names_at("purista", address, &id));
        at.extend(purista_mqtt::fuzzing::names_at("purista", address, &id));
        let [event, reply] = purista_amqp::fuzzing::keys(&address.service_target, &id);
        (of, at, [event, purista_dapr::fuzzing::topic(&address.service_target, "all")], reply)
    };
    let ((of, at, events, reply), (of_other, at_other, events_other, reply_other)) = (all(one), all(other));
    for name in of.iter().chain(&at) {
        assert!(name.len() <= 512, "{name}");
    }
    let differ = |one: &[String], other: &[String], are_same: bool| {
        for (one, other) in one.iter().zip(other) {
            assert_eq!(one == other, are_same, "{one} {other}");
        }
    };
    differ(&of, &of_other, one.0 == other.0);
    differ(&at, &at_other, one == other);
    differ(&events, &events_other, one.0.service_target == other.0.service_target);
    assert_eq!(reply == reply_other, one.1 == other.1);
    let client = at.last().expect("the last one is the client of MQTT");
    assert!(purista_mqtt::fuzzing::is_subscriber_client("purista", &one.0, client) || client.len() >= 200);
    if one.0 != other.0 && client.len() < 200 {
        assert!(!purista_mqtt::fuzzing::is_subscriber_client("purista", &other.0, client), "{client}");
    }
}
