//! How a wrong bridge emits.

use std::sync::Arc;

use parking_lot::Mutex;
use purista_core::{EmitOptions, Error, ErrorKind, EventBridge, EventDraft, Message, Result};

use super::{Fault, outage::Outage};

/// What a wrong bridge has emitted so far.
#[derive(Debug)]
pub(super) struct Emits {
    fault: Fault,
    inner: Arc<dyn EventBridge>,
    outage: Arc<Outage>,
    emitted: Mutex<u64>,
    /// How many emits the broker has refused, and what the last one was told.
    refused: Mutex<(u64, Option<Error>)>,
    held: Mutex<Option<EventDraft>>,
}

impl Emits {
    pub(super) fn new(fault: Fault, inner: Arc<dyn EventBridge>, outage: Arc<Outage>) -> Self {
        Self {
            fault,
            inner,
            outage,
            emitted: Mutex::default(),
            refused: Mutex::default(),
            held: Mutex::default(),
        }
    }

    pub(super) async fn emit(&self, draft: EventDraft, options: &EmitOptions) -> Result<Arc<Message>> {
        let pretended = || Arc::new(draft.clone().stamp(self.inner.instance_id()));
        let number = {
            let mut emitted = self.emitted.lock();
            *emitted += 1;
            *emitted
        };
        match self.fault {
            Fault::DropsOneInSeven if number.is_multiple_of(7) => return Ok(pretended()),
            Fault::Duplicates => {
                self.inner.emit_message(draft.clone(), options).await?;
            }
            Fault::Reorders if number % 2 == 1 => {
                *self.held.lock() = Some(draft.clone());
                return Ok(pretended());
            }
            Fault::Reorders => {
                let held = self.held.lock().take();
                let sent = self.inner.emit_message(draft, options).await;
                if let Some(held) = held {
                    self.inner.emit_message(held, options).await?;
                }
                return sent;
            }
            Fault::EmitsUnconfirmed => {
                let message = pretended();
                let (bridge, options) = (Arc::clone(&self.inner), *options);
                tokio::spawn(async move { bridge.emit_message(draft, &options).await });
                return Ok(message);
            }
            Fault::IgnoresMustRoute => {
                return self.inner.emit_message(draft, &options.with_must_route(false)).await;
            }
            Fault::BuffersEvents if !self.inner.health().connected => return Ok(pretended()),
            Fault::IgnoresEmitLimits => {
                let patient = options.with_timeout(options.timeout.saturating_mul(3));
                return self.inner.emit_message(draft, &patient).await;
            }
            Fault::FailsNeighbours => {
                let before = self.refused.lock().0;
                let sent = self.inner.emit_message(draft, options).await;
                let mut refused = self.refused.lock();
                match sent {
                    Err(error) => {
                        *refused = (refused.0 + 1, Some(error.clone()));
                        return Err(error);
                    }
                    // It was on its way at that time.
                    Ok(_) if refused.0 > before => {
                        return Err(refused
                            .1
                            .clone()
                            .unwrap_or_else(|| Error::new(ErrorKind::Unexpected, "emit")));
                    }
                    Ok(message) => return Ok(message),
                }
            }
            Fault::BlocksThreads => {
                return self.outage.block(self.inner.emit_message(draft, options)).await;
            }
            _ => {}
        }
        self.inner.emit_message(draft, options).await
    }
}
