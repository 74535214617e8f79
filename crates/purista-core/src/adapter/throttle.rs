use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How many lines a [`Throttle`] lets through in [`PERIOD`].
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// Keeps a flood of bad messages from becoming a flood of log lines: at most 10 lines in 10 s.
#[derive(Clone, Debug)]
pub struct Throttle(Arc<Mutex<Window>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    suppressed: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Window { began: Instant::now(), lines: 0, suppressed: 0 })))
    }
}

impl Throttle {
    /// Runs `log` if there is room, with the number of lines that were left out since the last one.
    pub fn log(&self, log: impl FnOnce(u64)) {
        let suppressed = {
            let mut window = self.0.lock();
            let now = Instant::now();
            if now.duration_since(window.began) >= PERIOD {
                (window.began, window.lines) = (now, 0);
            }
            if window.lines >= LINES {
                window.suppressed += 1;
                return;
            }
            window.lines += 1;
            std::mem::take(&mut window.suppressed)
        };
        log(suppressed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_summed_up() {
        let throttle = Throttle::default();
        let mut lines = Vec::new();
        (0..100).for_each(|_| throttle.log(|suppressed| lines.push(suppressed)));
        tokio::time::advance(PERIOD).await;
        throttle.log(|suppressed| lines.push(suppressed));
        assert_eq!(lines, [&[0; 10][..], &[90]].concat());
    }
}
