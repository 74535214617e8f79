use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle, time::timeout};

/// How long a call may still take that nobody waits for any more. The service keeps the time limit as well, so that most end
/// by themselves.
const GRACE: Duration = Duration::from_secs(1);

/// How many calls may do so at once.
const MAX_ABANDONED: usize = 1_024;

static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_ABANDONED)));

/// A call that is not cancelled at once if nobody waits for it any more: with Dapr 1.18.1, other calls fail when many are
/// cancelled, as the sidecar gives them the errors of these.
struct Call<R: Send + 'static>(Option<JoinHandle<R>>);

/// Runs a call to its end, also if this is dropped, within limits; `None` if it panicked.
pub(crate) async fn to_its_end<R: Send + 'static>(
    call: impl Future<Output = R> + Send + 'static,
) -> Option<R> {
    let mut call = Call(Some(tokio::spawn(call)));
    let result = match &mut call.0 {
        Some(task) => task.await.ok(),
        None => None,
    };
    call.0 = None;
    result
}

impl<R: Send + 'static> Drop for Call<R> {
    fn drop(&mut self) {
        let Some(mut task) = self.0.take() else { return };
        match (Handle::try_current(), Arc::clone(&PLACES).try_acquire_owned()) {
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
