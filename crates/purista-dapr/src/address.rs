//! What apps, commands and topics are called (wire format, section 6).

use purista_core::{
    ServiceAddress,
    routing::{bounded_name, case::kebab},
};

/// Starts the escaped form of a name, which has none but letters and digits after it. No conversion produces it.
const ESCAPE: &str = "x--";

/// The longest topic: what brokers behind a sidecar take, with room for what components put before it.
const MAX_TOPIC: usize = 128;

/// Returns the app id of a service, as the TypeScript original finds it.
pub(crate) fn app_id(service: &ServiceAddress) -> String {
    format!("app-{}-v{}", part(&service.service_name), part(&service.service_version))
}

/// Returns what a command is called in its path. Commands whose names differ in case or punctuation only share it.
pub(crate) fn command_name(command: &ServiceAddress) -> String {
    // It needs no escape in a path, and the original makes none of it.
    if &*command.service_target == "~" { "~".to_owned() } else { part(&command.service_target) }
}

/// Returns the path of a command, without a leading slash.
pub(crate) fn command_path(command: &ServiceAddress) -> String {
    format!("purista/command/{}", command_name(command))
}

/// Returns what a topic is called in its path.
pub(crate) fn topic_name(topic: &str) -> String {
    if topic.bytes().all(is_plain) { topic.to_owned() } else { escaped(topic) }
}

/// Returns the path to which a topic is delivered, without a leading slash.
pub(crate) fn subscription_path(topic: &str) -> String {
    format!("purista/subscription/{}", topic_name(topic))
}

/// Returns a name in kebab case if that is safe in an app id and a path.
fn part(name: &str) -> String {
    let kebab = kebab(name);
    let is_safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !kebab.is_empty() && kebab != "-" && kebab.bytes().all(is_safe) && !kebab.contains("--") {
        return kebab.into_owned();
    }
    escaped(name)
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Returns whether a name can be a topic of a component that takes all of them, and stand in the path by which the original
/// publishes. A sidecar reads `+` there as a space.
fn fits_in_path(name: &str) -> bool {
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.trim() == segment;
    let ends_it = |letter: char| letter.is_control() || matches!(letter, '?' | '#' | '%' | '+' | '\\');
    !name.contains(ends_it) && name.split('/').all(is_segment)
}

/// Returns the topic of an event: its name, as it is, if the component takes that. Some take all letters.
pub(crate) fn topic(event_name: &str, reserved: &[&str], takes_all: bool) -> String {
    let is_taken = !event_name.is_empty()
        && event_name.len() < MAX_TOPIC
        && (event_name.bytes().all(is_plain) || (takes_all && fits_in_path(event_name)))
        && !event_name.starts_with(['.', '-'])
        // RabbitMQ keeps these for itself.
        && !event_name.starts_with("amq.")
        && !event_name.ends_with('.')
        && !event_name.contains("..")
        && !event_name.starts_with(ESCAPE)
        && !reserved.contains(&event_name);
    if is_taken {
        return event_name.to_owned();
    }
    let escaped = escaped(event_name);
    match escaped.len() < MAX_TOPIC {
        true => escaped,
        false => bounded_name(&[event_name, &"x".repeat(MAX_TOPIC)], MAX_TOPIC),
    }
}

/// Returns whether a configured topic is one that brokers take as it is.
pub(crate) fn is_topic(name: &str) -> bool {
    topic(name, &[], false) == name
}

fn escaped(name: &str) -> String {
    format!("{ESCAPE}{}", const_hex::encode(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_and_commands_are_found_as_by_the_original() {
        let command = ServiceAddress::new("UserService", "1", "echoBack");
        assert_eq!(app_id(&command), "app-user-service-v1");
        assert_eq!(command_path(&command), "purista/command/echo-back");
        assert_eq!(app_id(&ServiceAddress::new("User", "1.2.0", "x")), "app-user-v1-2-0");
    }

    #[test]
    fn hostile_names_stay_in_their_place() {
        for name in ["", "-", "..", "/", "a/../b", "+", "日本語", "\0", "%2e", "x--2b"] {
            let address = ServiceAddress::new(name, "1", name);
            let path = command_path(&address);
            let target = path.strip_prefix("purista/command/").unwrap();
            assert!(!target.is_empty() && !target.contains(['/', '.', '%', '\0']), "{name:?}: {path}");
            assert!(
                topic(name, &[], false).bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
                "{name:?}"
            );
        }
        assert_eq!(command_path(&ServiceAddress::new("a", "1", "+")), "purista/command/x--2b");
    }

    #[test]
    fn topics_are_event_names_that_brokers_take() {
        for name in ["userCreated", "user.created", "user_created-1"] {
            assert_eq!(topic(name, &[], false), name);
        }
        for (name, escaped) in [
            ("*", "x--2a"),
            ("a b", "x--612062"),
            (".a", "x--2e61"),
            ("amq.a", "x--616d712e61"),
            ("x--2a", "x--782d2d3261"),
        ] {
            assert_eq!(topic(name, &[], false), escaped);
        }
        assert_eq!(topic("all", &["all"], false), "x--616c6c");
        let long = |end: &str| topic(&format!("{}{end}", "x".repeat(127)), &[], true);
        assert_eq!(long("1").len(), MAX_TOPIC);
        assert_ne!(long("1"), long("2"));
    }

    #[test]
    fn components_that_take_all_letters_get_the_names_as_they_are() {
        for name in ["user created", "größe", "日本語", "user/created", "a:b", "*", "~"] {
            assert_eq!(topic(name, &[], true), name);
            assert_ne!(topic(name, &[], false), name);
            let path = subscription_path(name);
            let last = path.strip_prefix("purista/subscription/").unwrap();
            assert!(last.bytes().all(is_plain), "{path}");
        }
        for name in [
            "", " a", "a/", "/a", "a//b", "a/../b", ".", "a?b", "a#b", "a%2Fb", "a+b", "a\nb", "x--2a",
            "amq.a",
        ] {
            assert!(topic(name, &[], true).starts_with(ESCAPE), "{name:?}");
        }
    }
}
