//! Locks and atomics that the model checker can replace.

#[cfg(not(purista_loom))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(purista_loom))]
pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(purista_loom)]
pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};

/// The model checker's lock with the interface of the one that it replaces.
#[cfg(purista_loom)]
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(purista_loom)]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
