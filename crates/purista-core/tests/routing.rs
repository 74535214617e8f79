//! Checks routing against recorded conversions and against names chosen by an attacker.

use std::{
    collections::{BTreeMap, HashSet},
    iter,
};

use proptest::{collection::vec, prelude::*, sample::select};
use purista_core::routing::{Address, AddressStyle, Endpoint, Pattern, case, injective_name};

const MQTT: AddressStyle = AddressStyle::new('/', '+', "none", "#$");
const NATS: AddressStyle = AddressStyle::new('.', '*', "empty", ">$");
const AMQP: AddressStyle = AddressStyle::new('.', '*', "none", "#");

/// Each style with its separator, its wildcard and everything else it must not put into a token.
const STYLES: [(AddressStyle, char, char, &str); 3] =
    [(MQTT, '/', '+', "#$"), (NATS, '.', '*', ">$"), (AMQP, '.', '*', "#")];

#[rustfmt::skip]
const HOSTILE: [&str; 44] = [
    "", " ", "  ", "\0", "\r\n", "\t", "\u{7f}", "\u{85}", "\u{a0}", "\u{3000}", "\u{feff}", "\u{ffff}", "\u{fdd0}",
    "+", "#", "*", ">", ".", "..", "/", "//", "$", "$share", "$SYS", "_", "__", "-", "--", "~", "~7e", "7e",
    "none", "empty", "None", "EMPTY", "__none__", "__empty__", "_empty", "user", "User", "1", "a-b", "日本語", "🚀",
];

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        select(HOSTILE.as_slice()).prop_map(str::to_owned),
        "(?s).{0,12}",
        "[ABab01_~+#*>./ $é\u{0}-]{0,6}",
    ]
}

/// Enumerates every text of up to `max_len` characters of an alphabet.
fn all_texts(alphabet: &str, max_len: usize) -> impl Iterator<Item = String> {
    let longer = |texts: &Vec<String>| {
        let texts = texts.iter().flat_map(|text| alphabet.chars().map(move |last| format!("{text}{last}")));
        Some(texts.collect())
    };
    iter::successors(Some(vec![String::new()]), longer).take(max_len + 1).flatten()
}

#[test]
fn conversion_agrees_with_the_recorded_samples() {
    let samples: Vec<BTreeMap<String, String>> =
        serde_json::from_str(include_str!("data/case-conversion.json")).unwrap();
    assert_eq!(samples.len(), 90);
    for sample in samples {
        assert_eq!(case::snake(&sample["name"]), sample["snake"], "{sample:?}");
        assert_eq!(case::kebab(&sample["name"]), sample["kebab"], "{sample:?}");
    }
}

/// Converts by the rule of the wire format as it is written down, one word at a time.
fn snake_by_the_rule(name: &str) -> String {
    let count =
        |rest: &[char], counted: fn(&char) -> bool| rest.iter().take_while(|next| counted(next)).count();
    let word = |rest: &[char]| {
        let letters = count(rest, char::is_ascii_lowercase);
        letters + count(&rest[letters..], char::is_ascii_digit)
    };
    let characters: Vec<char> = name.chars().collect();
    let mut words = Vec::new();
    let mut rest = characters.as_slice();
    while !rest.is_empty() {
        let capitals = count(rest, char::is_ascii_uppercase);
        let next = rest.get(capitals).copied();
        let word_ends = !next.is_some_and(|next| next.is_ascii_alphanumeric() || next == '_');
        let lowercase_follows = next.is_some_and(|next| next.is_ascii_lowercase());
        let len = match capitals {
            0 => word(rest),
            2.. if word_ends => capitals,
            3.. if lowercase_follows => capitals - 1,
            1 if lowercase_follows => 1 + word(&rest[1..]),
            _ => 1,
        };
        words.extend((len > 0).then(|| rest[..len].iter().collect::<String>().to_ascii_lowercase()));
        rest = &rest[len.max(1)..];
    }
    if words.is_empty() { name.to_owned() } else { words.join("_") }
}

#[test]
fn conversion_agrees_with_the_written_rule() {
    for name in all_texts("AZaz09_-é", 5) {
        assert_eq!(case::snake(&name), snake_by_the_rule(&name), "{name:?}");
    }
}

#[test]
fn conversion_of_a_converted_name_borrows_it() {
    for name in ["user", "sign_up", "user_created_2", "a1", "_", "日本語", ""] {
        assert!(matches!(case::snake(name), std::borrow::Cow::Borrowed(_)), "{name:?}");
    }
    assert!(matches!(case::kebab("sign-up"), std::borrow::Cow::Borrowed(_)));
}

