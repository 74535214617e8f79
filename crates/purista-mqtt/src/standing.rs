use std::sync::Arc;

use parking_lot::Mutex;
use purista_core::adapter::Intake;

use crate::transport::MqttTransport;

/// What keeps a registration from consuming.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// Its own connection is lost.
    Lost = 1,
    /// The broker refuses its subscription.
    Refused = 2,
    /// The broker delivers nothing to it.
    Deaf = 4,
    /// The broker does not take its answers.
    Mute = 8,
}

/// Whether a registration consumes, for the health.
#[derive(Clone, Debug)]
pub(crate) struct Standing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    intake: Intake<MqttTransport>,
    troubles: Mutex<u8>,
}

impl Standing {
    pub(crate) fn new(intake: Intake<MqttTransport>) -> Self {
        Self(Arc::new(Inner { intake, troubles: Mutex::new(0) }))
    }

    /// Notes whether there is this trouble. It is told under the lock, so that what is told last is true.
    pub(crate) fn note(&self, trouble: Trouble, is_there: bool) {
        let mut troubles = self.0.troubles.lock();
        let before = *troubles;
        *troubles = if is_there { before | trouble as u8 } else { before & !(trouble as u8) };
        if before == *troubles {
            return;
        }
        tracing::debug!(?trouble, is_there, "a registration");
        if *troubles == 0 {
            self.0.intake.consumer_up();
        } else if before == 0 {
            self.0.intake.consumer_down();
        }
    }
}
