use std::sync::atomic::{AtomicBool, Ordering};

use purista_core::adapter::{Intake, Transport};

/// Lets the requests of one registration in, until it stops.
#[derive(Debug)]
pub struct Admission<T: Transport> {
    pub(crate) intake: Intake<T>,
    is_stopped: AtomicBool,
}

impl<T: Transport> Admission<T> {
    pub(crate) const fn new(intake: Intake<T>) -> Self {
        Self { intake, is_stopped: AtomicBool::new(false) }
    }

    /// Lets in no more.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Returns whether it lets in no more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Tells whether anything can be delivered to it.
    pub fn tell(&self, consumes: bool) {
        match consumes {
            true => self.intake.consumer_up(),
            false => self.intake.consumer_down(),
        }
    }
}
