use std::time::Duration;

use crate::{
    error::{Error, Result},
    matcher::check_identity_len,
    message::Id,
};

/// What is configurable on every bridge.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineConfig {
    /// The id of this instance; if it is not set, each engine gets a random one.
    pub instance_id: Option<Id>,
    /// How many calls can be pending; 100,000 by default.
    pub max_pending_calls: usize,
    /// How many emits can wait for the broker; 100,000 by default.
    pub max_pending_emits: usize,
    /// The longest name or id that is sent or registered, in bytes; 255 by default.
    pub max_identity_len: usize,
    /// How long connecting, and each broker operation of a registration, may take; 10 s by default.
    pub operation_timeout: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            instance_id: None,
            max_pending_calls: 100_000,
            max_pending_emits: 100_000,
            max_identity_len: 255,
            operation_timeout: Duration::from_secs(10),
        }
    }
}

impl EngineConfig {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a limit or time of zero,
    /// [`InvalidMessage`](crate::ErrorKind::InvalidMessage) for an instance id that is empty or too long.
    pub fn validate(&self) -> Result<()> {
        let limits = [self.max_pending_calls, self.max_pending_emits, self.max_identity_len];
        if limits.contains(&0) || self.operation_timeout.is_zero() {
            return Err(Error::invalid_config("limits and times must be greater than zero"));
        }
        let instance_id = self.instance_id.as_ref();
        instance_id.map_or(Ok(()), |id| check_identity_len(id.len(), self.max_identity_len))
    }
}
