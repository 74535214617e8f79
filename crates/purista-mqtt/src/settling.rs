//! Mosquitto forgets what is shared when it restarts, until the instances are back.

use std::time::Duration;

use purista_core::Result;

use crate::{
    connection::Connection,
    session_record::{SessionRecord, SessionState},
};

/// Where Mosquitto tells for how many seconds it has been up.
const UPTIME: &str = "$SYS/broker/uptime";

/// How long an instance needs to attach its subscriptions once it is connected.
const ATTACHING: Duration = Duration::from_millis(500);

/// Returns how long events have to wait, so that subscribers are back after a restart of the broker.
pub(crate) async fn until_subscribers_are_back(connection: &Connection) -> Result<Duration> {
    let records = connection.kept(&connection.names.sessions(None)).await?;
    let is_forgotten = |record: SessionRecord| {
        record.state == SessionState::Attached && connection.names.is_shared(&record.filter)
    };
    if !records.iter().filter_map(|record| SessionRecord::read(&record.payload)).any(is_forgotten) {
        return Ok(Duration::ZERO);
    }
    let needed = connection.config.connection.max_reconnect_delay.saturating_add(ATTACHING);
    let uptime = connection.kept(UPTIME).await?.into_iter().next();
    Ok(uptime.map_or(Duration::ZERO, |uptime| still_missing(needed, &uptime.payload)))
}

/// Returns how much an uptime, such as `12 seconds`, falls short of what is needed.
pub(crate) fn still_missing(needed: Duration, uptime: &[u8]) -> Duration {
    let text = String::from_utf8_lossy(uptime);
    let seconds = text.split(' ').next().and_then(|seconds| seconds.parse().ok());
    seconds.map_or(Duration::ZERO, |seconds| needed.saturating_sub(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_are_read() {
        let missing =
            |uptime: &str| still_missing(Duration::from_millis(2_500), uptime.as_bytes()).as_millis();
        assert_eq!([missing("0 seconds"), missing("2 seconds"), missing("3 seconds")], [2_500, 500, 0]);
        assert_eq!([missing(""), missing("long"), missing("18446744073709551616 seconds")], [0, 0, 0]);
    }
}
