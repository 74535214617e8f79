use std::sync::Arc;

use async_nats::Subject;
use bytes::Bytes;
use purista_core::{
    Error, Message, Receiver, Result, ServiceAddress,
    adapter::{Backlog, ConsumerTask, Delivery, Intake, Pushed, Stop, StopSignal},
};
use tokio::time::Instant;

use crate::{
    codec::{deadline, given_back_headers, hand_over_headers, handed_over_reply_to, times_given_back},
    connection::Connection,
    consuming::PartHealth,
    subscription::Subscription,
    transport::NatsTransport,
};

/// What a core consumer listens to.
#[derive(Clone, Debug)]
pub(crate) struct CoreConsumerSpec {
    /// The command that is served; `None` for a subscription.
    pub(crate) command: Option<ServiceAddress>,
    pub(crate) subject: String,
    /// The group that shares the messages; `None` if each instance gets them.
    pub(crate) queue_group: Option<String>,
    /// Where messages go that one instance of the group hands over to another.
    pub(crate) hand_over: String,
    pub(crate) pending_messages: usize,
    pub(crate) pending_bytes: usize,
}

/// A message that waits for its handler.
#[derive(Debug)]
struct Item {
    message: Arc<Message>,
    original: Bytes,
    reply_to: Option<Subject>,
    deadline: Option<Instant>,
    /// How often instances that were not meant have given it back to the queue group.
    given_back: u32,
}

/// How often a command for a named instance is given back to its queue group, for the original, which has no other way to
/// one of its instances.
const MAX_GIVEN_BACK: u32 = 24;

impl Pushed<NatsTransport> for Item {
    type Connection = Connection;

    fn size(&self) -> usize {
        self.original.len()
    }

    fn into_delivery(self) -> Delivery<Subject> {
        let delivery = Delivery::new(self.message).with_original(self.original);
        match self.reply_to {
            Some(reply_to) => delivery.with_reply_to(reply_to, self.deadline),
            None => delivery,
        }
    }

    fn has_caller(&self) -> bool {
        self.reply_to.is_some()
    }

    async fn answer_unavailable(self, connection: Arc<Connection>) -> Result<()> {
        let Some(reply_to) = self.reply_to else { return Ok(()) };
        let response = self.message.unavailable(connection.link().instance_id());
        connection.publish(reply_to, None, None, response.encode()).await
    }
}

impl Item {
    /// Gives the message to another instance; returns whether there is one.
    async fn hand_over(&self, connection: &Connection, members: String) -> Result<bool> {
        let reply_to = self.reply_to.as_ref().map(Subject::as_str);
        let headers = hand_over_headers(reply_to, self.deadline);
        connection.publish_to_somebody(members.into(), Some(headers), self.original.clone()).await
    }

    /// Gives a command for a named instance back to the group, as the original has instances there that know no other way;
    /// returns whether that was still possible.
    async fn give_back(&self, connection: &Connection, command: &ServiceAddress) -> bool {
        if self.given_back >= MAX_GIVEN_BACK {
            return false;
        }
        let headers = given_back_headers(self.given_back + 1, self.deadline);
        let subject = Subject::from(connection.names.given_back(command));
        let sent = connection.publish(subject, self.reply_to.clone(), Some(headers), self.original.clone());
        sent.await.is_ok()
    }
}

impl CoreConsumerSpec {
    /// Starts to consume messages of core NATS, which the server pushes as they come: what cannot be handled at once waits.
    /// Returns when the server routes to us. When it stops, it hands over what waits to another instance; what nobody takes
    /// is handled here before a shutdown.
    pub(crate) async fn consume(
        self,
        connection: Arc<Connection>,
        intake: Intake<NatsTransport>,
        health: PartHealth,
    ) -> Result<ConsumerTask> {
        let spec = self;
        let group = spec.queue_group.clone();
        let subscription =
            connection.subscribe(spec.subject.clone(), group.clone(), health.another()).await?;
        let handed_over = match &group {
            Some(_) => Some(connection.subscribe(spec.hand_over.clone(), group, health.another()).await?),
            None => None,
        };
        let to_this_instance = match &spec.command {
            Some(command) => {
                let subject = connection.names.command_member(command, connection.link().instance_id());
                Some(connection.subscribe(subject, None, health.another()).await?)
            }
            None => None,
        };
        let streams = match &spec.command {
            Some(command) => {
                let (subject, group) = (connection.names.stream_pattern(command), spec.queue_group.clone());
                Some(connection.subscribe(subject, group, health.another()).await?)
            }
            None => None,
        };
        let backlog =
            Backlog::new(Arc::clone(&connection), intake.clone(), spec.pending_messages, spec.pending_bytes);
        let task = Task {
            connection,
            spec,
            intake,
            backlog,
            health,
            subscription,
            handed_over,
            to_this_instance,
            streams,
        };
        Ok(ConsumerTask::spawn(&task.connection.closing().clone(), |stop| task.run(stop)))
    }
}

struct Task {
    connection: Arc<Connection>,
    spec: CoreConsumerSpec,
    intake: Intake<NatsTransport>,
    backlog: Arc<Backlog<NatsTransport, Item>>,
    health: PartHealth,
    subscription: Subscription,
    handed_over: Option<Subscription>,
    /// Commands for this very instance, which came to another one.
    to_this_instance: Option<Subscription>,
    /// Frames of streams that somebody opens at the command.
    streams: Option<Subscription>,
}

