//! What a model checker needs to replace: locks, atomics, notifications, and chance.

#[cfg(purista_loom)]
pub(crate) use self::modelled::{AtomicUsize, Mutex, Notify, Ordering, RandomState};
#[cfg(not(purista_loom))]
pub(crate) use foldhash::fast::RandomState;
#[cfg(not(purista_loom))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(purista_loom))]
pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
#[cfg(not(purista_loom))]
pub(crate) use tokio::sync::Notify;

/// What the model checker sees through, with the interface of what it replaces.
#[cfg(purista_loom)]
mod modelled {
    use std::{
        future::Future,
        pin::Pin,
        sync::PoisonError,
        task::{Context, Poll, Waker},
    };

    /// Each run has to take the same steps.
    pub(crate) use foldhash::fast::FixedState as RandomState;
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// Keeps the promise of tokio's: a notification reaches all who asked for it before. The real one works, but what
    /// it synchronises is hidden from the model checker, which then reports wake-ups as lost that are not.
    #[derive(Debug)]
    pub(crate) struct Notify(Mutex<Waiting>);

    #[derive(Debug, Default)]
    struct Waiting {
        notifications: usize,
        wakers: Vec<Waker>,
    }

    /// Completes at the next notification after it was created.
    #[derive(Debug)]
    pub(crate) struct Notified<'a> {
        notify: &'a Notify,
        seen: usize,
    }

    impl Notify {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(Waiting::default()))
        }

        pub(crate) fn notified(&self) -> Notified<'_> {
            Notified { notify: self, seen: self.0.lock().notifications }
        }

        pub(crate) fn notify_waiters(&self) {
            let wakers = {
                let mut waiting = self.0.lock();
                waiting.notifications += 1;
                std::mem::take(&mut waiting.wakers)
            };
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    impl Future for Notified<'_> {
        type Output = ();

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let waker = context.waker().clone();
            let mut waiting = self.notify.0.lock();
            if waiting.notifications != self.seen {
                return Poll::Ready(());
            }
            waiting.wakers.push(waker);
            Poll::Pending
        }
    }
}
