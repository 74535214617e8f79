//! One consumer, which several instances with different settings share.
//!
//! | setting | where the instances differ |
//! |---|---|
//! | filter | `TopologyMismatch` while another instance runs, changed otherwise |
//! | `ack_wait` | the longest one holds while another instance runs |
//! | durable or transient | durable holds while another instance runs |
//! | `max_deliver`, `backoff`, `headers_only`, `sample_freq` | what the bridge needs: none of them |
//! | `max_ack_pending`, `max_batch`, `max_expires`, `max_waiting`, `num_replicas`, metadata | left as they are |
//! | push, acknowledgement policy, priority groups | `TopologyMismatch` |

use std::time::Duration;

use purista_core::{ErrorKind, Result};
use serde_json::{Value, json};

use crate::{durable::FILTER, error::error};

/// What an instance wants of a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) filter_subject: &'a str,
    pub(crate) filter: &'a str,
    pub(crate) ack_wait: Duration,
    /// Zero for a durable one.
    pub(crate) inactive_threshold: Duration,
}

/// Returns whether it depends on other instances what becomes of a consumer.
pub(crate) fn concerns_others(wanted: &Wanted<'_>, found: &Value) -> bool {
    let Differences { has_other_filter, keeps_less, waits_less, .. } = differences(wanted, found);
    has_other_filter || keeps_less || waits_less
}

/// Returns the settings that a consumer has to get, `None` if it can stay as it is. `is_shared` tells whether another
/// instance uses it.
pub(crate) fn merge(wanted: &Wanted<'_>, found: &Value, is_shared: bool) -> Result<Option<Value>> {
    if let Some(what) = cannot_be_changed(found) {
        return Err(mismatch(format!("the consumer {} has another {what}", wanted.name)));
    }
    let differences = differences(wanted, found);
    let mut merged = found.clone();
    for (name, needed) in [("max_deliver", json!(-1)), ("headers_only", json!(false))] {
        if found.get(name).is_some_and(|known| *known != needed) {
            merged[name] = needed;
        }
    }
    let mut unneeded = vec!["backoff"];
    if differences.has_other_filter {
        if is_shared {
            let context = format!("another instance of the subscriber {} has another filter", wanted.name);
            return Err(mismatch(context));
        }
        merged["filter_subject"] = json!(wanted.filter_subject);
        merged["metadata"][FILTER] = json!(wanted.filter);
        unneeded.push("filter_subjects");
    }
    if let Some(settings) = merged.as_object_mut() {
        settings.retain(|name, _| !unneeded.contains(&name.as_str()));
    }
    if differences.waits_more || (differences.waits_less && !is_shared) {
        merged["ack_wait"] = json!(of(wanted.ack_wait));
    }
    if differences.keeps_more || (differences.keeps_less && !is_shared) {
        merged["inactive_threshold"] = json!(of(wanted.inactive_threshold));
    }
    Ok((merged != *found).then_some(merged))
}

/// How what is wanted differs from what is there.
struct Differences {
    has_other_filter: bool,
    waits_more: bool,
    waits_less: bool,
    keeps_more: bool,
    keeps_less: bool,
}

fn differences(wanted: &Wanted<'_>, found: &Value) -> Differences {
    let subject = found.get("filter_subject").and_then(Value::as_str).unwrap_or_default();
    let filter = found.get("metadata").and_then(|metadata| metadata.get(FILTER)).and_then(Value::as_str);
    let nanos = |name: &str| found.get(name).and_then(Value::as_u64).unwrap_or_default();
    let (wait, wanted_wait) = (nanos("ack_wait"), of(wanted.ack_wait));
    // Zero is "never".
    let kept = |threshold: u64| if threshold == 0 { u64::MAX } else { threshold };
    let (kept, wanted_kept) = (kept(nanos("inactive_threshold")), kept(of(wanted.inactive_threshold)));
    Differences {
        has_other_filter: filter != Some(wanted.filter) || subject != wanted.filter_subject,
        waits_more: wanted_wait > wait,
        waits_less: wanted_wait < wait,
        keeps_more: wanted_kept > kept,
        keeps_less: wanted_kept < kept,
    }
}