impl Task {
    async fn run(mut self, mut stop: StopSignal) {
        let backlog = Arc::clone(&self.backlog);
        let why = loop {
            tokio::select! {
                biased;
                why = stop.told() => break why,
                message = self.next() => match message {
                    Some(message) => self.take(message),
                    None => return self.health.ended(),
                },
                takes_more = backlog.deliver_next() => if !takes_more { return },
            }
        };
        self.finish(why).await;
    }

    /// Returns what came first of all that it listens to; `None` once something of that has ended. Cancel safe.
    async fn next(&mut self) -> Option<async_nats::Message> {
        tokio::select! {
            biased;
            message = self.subscription.next() => message,
            message = next_of(&mut self.handed_over) => message,
            message = next_of(&mut self.to_this_instance) => message,
            message = next_of(&mut self.streams) => message,
        }
    }

    /// Takes a message over at once, so that the client never has to drop one.
    fn take(&self, message: async_nats::Message) {
        let arrived = Instant::now();
        let deadline = deadline(&message, arrived);
        let given_back = times_given_back(&message);
        // Of a hand-over, the reply subject is only for the server to tell that nobody is there.
        let is_handed_over = message.subject.as_str().starts_with(&self.spec.hand_over);
        let reply_to = match is_handed_over {
            true => handed_over_reply_to(&message).map(Subject::from),
            false => message.reply,
        };
        let decoded = match Message::decode(message.payload.clone()) {
            Ok(decoded) => Arc::new(decoded),
            Err(error) => return self.unreadable(&error, &message.payload, reply_to),
        };
        if given_back > 0 && self.spec.command.is_none() {
            // Who observes commands has seen it when it was sent.
            return;
        }
        // Who observes messages answers none.
        let reply_to = reply_to.filter(|_| self.spec.command.is_some());
        let item = Item { message: decoded, original: message.payload, reply_to, deadline, given_back };
        match self.meant_for_another(&item.message) {
            Some(meant) if !is_handed_over => self.pass_on(item, &meant),
            _ => self.backlog.accept(item),
        }
    }

    /// Tells the caller of a command that it is no message.
    fn unreadable(&self, error: &Error, payload: &[u8], reply_to: Option<Subject>) {
        let Some(reply_to) = reply_to.filter(|_| self.spec.command.is_some()) else {
            return self.connection.link().malformed(error);
        };
        // Callers of ours put it there.
        let correlation_id = reply_to.as_str().rsplit('.').next().unwrap_or_default().to_owned();
        let beside = |name: &str| (name == "correlationId").then(|| correlation_id.clone());
        self.intake.unreadable(error, payload, reply_to, beside);
    }

    /// Returns whom a command is meant for, if it is another one: several commands can have the same subject, and an
    /// instance shares it with all others.
    fn meant_for_another(&self, message: &Message) -> Option<Receiver> {
        let own = self.spec.command.as_ref()?;
        let meant = message.receiver.as_ref()?;
        let instance = meant.instance_id.as_ref();
        let is_ours = meant.address == *own
            && instance.is_none_or(|instance| instance == self.connection.link().instance_id());
        (!is_ours).then(|| meant.clone())
    }

    /// Passes a command on to whom it is meant for, if this queue group alone has it. A command of another group came to
    /// that group too; here it is refused.
    fn pass_on(&self, item: Item, meant: &Receiver) {
        if Some(self.connection.names.queue_group(&meant.address)) != self.spec.queue_group {
            return self.backlog.accept(item);
        }
        let names = &self.connection.names;
        let members = match &meant.instance_id {
            Some(instance) => names.command_member(&meant.address, instance),
            None => names.command_members(&meant.address),
        };
        let connection = Arc::clone(&self.connection);
        // An instance of ours is found at the first time.
        let is_ours = item.given_back == 0;
        let may_give_back = meant.instance_id.is_some() && self.spec.command.as_ref() == Some(&meant.address);
        let meant = meant.address.clone();
        self.backlog.pass_on(item, move |item| async move {
            let is_there = is_ours && item.hand_over(&connection, members).await.unwrap_or(false);
            let is_passed_on = is_there || (may_give_back && item.give_back(&connection, &meant).await);
            (!is_passed_on).then_some(item)
        });
    }

    async fn finish(&mut self, why: Stop) {
        let mut last = Vec::new();
        let further = [&mut self.streams, &mut self.to_this_instance, &mut self.handed_over];
        for subscription in further.into_iter().flatten() {
            subscription.drain(&self.connection, |message| last.push(message)).await;
        }
        self.subscription.drain(&self.connection, |message| last.push(message)).await;
        last.into_iter().for_each(|message| self.take(message));

        if self.spec.queue_group.is_some() {
            while let Some(item) = self.backlog.pop() {
                match item.hand_over(&self.connection, self.spec.hand_over.clone()).await {
                    Ok(true) => {}
                    Ok(false) | Err(_) => {
                        self.backlog.put_back(item);
                        break;
                    }
                }
            }
        }
        self.backlog.finish(why).await;
    }
}

async fn next_of(subscription: &mut Option<Subscription>) -> Option<async_nats::Message> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}
