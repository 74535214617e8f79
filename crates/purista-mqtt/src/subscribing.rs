//! Subscribing on the connection of an instance, whatever session it has.

use purista_core::Result;
use rumqttc::Publish;
use tokio::sync::mpsc;

use crate::{
    connection::Connection,
    routes::{ANSWERS, ROUND_TRIP},
    session::Session,
    standing::Standing,
};

/// How many messages that are kept wait for who reads them.
const KEPT_CAPACITY: usize = 1_024;

impl Connection {
    /// Subscribes for somebody; returns when the broker routes to us.
    pub(crate) async fn subscribe(
        &self,
        filters: &[String],
        to: &mpsc::Sender<Publish>,
        standing: Option<&Standing>,
    ) -> Result<()> {
        for filter in filters {
            let id = self.router.routes().add(filter, to.clone(), standing);
            let session = self.session();
            let subscribed = match session.subscribe(std::slice::from_ref(filter), Some(id)).await {
                Err(_) if session.is_lost() => self.is_restored(&session).await,
                subscribed => subscribed,
            };
            if subscribed.is_err() {
                self.unsubscribe(filters, to).await;
                return subscribed;
            }
        }
        Ok(())
    }

    /// Subscribes again to what is subscribed to.
    pub(crate) async fn subscribe_again(&self, session: &Session, filters: &[String]) -> Result<()> {
        for filter in filters {
            if let Some(id) = self.router.routes().id_of(filter) {
                session.subscribe(std::slice::from_ref(filter), Some(id)).await?;
            }
        }
        Ok(())
    }

    /// Subscribes to everything on a new session.
    pub(crate) async fn subscribe_all(&self, session: &Session) -> Result<()> {
        session.subscribe(&self.names.answers(self.link().instance_id()), Some(ANSWERS)).await?;
        session.subscribe(&[self.names.round_trip(self.client_id())], Some(ROUND_TRIP)).await?;
        self.listens_to_echoes(session).await;
        for (id, filter) in self.router.routes().filters() {
            match session.subscribe(std::slice::from_ref(&filter), Some(id)).await {
                // The others need not suffer for it. It is tried again.
                Err(error) if !session.is_lost() => {
                    tracing::warn!(%error, filter, "a subscription is refused");
                    self.router.routes().refused(id);
                }
                subscribed => subscribed?,
            }
            // Who wanted it may have gone meanwhile.
            if !self.router.routes().is_wanted(id) {
                session.unsubscribe(&filter).await?;
            }
        }
        Ok(())
    }

    /// Listens to what it sends to itself to find out what it may read. Returns whether that is allowed.
    pub(crate) async fn listens_to_echoes(&self, session: &Session) -> bool {
        let echoes = self.names.echoes(self.client_id());
        session.subscribe_to_echoes(echoes, Some(ROUND_TRIP)).await.is_ok()
    }

    /// Ends the subscriptions of somebody; returns when everything has arrived that the broker had routed to them. It must
    /// be received meanwhile.
    pub(crate) async fn unsubscribe(&self, filters: &[String], to: &mpsc::Sender<Publish>) {
        let session = self.session();
        let end = async {
            for filter in filters.iter().filter(|filter| self.router.routes().is_last(filter, to)) {
                session.unsubscribe(filter).await?;
            }
            self.round_trip().await
        };
        if let Err(error) = end.await {
            // A lost connection has no subscriptions.
            tracing::debug!(%error, "a subscription could not be ended");
        }
        self.router.routes().remove(to);
    }

    /// Reads what is kept under topics.
    pub(crate) async fn kept(&self, filter: &str) -> Result<Vec<Publish>> {
        let (to, mut came) = mpsc::channel(KEPT_CAPACITY);
        let id = self.router.routes().add(filter, to.clone(), None);
        let mut kept = Vec::new();
        let read = {
            let read = async {
                self.session().subscribe_to_kept(filter.to_owned(), id).await?;
                self.round_trip().await
            };
            tokio::pin!(read);
            loop {
                tokio::select! {
                    Some(publish) = came.recv() => kept.push(publish),
                    read = &mut read => break read,
                }
            }
        };
        while let Ok(publish) = came.try_recv() {
            kept.push(publish);
        }
        drop(came);
        self.unsubscribe(&[filter.to_owned()], &to).await;
        read.map(|()| kept)
    }
}