/// Returns the first setting that is not as it has to be, and that the server does not change.
fn cannot_be_changed(found: &Value) -> Option<&'static str> {
    let text = |name: &str| found.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if !text("deliver_subject").is_empty() {
        return Some("delivery: it pushes");
    }
    if text("ack_policy") != "explicit" {
        return Some("ack_policy");
    }
    let groups = found.get("priority_groups").and_then(Value::as_array);
    groups.is_some_and(|groups| !groups.is_empty()).then_some("priority policy")
}

fn mismatch(context: String) -> purista_core::Error {
    error(ErrorKind::TopologyMismatch, "register").with_context(context)
}

fn of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted<'static> = Wanted {
        name: "c",
        filter_subject: "a.*",
        filter: "f",
        ack_wait: Duration::from_nanos(100),
        inactive_threshold: Duration::ZERO,
    };

    const TRANSIENT: Wanted<'static> = Wanted { inactive_threshold: Duration::from_nanos(30), ..WANTED };

    fn found() -> Value {
        json!({
            "ack_policy": "explicit", "ack_wait": 100, "max_deliver": -1, "max_ack_pending": 7,
            "filter_subject": "a.*", "metadata": { FILTER: "f", "_nats.ver": "2.15" }
        })
    }

    fn merged(wanted: &Wanted<'_>, name: &str, value: Value, has_others: bool) -> Result<Option<Value>> {
        let mut found = found();
        found[name] = value;
        merge(wanted, &found, has_others)
            .map(|merged| merged.map(|merged| merged.get(name).cloned().unwrap_or_default()))
    }

    /// Who wants what, a setting, what it is, whether others use it, and what it becomes; `None` if it stays.
    #[test]
    fn each_setting_is_kept_or_merged() {
        for (wanted, name, value, has_others, becomes) in [
            (WANTED, "ack_wait", json!(50), true, Some(json!(100))),
            (WANTED, "ack_wait", json!(50), false, Some(json!(100))),
            (WANTED, "ack_wait", json!(200), true, None),
            (WANTED, "ack_wait", json!(200), false, Some(json!(100))),
            (WANTED, "inactive_threshold", json!(30), true, Some(json!(0))),
            (WANTED, "inactive_threshold", json!(30), false, Some(json!(0))),
            (TRANSIENT, "inactive_threshold", json!(0), true, None),
            (TRANSIENT, "inactive_threshold", json!(0), false, Some(json!(30))),
            (TRANSIENT, "inactive_threshold", json!(20), true, Some(json!(30))),
            (TRANSIENT, "inactive_threshold", json!(40), true, None),
            (TRANSIENT, "inactive_threshold", json!(40), false, Some(json!(30))),
            (WANTED, "max_deliver", json!(5), true, Some(json!(-1))),
            (WANTED, "backoff", json!([1, 2]), true, Some(Value::Null)),
            (WANTED, "headers_only", json!(true), true, Some(json!(false))),
            (WANTED, "max_ack_pending", json!(1), true, None),
            (WANTED, "max_waiting", json!(1), true, None),
            (WANTED, "max_batch", json!(1), true, None),
            (WANTED, "num_replicas", json!(3), true, None),
            (WANTED, "from_a_later_server", json!(1), true, None),
            (WANTED, "filter_subject", json!("b.*"), false, Some(json!("a.*"))),
            (
                WANTED,
                "metadata",
                json!({ FILTER: "g", "x": "y" }),
                false,
                Some(json!({ FILTER: "f", "x": "y" })),
            ),
        ] {
            let merged = merged(&wanted, name, value.clone(), has_others).unwrap();
            assert_eq!(merged, becomes, "{name}: {value}, others: {has_others}");
        }
    }

    #[test]
    fn what_cannot_be_shared_is_refused() {
        for (name, value, has_others) in [
            ("filter_subject", json!("b.*"), true),
            ("metadata", json!({ FILTER: "g" }), true),
            ("deliver_subject", json!("x"), false),
            ("ack_policy", json!("none"), false),
            ("priority_groups", json!(["g"]), false),
        ] {
            let error = merged(&WANTED, name, value, has_others).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::TopologyMismatch, "{name}");
        }
    }
}
