use std::sync::Arc;

use purista_core::{
    Message, Result, ServiceAddress,
    adapter::{Backlog, ConsumerTask, Delivery, Intake, Pushed, Stop, StopSignal},
};
use rumqttc::Publish;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    address::Names,
    codec::{Reply, command_passed_on, deadline, given_back, property, response, times_given_back},
    connection::Connection,
    round_trips::RoundTrips,
    session::Session,
    standing::Standing,
    transport::MqttTransport,
    watch::{Listening, Watch},
};

/// How many commands that came wait to be taken over.
const ARRIVALS_CAPACITY: usize = 256;

/// How often a command for a named instance is given back to those who share it, for the original, which has no other way
/// to one of its instances.
const MAX_GIVEN_BACK: u32 = 24;

/// Consumes a command. The broker has nothing more to do with what it handed over, so what cannot be handled at once
/// waits here.
#[derive(Debug)]
pub(crate) struct CommandConsumer {
    task: ConsumerTask,
    watch: ConsumerTask,
}

/// What a command listens to.
struct CommandListening {
    connection: Arc<Connection>,
    filters: [String; 4],
}

impl Listening for CommandListening {
    fn session(&self) -> Option<Arc<Session>> {
        Some(self.connection.session())
    }

    fn round_trips(&self) -> &RoundTrips {
        self.connection.round_trips()
    }

    async fn subscribe(&self, session: &Session) -> Result<()> {
        self.connection.subscribe_again(session, &self.filters).await
    }

    async fn listens_to_echoes(&self, session: &Session) -> bool {
        self.connection.listens_to_echoes(session).await
    }
}

/// A command that waits for its handler.
#[derive(Debug)]
struct Item {
    message: Arc<Message>,
    publish: Publish,
    deadline: Option<Instant>,
}

impl Pushed<MqttTransport> for Item {
    type Connection = Connection;

    fn size(&self) -> usize {
        self.publish.payload.len()
    }

    fn into_delivery(self) -> Delivery<Reply> {
        let reply = Reply::to(&self.publish);
        Delivery::new(self.message).with_original(self.publish.payload).with_reply_to(reply, self.deadline)
    }

    async fn answer_unavailable(self, connection: Arc<Connection>) -> Result<()> {
        let answer = self.message.unavailable(connection.link().instance_id());
        let (topic, options) = (connection.names.topic(&answer), response(&Reply::to(&self.publish)));
        let sent = connection.session().send(topic, answer.encode(), options).await;
        sent.map_err(|failed| failed.into_error("respond"))
    }
}

impl CommandConsumer {
    /// Starts to consume; returns when the broker routes to us.
    pub(crate) async fn open(
        connection: Arc<Connection>,
        command: &ServiceAddress,
        intake: Intake<MqttTransport>,
    ) -> Result<Self> {
        let (to, mut arrivals) = mpsc::channel(ARRIVALS_CAPACITY);
        let members = connection.names.command_members(command);
        let [commands, streams] = connection.names.command(command);
        let filters = [
            commands,
            streams,
            connection.names.shared_by(command, &members),
            connection.names.command_member(command, connection.link().instance_id()),
        ];
        let config = &connection.config;
        let backlog = Backlog::new(
            Arc::clone(&connection),
            intake.clone(),
            config.pending_messages,
            config.pending_bytes,
        );
        let standing = Standing::new(intake.clone());
        let mut first = Vec::new();
        {
            let subscribed = connection.subscribe(&filters, &to, Some(&standing));
            tokio::pin!(subscribed);
            loop {
                tokio::select! {
                    biased;
                    Some(publish) = arrivals.recv() => first.push(publish),
                    subscribed = &mut subscribed => break subscribed?,
                }
            }
        }
        let closing = connection.closing().clone();
        let command = command.clone();
        let watch = Watch {
            listening: CommandListening { connection: Arc::clone(&connection), filters: filters.clone() },
            standing,
            topic: Names::echo(&connection.names.command_pattern(&command), connection.client_id()),
            answers: Some(connection.names.answer_echo(connection.client_id())),
            connection: Arc::clone(&connection),
        };
        let task = Task { connection, command, members, filters, intake, backlog, to, arrivals };
        let task = ConsumerTask::spawn(&closing, |stop| async move {
            first.into_iter().for_each(|publish| task.take(publish));
            task.run(stop).await;
        });
        Ok(Self { task, watch: watch.spawn() })
    }

