//! Dead letters of a wrong bridge.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use purista_core::{
    DeadLetterFilter, DeadLetterId, DeadLetterPage, DeadLetters, EmitOptions, ErrorKind, EventBridge,
    EventDraft, KeptDeadLetter, Message, RedriveOptions, RedriveReport, Result,
};

use tokio::time::interval;

use super::Fault;

/// The dead letters of a right bridge, used wrongly.
#[derive(Debug)]
pub(super) struct WrongLetters {
    pub(super) fault: Fault,
    pub(super) inner: Arc<dyn DeadLetters>,
    pub(super) bridge: Arc<dyn EventBridge>,
}

impl WrongLetters {
    fn options(&self, options: &RedriveOptions) -> RedriveOptions {
        match self.fault {
            Fault::ForgetsRedrives => options.with_max_redrives(u32::MAX),
            _ => *options,
        }
    }

    /// Emits the message of a letter anew.
    async fn emit(&self, kept: &KeptDeadLetter) -> Result<()> {
        let message = Message::decode(kept.letter.original.clone())?;
        let name = message.event_name.clone().unwrap_or_else(|| "none".into());
        let mut draft = EventDraft::event(&message.sender.address, name);
        if let Some(payload) = message.payload() {
            draft = draft.with_payload(payload.clone());
        }
        self.bridge.emit_message(draft, &EmitOptions::default()).await?;
        Ok(())
    }
}

#[async_trait]
impl DeadLetters for WrongLetters {
    async fn list(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<&DeadLetterId>,
    ) -> Result<DeadLetterPage> {
        let page = self.inner.list(filter, limit, after).await?;
        if self.fault == Fault::ConsumesByListing {
            for kept in &page.letters {
                self.inner.purge(&kept.id).await?;
            }
        }
        Ok(page)
    }

    async fn get(&self, id: &DeadLetterId) -> Result<Option<KeptDeadLetter>> {
        self.inner.get(id).await
    }

    async fn redrive(&self, id: &DeadLetterId, options: &RedriveOptions) -> Result<()> {
        if self.fault == Fault::RedrivesToAll
            && let Some(kept) = self.inner.get(id).await?
        {
            self.emit(&kept).await?;
            self.inner.purge(id).await?;
            return Ok(());
        }
        self.inner.redrive(id, &self.options(options)).await
    }

    async fn redrive_all(
        &self,
        filter: &DeadLetterFilter,
        options: &RedriveOptions,
    ) -> Result<RedriveReport> {
        let sent = self.inner.redrive_all(filter, &self.options(options)).await;
        if self.fault != Fault::LosesRedriven || sent.is_ok() {
            return sent;
        }
        // As if each had been removed before it was sent.
        let mut again = interval(Duration::from_millis(100));
        loop {
            again.tick().await;
            match self.inner.purge_all(filter).await {
                Err(error) if error.kind() != ErrorKind::ShutDown => {}
                purged => return purged.map(|_| RedriveReport::default()),
            }
        }
    }

    async fn purge(&self, id: &DeadLetterId) -> Result<bool> {
        self.inner.purge(id).await
    }

    async fn purge_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let everything = DeadLetterFilter::default();
        let filter = if self.fault == Fault::PurgesEverything { &everything } else { filter };
        self.inner.purge_all(filter).await
    }
}
