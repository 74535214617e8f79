//! Time limits of commands as they travel: in whole milliseconds, counted from the receipt, as clocks of two machines
//! are not compared.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    error::{Error, ErrorKind, Result},
    options::{InvokeOptions, MAX_TIMEOUT, check_timeout},
};

/// Until when a call may wait: its own time limit, or the rest of the one of the caller on whose behalf it is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallLimit {
    pub(super) until: Instant,
    is_callers: bool,
}

impl CallLimit {
    pub(super) fn of(options: &InvokeOptions) -> Result<Self> {
        let own = Instant::now() + check_timeout(options.timeout)?;
        Ok(match options.caller_deadline {
            Some(callers) if callers < own => Self { until: callers, is_callers: true },
            _ => Self { until: own, is_callers: false },
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.until <= Instant::now()
    }

    /// Tells whose limit it was that has passed.
    pub(super) fn explain(&self, error: Error) -> Error {
        if self.is_callers && error.kind() == ErrorKind::Timeout && self.is_over() {
            return error.and_context("the time limit of this handler's own caller has passed".to_owned());
        }
        error
    }
}

/// Returns how many milliseconds are left until a deadline: rounded up, so that nobody gives up before its caller, and
/// never none, which brokers and peers read as no limit or as one that is over.
#[must_use]
pub fn milliseconds_left(deadline: Instant) -> u64 {
    whole_milliseconds(deadline.saturating_duration_since(Instant::now())).max(1)
}

/// Returns a time in whole milliseconds, rounded up: what is short does not become nothing.
#[must_use]
pub fn whole_milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Returns a time in whole seconds, rounded up: what is short does not become nothing.
#[must_use]
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// Returns when a caller stops waiting who said how many milliseconds it waits; `None` if that is no number. No caller
/// waits longer than [`MAX_TIMEOUT`], whatever a foreign peer says.
#[must_use]
pub fn deadline_after(milliseconds: &str, arrived: Instant) -> Option<Instant> {
    let left = milliseconds.parse().ok().map(Duration::from_millis)?;
    arrived.checked_add(left.min(MAX_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_limits_are_rounded_up_and_never_to_nothing() {
        for (limit, expected) in [
            (Duration::ZERO, 1),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(1), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_nanos(1_000_001), 2),
            (Duration::from_micros(499_000), 499),
            (Duration::from_micros(499_001), 500),
            (Duration::from_secs(30), 30_000),
        ] {
            let left = milliseconds_left(Instant::now() + limit);
            assert_eq!(left, expected, "{limit:?}");
            let arrived = Instant::now() + Duration::from_secs(3_600);
            let deadline = deadline_after(&left.to_string(), arrived).unwrap();
            assert_eq!((deadline - arrived).as_millis(), u128::from(expected));
        }
        let over = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(milliseconds_left(over), 1);
    }

    #[test]
    fn what_is_not_whole_is_rounded_up() {
        for (nanoseconds, milliseconds, seconds) in [
            (0, 0, 0),
            (1, 1, 1),
            (999_999, 1, 1),
            (1_000_001, 2, 1),
            (999_000_001, 1_000, 1),
            (1_000_000_000, 1_000, 1),
            (1_000_000_001, 1_001, 2),
        ] {
            let time = Duration::from_nanos(nanoseconds);
            assert_eq!((whole_milliseconds(time), whole_seconds(time)), (milliseconds, seconds), "{time:?}");
        }
        assert_eq!((whole_milliseconds(Duration::MAX), whole_seconds(Duration::MAX)), (u64::MAX, u64::MAX));
    }

    #[test]
    fn odd_time_limits_are_none_and_huge_ones_are_bounded() {
        let arrived = Instant::now();
        for odd in ["", "-1", "soon", "1.5", "99999999999999999999"] {
            assert_eq!(deadline_after(odd, arrived), None, "{odd}");
        }
        assert_eq!(deadline_after(&u64::MAX.to_string(), arrived), Some(arrived + MAX_TIMEOUT));
    }
}
