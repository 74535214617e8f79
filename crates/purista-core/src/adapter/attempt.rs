//! One attempt of a handler: apart from others, from its panics, and within its time.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::{Pass, Transport, dispatch::Work, registered::Endpoint, spans::failed};
use crate::{
    durations::Ended,
    error::{HandlerError, Result},
};

/// How long a handler may react to its cancellation before it is dropped.
const CANCELLATION_PATIENCE: Duration = Duration::from_millis(60);

/// How one attempt of a handler ended.
pub(super) enum Outcome<R> {
    Succeeded(R),
    Failed(HandlerError),
    /// The bridge's grace period is over; this was no attempt.
    Cancelled,
}

impl<T: Transport> Work<T> {
    /// Runs a handler once: isolated from its panics, within its time, and until some patience after the end of the
    /// bridge's grace period.
    pub(super) async fn attempt<R>(
        &self,
        span: &Span,
        starting: Option<Pass>,
        handler: impl Future<Output = Result<R, HandlerError>> + Send,
    ) -> Outcome<R> {
        let cancellation = &self.engine.cancellation;
        let end = self.registered.granted().handler_timeout.map(|limit| Instant::now() + limit);
        // Before the handler, which may block: who waits for it goes on meanwhile.
        drop(starting);
        let began = self.engine.shared.operations.begin();
        let record = |ended| self.registered.attempts.record(T::NAME, &self.registered.address, began, ended);
        // The handler's future is dropped in there, which may panic as well.
        let result = AssertUnwindSafe(async {
            let out_of_time = async {
                match end {
                    // The timers are boxed: they are rare, and would make up half of the future.
                    Some(end) => Box::pin(tokio::time::sleep_until(end)).await,
                    None => std::future::pending().await,
                }
            };
            let given_up = async {
                cancellation.cancelled().await;
                Box::pin(tokio::time::sleep(CANCELLATION_PATIENCE)).await;
            };
            let handler = pin!(handler.instrument(span.clone()));
            tokio::select! {
                biased;
                result = stepping_aside(handler) => Some(result),
                () = out_of_time => Some(Err(HandlerError::unhandled("the handler ran out of its time"))),
                () = given_up => None,
            }
        });
        let error = match result.catch_unwind().await {
            Ok(Some(Ok(value))) => {
                record(Ended::Well);
                return Outcome::Succeeded(value);
            }
            Ok(None) => return Outcome::Cancelled,
            Ok(Some(Err(_))) if cancellation.is_cancelled() => return Outcome::Cancelled,
            Ok(Some(Err(error))) => error,
            Err(panic) => {
                self.counters().panicked.increment();
                HandlerError::unhandled(format!("the handler panicked: {}", panic_message(&*panic)))
            }
        };
        self.counters().failed_attempts.increment();
        match (&error, &self.registered.endpoint) {
            // Its caller gets it.
            (HandlerError::Handled(_), Endpoint::Command(..)) => record(Ended::Handled),
            _ => {
                record(Ended::Failed);
                failed(span, Ended::Failed.as_str());
            }
        }
        if let HandlerError::Unhandled(_) = error {
            self.warn(&error, "a handler failed");
        }
        Outcome::Failed(error)
    }
}

/// Lets others go first each time before the handler goes on, which may then compute or block.
///
/// A task that was woken on this thread waits for it alone as long as no other one was, and the timers and sockets of the
/// runtime may be watched by this thread alone. To be scheduled anew wakes another thread, which takes all of that over.
fn stepping_aside<F: Future>(mut handler: Pin<&mut F>) -> impl Future<Output = F::Output> {
    let mut has_stepped_aside = false;
    poll_fn(move |context| {
        if !has_stepped_aside {
            has_stepped_aside = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = handler.as_mut().poll(context);
        has_stepped_aside = false;
        polled
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}