#[test]
fn conversion_takes_linear_time_on_hostile_names() {
    let capitals = "A".repeat(1 << 20);
    assert_eq!(case::snake(&format!("{capitals}_")).len(), (2 << 20) - 1);
}

#[test]
fn tokens_are_converted_kept_or_escaped() {
    let mqtt = [
        (Some("signUp"), "sign_up"),
        (Some("tenant/42"), "tenant_42"),
        (Some("$share"), "share"),
        (Some("日本語"), "日本語"),
        (Some("_"), "_"),
        (Some(".."), ".."),
        (Some("*"), "*"),
        (Some("empty"), "empty"),
        (None, "none"),
        (Some("none"), "none"),
        (Some("__none__"), "none"),
        (Some(""), "~"),
        (Some("#"), "~23"),
        (Some("~"), "~"),
        (Some("~~"), "~~"),
        (Some("~7e"), "7_e"),
        (Some(" "), "~20"),
        (Some("日 本"), "~e697a520e69cac"),
        (Some("\0"), "~00"),
        (Some("\r\n"), "~0d0a"),
        (Some("\u{ffff}"), "~efbfbf"),
    ];
    for (value, token) in mqtt {
        assert_eq!(MQTT.token(value), token, "{value:?}");
    }
    for (value, token) in
        [(Some(".."), "~2e2e"), (Some(">"), "~3e"), (Some("/"), "/"), (Some("none"), "none"), (None, "empty")]
    {
        assert_eq!(NATS.token(value), token, "{value:?}");
    }
}

#[test]
fn tokens_are_shared_only_by_names_of_the_same_spelling() {
    for (style, ..) in STYLES {
        let absent = style.token(None);
        let mut values_by_token = BTreeMap::<_, Vec<_>>::new();
        for value in all_texts("aB1_-~+#*>./ e7", 4).chain(HOSTILE.map(str::to_owned)) {
            values_by_token.entry(style.token(Some(&value))).or_default().push(value);
        }
        // As with the original, a value may look like an absent one.
        let like_absent = &values_by_token[&absent];
        assert!(like_absent.iter().all(|value| case::snake(value) == absent), "{like_absent:?}");
        for (token, values) in values_by_token {
            if token == "~" {
                assert!(values.iter().all(|value| value.is_empty() || value == "~"), "{values:?}");
            } else if token.starts_with('~') {
                assert!(values.iter().all(|value| *value == values[0]), "{token}: {values:?}");
            } else {
                assert!(values.iter().all(|value| case::snake(value) == token), "{token}: {values:?}");
            }
        }
    }
}

#[test]
fn the_marker_of_what_is_absent_is_converted_and_checked() {
    let style = MQTT.with_empty_marker("__notThere__").unwrap();
    assert_eq!((style.token(None), style.token(Some("none"))), ("not_there".to_owned(), "none".to_owned()));
    for odd in ["", "~", "~7e", "#", "/", " ", &"x".repeat(65)] {
        assert_eq!(odd.len() == 3, MQTT.with_empty_marker(odd).is_ok(), "{odd}");
    }
}

#[test]
fn addresses_are_spelled_as_on_the_wire() {
    let mut command = Address::new("purista", "command");
    command.tenant_id = Some("tenantOne");
    command.sender = Endpoint::new("Caller", "1", "peerCall").with_instance_id("ca11e4ca11e4");
    command.receiver = Endpoint::new("User", "1", "echo");
    assert_eq!(
        command.render(&MQTT),
        "purista/command/none/tenant_one/ca11_e4_ca11_e4/caller/1/peer_call/none/none/user/1/echo"
    );
    assert_eq!(
        command.render(&NATS),
        "purista.command.empty.tenant_one.ca11_e4_ca11_e4.caller.1.peer_call.empty.empty.user.1.echo"
    );

    let mut responses = Pattern::new("purista");
    responses.receiver.instance_id = Some("ca11e4ca11e4");
    assert_eq!(responses.render(&MQTT), "purista/+/+/+/+/+/+/+/+/ca11_e4_ca11_e4/+/+/+");
}

#[test]
fn prefixes_are_not_converted_but_made_safe() {
    for (prefix, rendered) in
        [("my-App", "my-App"), ("a/b", "~612f62"), ("$SYS", "~24535953"), ("", "~"), ("+", "~2b")]
    {
        assert_eq!(Pattern::new(prefix).render(&MQTT), format!("{rendered}{}", "/+".repeat(12)));
    }
}

#[test]
fn addresses_append_to_a_buffer() {
    let address = Address::new("purista", "customMessage");
    let mut buffer = String::from("before:");
    address.append_to(&mut buffer, &MQTT);
    assert_eq!(buffer, format!("before:{}", address.render(&MQTT)));
}

