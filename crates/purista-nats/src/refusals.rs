//! What the server refuses while the connection lives: it says so once, at any time.

use std::{sync::Weak, time::Duration};

use parking_lot::Mutex;
use purista_core::{ErrorKind, adapter::Throttle};
use tokio::time::Instant;

use crate::{
    address::command_suffix,
    connection::Connection,
    error::{Violation, error, violation},
};

/// How many events the client keeps; it drops those beyond unheard.
const KEPT_BY_CLIENT: usize = 128;

/// Within which time so many events may have been kept at once.
const BURST: Duration = Duration::from_secs(1);

/// Something whose publishes the server may refuse.
pub(crate) trait Publisher: Send + Sync {
    /// Is told of each subject that the server refused a publish to.
    fn publish_refused(&self, subject: &str, text: &str);
}

/// What the server has refused, and who wants to know.
#[derive(Default)]
pub(crate) struct Refusals {
    publishers: Mutex<Vec<Weak<dyn Publisher>>>,
    burst: Mutex<Option<(Instant, usize)>>,
    log: Throttle,
}

impl Refusals {
    /// Tells somebody of refused publishes, as long as it is there.
    pub(crate) fn tell(&self, publisher: Weak<dyn Publisher>) {
        let mut publishers = self.publishers.lock();
        publishers.retain(|known| known.strong_count() > 0);
        publishers.push(publisher);
    }

    /// Counts an event of the client. Returns whether others may have been dropped with it.
    pub(crate) fn is_burst(&self) -> bool {
        let (mut burst, now) = (self.burst.lock(), Instant::now());
        let (began, count) = burst.get_or_insert((now, 0));
        if now.duration_since(*began) > BURST {
            (*began, *count) = (now, 0);
        }
        *count += 1;
        *count >= KEPT_BY_CLIENT
    }
}

impl Connection {
    /// Takes what the server refuses. Returns whether that was expected: subscriptions are sent again in numbers that the
    /// client keeps all refusals of.
    pub(crate) fn refused_by_server(&self, text: &str) -> bool {
        self.refusals.log.log(|suppressed| {
            tracing::warn!(error = text, suppressed, "the server refused something");
        });
        match violation(text) {
            Some(Violation::Publish(subject)) => {
                self.publish_refused(&subject, text);
                false
            }
            Some(Violation::Subscription { subject, queue_group }) => {
                let was_sent = self.routes.refused(&subject, queue_group.as_deref(), text);
                if !self.has_inbox() && self.is_up() {
                    self.lost_replies(text);
                }
                was_sent
            }
            None => {
                let lower = text.to_ascii_lowercase();
                if lower.contains("maximum control line exceeded") {
                    self.forbid_longest();
                }
                if let Some(setting) = refused_subscription(&lower) {
                    let refusal = error(ErrorKind::Forbidden, "register");
                    self.routes.refused_one(&refusal.with_context(format!("{text}; see {setting}")));
                }
                false
            }
        }
    }

    fn publish_refused(&self, subject: &str, text: &str) {
        let publishers: Vec<_> = self.refusals.publishers.lock().iter().filter_map(Weak::upgrade).collect();
        publishers.iter().for_each(|publisher| publisher.publish_refused(subject, text));
        if self.is_inbox_of_somebody(subject) {
            // An answer to a command, maybe: is it this caller's inbox alone?
            self.routes.inbox_in_doubt.notify_one();
        }
        self.link().fail_calls_to(
            |receiver| subject.ends_with(&format!(".{}", command_suffix(&self.names, &receiver.address))),
            &error(ErrorKind::Forbidden, "invoke"),
        );
    }
}

/// Returns the setting of the server by which it refuses a subscription without a word of which one.
fn refused_subscription(lower: &str) -> Option<&'static str> {
    if lower.contains("maximum subscriptions exceeded") {
        Some("max_subscriptions of the server, or subs of the account")
    } else if lower.contains("maximum control line exceeded") {
        Some("max_control_line of the server")
    } else if lower.contains("too many tokens") {
        Some("max_subscription_tokens of the server")
    } else {
        None
    }
}
