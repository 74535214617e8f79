//! How registrations stop consuming on RabbitMQ while their bridge stays connected, or while it believes so.

use std::{sync::Arc, time::Duration};

use purista_conformance::Stoppage;
use purista_core::{Result, ServiceAddress, adapter::async_trait};
use purista_integration_tests::rabbitmq::{Management, RabbitServer};
use tokio::time::{Instant, interval};

use super::{
    DEFAULT_VHOST,
    deployment::{Place, cancel_consumer},
    secured::USER,
    wire::{queues_of, unavailable},
};

/// One of them, on a server of its own.
pub(crate) struct RabbitStoppage {
    how: How,
    server: Arc<RabbitServer>,
    place: Place,
}

#[derive(Clone, Copy)]
enum How {
    ConsumerCancelled,
    CommandQueueDeleted,
    BindingsDeleted,
    ExchangesDeleted,
    ReplyQueuesDeleted,
    RightsWithdrawn,
}

const ALL: [How; 6] = [
    How::ConsumerCancelled,
    How::CommandQueueDeleted,
    How::BindingsDeleted,
    How::ExchangesDeleted,
    How::ReplyQueuesDeleted,
    How::RightsWithdrawn,
];

/// Returns all of them.
pub(crate) fn stoppages(server: &Arc<RabbitServer>, place: &Place) -> Vec<Arc<dyn Stoppage>> {
    let stoppage = |how| RabbitStoppage { how, server: Arc::clone(server), place: place.clone() };
    ALL.into_iter().map(|how| Arc::new(stoppage(how)) as Arc<dyn Stoppage>).collect()
}

impl RabbitStoppage {
    fn management(&self) -> &Management {
        self.server.management()
    }

    /// Deletes the queues whose names pass.
    async fn delete_queues(&self, is_it: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        for queue in self.management().queues(DEFAULT_VHOST).await? {
            if is_it(&queue.name) {
                self.management().delete_queue(DEFAULT_VHOST, &queue.name).await?;
            }
        }
        Ok(())
    }

    /// Has connections ask again what they may: channels remember it. The server knows of a new connection after a second.
    async fn close_connections(&self) -> anyhow::Result<()> {
        let (mut poll, mut none_since) = (interval(Duration::from_millis(250)), Instant::now());
        while none_since.elapsed() < Duration::from_secs(2) {
            poll.tick().await;
            // One that ends by itself meanwhile cannot be closed.
            if self.management().close_connections(DEFAULT_VHOST).await.unwrap_or(1) > 0 {
                none_since = Instant::now();
            }
        }
        Ok(())
    }

    async fn make_it_happen(
        &self,
        command: &ServiceAddress,
        subscriber: &ServiceAddress,
    ) -> anyhow::Result<()> {
        let (management, prefix) = (self.management(), &self.place.prefix);
        match self.how {
            How::ConsumerCancelled => {
                let cancelled =
                    cancel_consumer(Arc::clone(&self.server), self.place.clone(), subscriber.clone()).await;
                cancelled.map_err(anyhow::Error::from)
            }
            How::CommandQueueDeleted => {
                let names = queues_of(prefix, self.place.is_typescript(), command);
                self.delete_queues(|name| names.iter().any(|it| it == name)).await
            }
            How::BindingsDeleted => {
                for binding in management.bindings(DEFAULT_VHOST).await? {
                    // Nobody else can unbind what is exclusive to a connection.
                    let is_exclusive =
                        [".reply.", ".instance."].iter().any(|it| binding.destination.contains(it));
                    if !binding.source.is_empty() && !is_exclusive {
                        management.delete_binding(DEFAULT_VHOST, &binding).await?;
                    }
                }
                Ok(())
            }
            How::ExchangesDeleted => {
                for exchange in management.exchanges(DEFAULT_VHOST).await? {
                    if exchange.name.starts_with(prefix) {
                        management.delete_exchange(DEFAULT_VHOST, &exchange.name).await?;
                    }
                }
                Ok(())
            }
            How::ReplyQueuesDeleted => {
                for queue in management.queues(DEFAULT_VHOST).await? {
                    if queue.name.contains(".reply.") {
                        self.server.delete_queue_by_force(DEFAULT_VHOST, &queue.name).await?;
                    }
                }
                Ok(())
            }
            How::RightsWithdrawn => {
                management.clear_permissions(DEFAULT_VHOST, USER).await?;
                self.close_connections().await
            }
        }
    }
}

#[async_trait]
impl Stoppage for RabbitStoppage {
    fn name(&self) -> &'static str {
        match self.how {
            How::ConsumerCancelled => "the queue of the subscriber is deleted",
            How::CommandQueueDeleted => "the queue of the command is deleted",
            How::BindingsDeleted => "all bindings are deleted",
            How::ExchangesDeleted => "all exchanges are deleted",
            How::ReplyQueuesDeleted => "the queues of answers are deleted",
            How::RightsWithdrawn => "the rights of the user are withdrawn",
        }
    }

    async fn begin(&self, command: &ServiceAddress, subscriber: &ServiceAddress) -> Result<()> {
        self.make_it_happen(command, subscriber).await.map_err(|cause| unavailable(format!("{cause:#}")))
    }

    async fn end(&self) -> Result<()> {
        let ended = match self.how {
            How::RightsWithdrawn => {
                self.management().set_permissions(DEFAULT_VHOST, USER, ".*", ".*", ".*").await
            }
            _ => Ok(()),
        };
        ended.map_err(unavailable)
    }
}
