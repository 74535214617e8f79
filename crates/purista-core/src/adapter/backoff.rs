use std::time::Duration;

/// Delays that double up to a longest one, each shortened by chance to between half and all of it.
///
/// The chance keeps the instances of a service from coming back all at once after an outage.
///
/// ```
/// use purista_core::adapter::Backoff;
/// use std::time::Duration;
///
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// let first = backoff.next_delay();
/// assert!(first >= Duration::from_millis(50) && first <= Duration::from_millis(100));
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    longest: Duration,
    next: Duration,
}

impl Default for Backoff {
    /// From 100 ms to 5 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }
}

impl Backoff {
    /// Creates a back-off that starts at `initial` and ends at `longest`.
    #[must_use]
    pub const fn new(initial: Duration, longest: Duration) -> Self {
        Self { initial, longest, next: initial }
    }

    /// Returns how long to wait before the next try.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next.min(self.longest);
        self.next = delay.saturating_mul(2);
        delay.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Returns how long to wait after a number of tries that failed, for who counts them.
    #[must_use]
    pub fn delay_after(&self, failures: usize) -> Duration {
        let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(31);
        Self::new(self.initial.saturating_mul(1 << doublings), self.longest).next_delay()
    }

    /// Starts over, after a success.
    pub const fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_longest_and_start_over() {
        let (initial, longest) = (Duration::from_millis(100), Duration::from_millis(350));
        let mut backoff = Backoff::new(initial, longest);
        for most in [100, 200, 350, 350].map(Duration::from_millis) {
            let delay = backoff.next_delay();
            assert!(delay >= most / 2 && delay <= most, "{delay:?} of {most:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= initial);
    }
}
