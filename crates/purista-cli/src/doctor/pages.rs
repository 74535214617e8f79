//! Where the repository explains what a check is about, and what no check sees.

/// The pages of an adapter, and what an operator has to look at.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) urls: &'static str,
    pub(super) broker: &'static str,
    pub(super) security: &'static str,
    pub(super) health: &'static str,
    /// What is not seen through a bridge, and why or where it is seen.
    pub(super) unseen: &'static [(&'static str, &'static str)],
}

impl Pages {
    pub(super) fn of(bridge: &str) -> &'static Self {
        match bridge {
            "nats" => &NATS,
            "amqp" => &AMQP,
            "mqtt" => &MQTT,
            _ => &DAPR,
        }
    }
}

const CLOCK: (&str, &str) = ("clock", "the broker tells its time to no client");

const NATS: Pages = Pages {
    urls: "crates/purista-nats/README.md#urls",
    broker: "crates/purista-nats/README.md#what-the-server-must-be-like",
    security: "crates/purista-nats/README.md#urls",
    health: "crates/purista-nats/README.md#what-health-tells",
    unseen: &[
        ("storage", "`sync_interval` of the server is not told to clients"),
        ("limits", "how much of the account's limits is used: `nats account info`"),
        CLOCK,
    ],
};

const AMQP: Pages = Pages {
    urls: "crates/purista-amqp/README.md#urls",
    broker: "crates/purista-amqp/README.md#for-operators",
    security: "crates/purista-amqp/README.md#urls",
    health: "crates/purista-amqp/README.md#for-operators",
    unseen: &[
        (
            "consumer_timeout",
            "not told to clients: a handler that takes longer is delivered its message twice",
        ),
        ("limits", "`max-queues`, `max-connections` and `max-channels` are told when they are reached"),
        CLOCK,
    ],
};

const MQTT: Pages = Pages {
    urls: "crates/purista-mqtt/README.md#urls",
    broker: "crates/purista-mqtt/README.md#the-broker",
    security: "crates/purista-mqtt/README.md#urls",
    health: "crates/purista-mqtt/README.md#health",
    unseen: &[
        ("storage", "`persistence` and `autosave_interval` are not told to clients"),
        ("limits", "`max_queued_messages` is not told to clients: beyond it the broker drops messages"),
        CLOCK,
    ],
};

const DAPR: Pages = Pages {
    urls: "crates/purista-dapr/README.md#urls",
    broker: "crates/purista-dapr/README.md#the-component",
    security: "crates/purista-dapr/README.md#security",
    health: "crates/purista-dapr/README.md#health",
    unseen: &[
        ("component", "its settings are not told: whether it gives what `component_gives` promises"),
        CLOCK,
    ],
};

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn each_page_has_its_heading() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for Pages { urls, broker, security, health, .. } in [NATS, AMQP, MQTT, DAPR] {
            for page in [urls, broker, security, health] {
                let (file, heading) = page.split_once('#').expect(page);
                let text = fs::read_to_string(root.join(file)).expect(file);
                let is_heading = |line: &str| {
                    line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-") == heading
                };
                assert!(text.lines().any(|line| line.starts_with('#') && is_heading(line)), "{page}");
            }
        }
    }
}