#[test]
fn styles_that_could_confuse_tokens_are_refused() {
    for (separator, wildcard, empty_marker, reserved) in [
        ('a', '*', "none", ""),
        ('_', '*', "none", ""),
        ('.', '~', "none", ""),
        ('.', '.', "none", ""),
        ('.', '*', "", ""),
        ('.', '*', "no.ne", ""),
        ('.', '*', "~", ""),
        ('.', '*', "none", "é"),
    ] {
        let style =
            std::panic::catch_unwind(|| AddressStyle::new(separator, wildcard, empty_marker, reserved));
        assert!(style.is_err(), "{style:?}");
    }
}

proptest! {
    #[test]
    fn addresses_always_have_thirteen_safe_tokens(
        required in vec(hostile(), 2),
        optional in vec(proptest::option::of(hostile()), 11),
    ) {
        let [prefix, message_type] = [&required[0], &required[1]];
        let value = |index: usize| optional[index].as_deref();
        let endpoint = |first: usize| {
            let mut endpoint = Endpoint::default();
            endpoint.instance_id = value(first);
            endpoint.name = value(first + 1);
            endpoint.version = value(first + 2);
            endpoint.target = value(first + 3);
            endpoint
        };
        let mut address = Address::new(prefix, message_type);
        (address.principal_id, address.tenant_id, address.event_name) = (value(0), value(1), value(2));
        (address.sender, address.receiver) = (endpoint(3), endpoint(7));
        let mut pattern = Pattern::new(prefix);
        pattern.message_type = Some(message_type);
        (pattern.principal_id, pattern.tenant_id, pattern.event_name) = (value(0), value(1), value(2));
        (pattern.sender, pattern.receiver) = (endpoint(3), endpoint(7));

        for (style, separator, wildcard, reserved) in STYLES {
            let (address, pattern) = (address.render(&style), pattern.render(&style));
            let (tokens, filters) = (address.split(separator), pattern.split(separator));
            prop_assert_eq!(tokens.clone().count(), 13);
            prop_assert_eq!(filters.clone().count(), 13);

            let is_unsafe = |next: char| {
                next == wildcard || reserved.contains(next) || next.is_whitespace() || next.is_control()
            };
            prop_assert!(tokens.clone().all(|token| !token.is_empty() && !token.contains(is_unsafe)), "{}", address);
            for (token, filter) in tokens.zip(filters) {
                let absent = token == style.token(None) && filter.starts_with(wildcard) && filter.len() == 1;
                prop_assert!(token == filter || absent, "{} does not match {}", address, pattern);
            }
        }
    }

    #[test]
    fn injective_names_are_inert_and_can_be_read_back(parts in vec(hostile(), 1..6)) {
        let name = injective_name(&parts.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert!(name.chars().all(|next| next.is_ascii_alphanumeric() || "-_".contains(next)), "{}", name);
        prop_assert_eq!(read_back(&name), Some(parts));
    }
}

fn read_back(name: &str) -> Option<Vec<String>> {
    let mut parts = vec![Vec::new()];
    let mut rest = name;
    while let Some(&next) = rest.as_bytes().first() {
        let (len, byte) = match next {
            b'-' => (1, None),
            b'_' if rest.starts_with("_empty") => (6, None),
            b'_' if rest.starts_with("__") || rest.starts_with("_-") => (2, rest.as_bytes().get(1).copied()),
            b'_' => (3, Some(u8::from_str_radix(rest.get(1..3)?, 16).ok()?)),
            _ => (1, Some(next)),
        };
        if next == b'-' {
            parts.push(Vec::new());
        }
        parts.last_mut()?.extend(byte);
        rest = &rest[len..];
    }
    parts.into_iter().map(|part| String::from_utf8(part).ok()).collect()
}

#[test]
fn injective_names_of_ordinary_parts_are_readable() {
    assert_eq!(injective_name(&["User", "1", "signUp"]), "User-1-signUp");
    assert_eq!(injective_name(&["my-service", "1.2", "sign_up", ""]), "my_-service-1_2e2-sign__up-_empty");
}

#[test]
fn injective_names_of_different_parts_differ() {
    let mut names = HashSet::new();
    let mut insert = |parts: &[&str]| assert!(names.insert(injective_name(parts)), "{parts:?}");
    insert(&[]);
    for first in HOSTILE {
        insert(&[first]);
        for second in HOSTILE.into_iter().chain(["b-1", "b"]) {
            insert(&[first, second]);
            HOSTILE.iter().for_each(|third| insert(&[first, second, third]));
        }
    }
}
