use std::time::Duration;

use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle, time::timeout};

/// How long a call may still take that nobody waits for any more. The service keeps the time limit as well, so that most end
/// by themselves.
const GRACE: Duration = Duration::from_secs(1);

/// How many calls of this process may do so at once.
const MAX_ABANDONED: usize = 1_024;

static PLACES: Semaphore = Semaphore::const_new(MAX_ABANDONED);

/// A call that is not cancelled at once if nobody waits for it any more: with Dapr 1.18.1, other calls fail when many are
/// cancelled, as the sidecar gives them the errors of these.
struct Call<R: Send + 'static>(Option<JoinHandle<R>>);

/// Runs a call to its end, also if this is dropped, within limits; `None` if it panicked.
pub(crate) async fn to_its_end<R: Send + 'static>(
    call: impl Future<Output = R> + Send + 'static,
) -> Option<R> {
    let mut call = Call(Some(tokio::spawn(call)));
    let result = call.0.as_mut()?.await.ok();
    call.0 = None;
    result
}

impl<R: Send + 'static> Drop for Call<R> {
    fn drop(&mut self) {
        let Some(mut task) = self.0.take() else { return };
        match (Handle::try_current(), PLACES.try_acquire()) {
            (Ok(runtime), Ok(place)) => drop(runtime.spawn(async move {
                if timeout(GRACE, &mut task).await.is_err() {
                    task.abort();
                }
                drop(place);
            })),
            _ => task.abort(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::{
        sync::oneshot::{self, Receiver},
        time::{Instant, sleep},
    };

    use super::*;

    /// Starts a call of some duration and gives it up; returns what tells whether it ended by itself.
    fn given_up(duration: Duration) -> Receiver<()> {
        let (ended, has_ended) = oneshot::channel();
        let call = to_its_end(async move {
            sleep(duration).await;
            let _nobody = ended.send(());
        });
        assert!(call.now_or_never().is_none());
        has_ended
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_ends_by_itself_within_limits() {
        assert_eq!(to_its_end(async { 7 }).await, Some(7));
        assert!(given_up(GRACE / 2).await.is_ok());
        let begin = Instant::now();
        assert!(given_up(2 * GRACE).await.is_err());
        assert_eq!(begin.elapsed().as_secs(), GRACE.as_secs());

        let others: Vec<_> = (0..MAX_ABANDONED).map(|_| given_up(GRACE / 2)).collect();
        let begin = Instant::now();
        assert!(given_up(GRACE / 2).await.is_err());
        assert_eq!(begin.elapsed(), Duration::ZERO);
        for other in others {
            assert!(other.await.is_ok());
        }
    }
}
