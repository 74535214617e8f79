use std::sync::Arc;

use parking_lot::Mutex;
use purista_core::{
    Capabilities, Capability, Command, Error, ErrorKind, Id, MAX_TIMEOUT, Message, Result, ServiceAddress,
    Sharing, Subscription,
    adapter::{
        ACKNOWLEDGING, Consumer, DeadLetter, DeadLetterReader, Intake, Link, Publish, ROUTING, ReadFrom,
        Stop, Transport,
    },
};
use tokio::time::Instant;

use crate::{Hub, hub::WeakHub, letters::Reader, routes::SubscriberKey};

const GIVEN: Capabilities = ROUTING
    .with_all(ACKNOWLEDGING)
    .with(Capability::DeadLetter)
    .with(Capability::DeadLetterInspection)
    .with(Capability::LongHandlers)
    .with(Capability::MustRoute);

/// The mapping onto a [`Hub`].
#[derive(Debug)]
pub(crate) struct InProcess {
    hub: Hub,
    link: Mutex<Option<Link>>,
}

impl InProcess {
    pub(crate) fn new(hub: Hub) -> Self {
        Self { hub, link: Mutex::new(None) }
    }

    pub(crate) const fn hub(&self) -> &Hub {
        &self.hub
    }

    fn link(&self) -> Result<Link> {
        self.link.lock().clone().ok_or_else(|| Error::new(ErrorKind::NotStarted, "send"))
    }
}

impl Transport for InProcess {
    type Consumer = Membership;
    type ReplyTo = Link;

    const NAME: &'static str = "default";

    fn capabilities(&self) -> Capabilities {
        GIVEN.with_max_payload(self.hub.config().max_payload)
    }

    async fn connect(&self, link: Link) -> Result<()> {
        let mut routes = self.hub.routes().write();
        let id = link.instance_id().clone();
        if routes.bridges.contains_key(&id) {
            return Err(Error::new(ErrorKind::AlreadyRegistered, "start")
                .with_context("another bridge on the hub has the same instance id"));
        }
        routes.bridges.insert(id, link.clone());
        *self.link.lock() = Some(link);
        Ok(())
    }

    async fn publish(&self, message: Arc<Message>, publish: Publish) -> Result<()> {
        self.hub.publish(message, publish.deadline, publish.must_route).await
    }

    async fn request(&self, command: Arc<Message>, deadline: Instant) -> Result<()> {
        self.hub.request(command, self.link()?, deadline).await
    }

    async fn respond(&self, response: Arc<Message>, reply_to: Link) -> Result<()> {
        reply_to.respond(Arc::clone(&response));
        self.hub.observe(response).await;
        Ok(())
    }

    async fn consume_command(&self, command: &Command, intake: Intake<Self>) -> Result<Membership> {
        let instance_id = self.link()?.instance_id().clone();
        let address = command.address.clone();
        let capacity = self.hub.config().queue_capacity;
        self.hub.routes().write().join_command(address.clone(), instance_id.clone(), intake, capacity);
        Ok(Membership { hub: self.hub.downgrade(), instance_id, of: MemberOf::Command(address) })
    }

    async fn consume_subscription(
        &self,
        subscription: &Subscription,
        intake: Intake<Self>,
    ) -> Result<Membership> {
        let instance_id = self.link()?.instance_id().clone();
        let key = SubscriberKey {
            address: subscription.subscriber.clone(),
            instance_id: (intake.granted().sharing == Sharing::Broadcast).then(|| instance_id.clone()),
        };
        let capacity = self.hub.config().queue_capacity;
        let (filter, member) = (&subscription.filter, instance_id.clone());
        self.hub.routes().write().join_subscriber(key.clone(), filter, member, intake, capacity)?;
        Ok(Membership { hub: self.hub.downgrade(), instance_id, of: MemberOf::Subscriber(key) })
    }

    async fn keep_dead_letter(&self, letter: DeadLetter) -> Result<()> {
        self.hub.keep_dead_letter(letter)
    }

    async fn read_dead_letters(&self, from: ReadFrom) -> Result<Box<dyn DeadLetterReader>> {
        Ok(Box::new(Reader::open(self.hub.clone(), &from)?))
    }

    async fn redeliver(&self, letter: DeadLetter) -> Result<()> {
        // The engine has a time limit of its own.
        self.hub.redeliver(letter, Instant::now() + MAX_TIMEOUT).await
    }

    async fn disconnect(&self) -> Result<()> {
        if let Some(link) = self.link.lock().take() {
            self.hub.routes().write().bridges.remove(link.instance_id());
        }
        Ok(())
    }
}

/// A bridge that was dropped without shutdown leaves no route and no handler behind.
impl Drop for InProcess {
    fn drop(&mut self) {
        if let Some(link) = self.link.get_mut() {
            self.hub.routes().write().expel(link.instance_id());
        }
    }
}

/// The place of one instance among those of a command or subscriber.
#[derive(Debug)]
pub(crate) struct Membership {
    hub: WeakHub,
    instance_id: Id,
    of: MemberOf,
}

#[derive(Debug)]
enum MemberOf {
    Command(ServiceAddress),
    Subscriber(SubscriberKey),
}

impl Consumer for Membership {
    /// Leaves the backlog to the other instances. The last one finishes it before a shutdown, as nobody else would; when
    /// it unregisters, it wants no more.
    async fn stop(&self, why: Stop) {
        let Some(hub) = self.hub.upgrade() else { return };
        let unfinished = {
            let mut routes = hub.routes().write();
            match &self.of {
                MemberOf::Command(address) => routes.leave_command(address, &self.instance_id),
                MemberOf::Subscriber(key) => routes.leave_subscriber(key, &self.instance_id),
            }
        };
        match unfinished {
            Some(group) if why == Stop::ShutDown => group.finish().await,
            Some(group) => group.expel(&self.instance_id),
            None => {}
        }
    }
}
