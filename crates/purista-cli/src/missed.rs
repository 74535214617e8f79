//! What a watcher did not see.

use purista::{BridgeEvent, Stats};

use crate::output::note;

/// Tells on standard error when messages were missed, or may have been.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    overflowed: u64,
    malformed: u64,
}

impl Missed {
    /// Tells what happened to the connection.
    pub(crate) fn event(&mut self, event: &BridgeEvent) {
        match event {
            BridgeEvent::Disconnected(reason) => {
                note(&format!("connection lost: what is sent from now on is missed: {reason}"));
            }
            BridgeEvent::Connected => note("connected again"),
            BridgeEvent::SessionLost => note("the broker forgot the session: what waited in it is missed"),
            BridgeEvent::ConsumerDown(_) => {
                note("the broker delivers nothing: what is sent from now on is missed");
            }
            BridgeEvent::ConsumerUp(_) => note("the broker delivers again"),
            _ => {}
        }
    }

    /// Tells what was counted since the last time.
    pub(crate) fn look(&mut self, stats: &Stats) {
        let tell = |seen: &mut u64, now: u64, what: &str| {
            if now > *seen {
                note(&format!("{} messages {what}", now - *seen));
                *seen = now;
            }
        };
        tell(&mut self.overflowed, stats.overflowed, "were missed, as the output is read too slowly");
        tell(&mut self.malformed, stats.malformed, "were left out, as they cannot be read");
    }
}