    /// Takes nothing more, and hands over what waits to another instance. What nobody takes is handled here before a
    /// shutdown.
    pub(crate) async fn stop(&self, why: Stop) {
        self.watch.stop(why).await;
        self.task.stop(why).await;
    }
}

struct Task {
    connection: Arc<Connection>,
    command: ServiceAddress,
    /// Where other instances pass commands on to.
    members: String,
    /// The topics of the command and of streams that are opened there, and what other instances pass on to any, or to this one.
    filters: [String; 4],
    intake: Intake<MqttTransport>,
    backlog: Arc<Backlog<MqttTransport, Item>>,
    to: mpsc::Sender<Publish>,
    arrivals: mpsc::Receiver<Publish>,
}

impl Task {
    async fn run(mut self, mut stop: StopSignal) {
        let why = loop {
            tokio::select! {
                biased;
                why = stop.told() => break why,
                arrival = self.arrivals.recv() => match arrival {
                    Some(publish) => self.take(publish),
                    None => return,
                },
                takes_more = self.backlog.deliver_next() => if !takes_more { return },
            }
        };
        self.finish(why).await;
    }

    fn take(&self, publish: Publish) {
        let deadline = deadline(&publish, Instant::now());
        let message = match Message::decode(publish.payload.clone()) {
            Ok(message) => Arc::new(message),
            Err(error) => {
                let beside = |name: &str| property(&publish, name);
                return self.intake.unreadable(&error, &publish.payload, Reply::to(&publish), beside);
            }
        };
        let is_passed_on = publish.topic.starts_with(self.members.as_bytes());
        let item = Item { message, publish, deadline };
        match self.topic_of_another(&item.message) {
            Some(topic) if !is_passed_on => self.pass_on(item, topic),
            _ => self.backlog.accept(item),
        }
    }

    /// Returns where a command goes that is not for us: several commands can have the same topic, and an instance shares
    /// it with all others.
    fn topic_of_another(&self, message: &Message) -> Option<String> {
        let (names, own_instance) = (&self.connection.names, self.connection.link().instance_id());
        let meant = message.receiver.as_ref()?;
        match &meant.instance_id {
            Some(instance) if meant.address != self.command || instance != own_instance => {
                Some(names.command_member(&meant.address, instance))
            }
            None if meant.address != self.command => Some(names.command_members(&meant.address)),
            _ => None,
        }
    }

    /// Passes a command on to whom it is meant for. If nobody is there, it is refused here.
    fn pass_on(&self, item: Item, topic: String) {
        let connection = Arc::clone(&self.connection);
        let named = item.message.receiver.as_ref().filter(|meant| meant.instance_id.is_some());
        let is_own = named.is_some_and(|meant| meant.address == self.command);
        let back_to = is_own.then(|| self.connection.names.given_back(&self.command));
        self.backlog.pass_on(item, move |item| async move {
            let times = times_given_back(&item.publish);
            let payload = item.publish.payload.clone();
            let session = connection.session();
            // An instance of ours is found at the first time.
            let is_taken = times == 0 && {
                let (payload, options) = (payload.clone(), command_passed_on(&item.publish, item.deadline));
                session.publish_once(topic, payload, options, "pass on").await.unwrap_or(false)
            };
            let is_taken = is_taken
                || match back_to.filter(|_| times < MAX_GIVEN_BACK) {
                    Some(topic) => {
                        let options = given_back(&item.publish, times + 1, item.deadline);
                        session.publish_once(topic, payload, options, "give back").await.unwrap_or(false)
                    }
                    None => false,
                };
            (!is_taken).then_some(item)
        });
    }

    async fn finish(&mut self, why: Stop) {
        let connection = Arc::clone(&self.connection);
        let mut last = Vec::new();
        {
            let ended = connection.unsubscribe(&self.filters, &self.to);
            tokio::pin!(ended);
            loop {
                tokio::select! {
                    biased;
                    Some(publish) = self.arrivals.recv() => last.push(publish),
                    () = &mut ended => break,
                }
            }
        }
        while let Ok(publish) = self.arrivals.try_recv() {
            last.push(publish);
        }
        last.into_iter().for_each(|publish| self.take(publish));

        while let Some(item) = self.backlog.pop() {
            let options = command_passed_on(&item.publish, item.deadline);
            let payload = item.publish.payload.clone();
            let given =
                connection.session().publish_once(self.members.clone(), payload, options, "hand over").await;
            if !given.unwrap_or(false) {
                self.backlog.put_back(item);
                break;
            }
        }
        self.backlog.finish(why).await;
    }
}
