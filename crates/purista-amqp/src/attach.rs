//! From a plan to a consumer: declares queues, exchanges and bindings, and deals with what differs from them.

use std::{sync::Arc, time::Duration};

use lapin::{
    Channel, Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicQosOptions, ExchangeBindOptions, ExchangeDeclareOptions,
        ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    protocol::AMQPSoftError,
    types::{AMQPValue, FieldTable, ShortString},
};
use purista_core::{Error, ErrorKind, Id, Result, adapter::Backoff};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use crate::{
    channels::OpenChannel,
    error::{error, from_lapin, is_limit, soft_error},
    session::Session,
    topology::{Binding, ExchangeSpec, Gate, Plan, QueueSpec},
    turn::Turn,
};

/// How often it is tried again when something was removed by another instance that left in this moment.
const TRIES: usize = 8;

/// How long a try may take at first, and at the most. RabbitMQ leaves who consumes from a quorum queue without a leader
/// waiting, maybe for ever; other queues have no leader.
const PATIENCE: Duration = Duration::from_secs(1);
const MAX_PATIENCE: Duration = Duration::from_secs(8);

/// How long the broker may count a consumer after its end.
const LINGERING: Duration = Duration::from_secs(1);

/// A channel and the consumers on it.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) session: Arc<Session>,
    /// With the names that the queues have on this connection.
    pub(crate) plans: Arc<[Plan]>,
    pub(crate) channel: OpenChannel,
    pub(crate) consumers: Vec<Consumer>,
    /// Whether a queue that should have waited for us was not there.
    pub(crate) was_forgotten: bool,
}

/// Declares what the plans say, and consumes.
pub(crate) async fn attach(session: &Arc<Session>, plans: &[Plan], is_restored: bool) -> Result<Attached> {
    let mut was_forgotten = false;
    for plan in plans.iter().filter(|plan| is_restored && plan.durable) {
        was_forgotten |= count(session, &plan.queue.name).await?.is_none();
    }
    let plans: Arc<[Plan]> = plans.iter().map(Plan::for_connection).collect();
    let gate = plans.iter().find_map(|plan| plan.gate.as_ref());
    let _turn = match gate {
        Some(gate) => Turn::take_if_allowed(session, gate.turn.clone()).await?,
        None => None,
    };
    // What others have declared for who may not.
    let mut given = Vec::new();
    let may_lack_leader = plans.iter().any(|plan| plan.durable);
    let (mut tries, mut patience) = (0, if may_lack_leader { PATIENCE } else { MAX_PATIENCE });
    loop {
        let channel = session.channel().await?;
        let closed = ClosedUnlessKept(Some(channel.clone()));
        let Ok(attached) = timeout(patience, attach_on(&channel, &plans, &given)).await else {
            tracing::debug!(?patience, "the broker takes long to attach a consumer: it is tried again");
            // What was asked for is not undone beside the next try: a queue that lasts as long as its consumers would be
            // deleted under it.
            let _late = timeout(patience, closed.close()).await;
            patience = MAX_PATIENCE.min(2 * patience);
            continue;
        };
        match attached {
            Ok(consumers) => {
                closed.keep();
                let session = Arc::clone(session);
                return Ok(Attached {
                    session,
                    plans: Arc::clone(&plans),
                    channel,
                    consumers,
                    was_forgotten,
                });
            }
            Err(failure) => {
                tries += 1;
                if let Some(name) = recover(session, failure, tries < TRIES).await? {
                    given.push(name);
                }
            }
        }
    }
}

/// A channel that is given up unless it is kept. What was asked for on it may still be done, such as a consumer of a
/// queue that had no leader: nobody would read what that one gets.
struct ClosedUnlessKept(Option<OpenChannel>);

impl ClosedUnlessKept {
    fn keep(mut self) {
        self.0 = None;
    }

    async fn close(self) {
        if let Some(channel) = &self.0 {
            give_up(channel).await;
        }
    }
}

impl Drop for ClosedUnlessKept {
    fn drop(&mut self) {
        if let (Some(channel), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move { give_up(&channel).await });
        }
    }
}

async fn give_up(channel: &OpenChannel) {
    if channel.status().connected()
        && let Err(error) = channel.close(200, "given up".into()).await
    {
        tracing::trace!(%error, "channel");
    }
}

/// Why a plan could not be carried out.
struct Failure<'a> {
    cause: lapin::Error,
    step: Step<'a>,
}

enum Step<'a> {
    Queue(&'a Plan),
    Gate(&'a Plan, &'a Gate),
    Other,
}

async fn attach_on<'a>(
    channel: &Channel,
    plans: &'a [Plan],
    given: &[ShortString],
) -> Result<Vec<Consumer>, Failure<'a>> {
    let other = |cause| Failure { cause, step: Step::Other };
    let mut consumers = Vec::new();
    for plan in plans {
        if !given.contains(&queue_mark(&plan.queue)) {
            let declared = declare_queue(channel, &plan.queue).await;
            declared.map_err(|cause| Failure { cause, step: Step::Queue(plan) })?;
        }
        match &plan.gate {
            None => bind_queue(channel, plan, &FieldTable::default()).await.map_err(other)?,
            Some(gate) => {
                if !given.contains(&gate_mark(gate)) {
                    let declared = declare_gate(channel, gate).await;
                    declared.map_err(|cause| Failure { cause, step: Step::Gate(plan, gate) })?;
                }
                bind_gate(channel, plan, gate).await.map_err(other)?;
            }
        }
    }
    for plan in plans {
        consumers.push(consume(channel, plan).await.map_err(other)?);
    }
    Ok(consumers)
}

/// Consumes one more time from a queue, with a prefetch of its own.
pub(crate) async fn consume(channel: &Channel, plan: &Plan) -> lapin::Result<Consumer> {
    channel.basic_qos(plan.prefetch, BasicQosOptions::default()).await?;
    let (queue, options) = (plan.queue.name.clone(), BasicConsumeOptions::default());
    channel.basic_consume(queue, ShortString::default(), options, FieldTable::default()).await
}

/// Removes what is in the way, if that loses nothing. Afterwards it can be tried again; without what is returned, which is
/// there and must not be declared by this user.
async fn recover(session: &Session, failure: Failure<'_>, may_try: bool) -> Result<Option<ShortString>> {
    let Failure { cause, step } = failure;
    match (soft_error(&cause), step) {
        _ if is_limit(&cause) => Err(from_lapin(cause, "register")),
        (Some(AMQPSoftError::NOTFOUND), _) if may_try => Ok(None),
        (Some(AMQPSoftError::PRECONDITIONFAILED), Step::Queue(plan)) if may_try => {
            replace_queue(session, &plan.queue, cause).await.map(|()| None)
        }
        (Some(AMQPSoftError::PRECONDITIONFAILED), Step::Gate(plan, gate)) if may_try => {
            replace_gate(session, plan, gate, cause).await.map(|()| None)
        }
        (Some(AMQPSoftError::ACCESSREFUSED), Step::Queue(plan)) if may_try => {
            let is_there = count(session, &plan.queue.name).await?.is_some();
            is_there.then(|| Some(queue_mark(&plan.queue))).ok_or_else(|| from_lapin(cause, "register"))
        }
        (Some(AMQPSoftError::ACCESSREFUSED), Step::Gate(_, gate)) if may_try => {
            let exchange = ExchangeSpec { name: gate.name.clone(), kind: ExchangeKind::Fanout };
            let is_there = session.missing_exchange(&[exchange]).await?.is_none();
            is_there.then(|| Some(gate_mark(gate))).ok_or_else(|| from_lapin(cause, "register"))
        }
        _ => Err(from_lapin(cause, "register")),
    }
}

fn queue_mark(queue: &QueueSpec) -> ShortString {
    format!("q{}", queue.name).into()
}

fn gate_mark(gate: &Gate) -> ShortString {
    format!("e{}", gate.name).into()
}

/// Removes a queue that was declared with other options, if nobody uses it and nothing is in it.
async fn replace_queue(session: &Session, queue: &QueueSpec, cause: lapin::Error) -> Result<()> {
    let counted = count_when_unused(session, &queue.name).await?;
    let Some(Count { messages, consumers }) = counted else { return Ok(()) };
    if messages > 0 || consumers > 0 {
        let context = format!(
            "the queue {} has other options, {consumers} consumers and {messages} messages: consume them as before, \
             or delete it",
            queue.name
        );
        return Err(mismatch(cause, context));
    }
    let channel = session.channel().await?;
    let deleted = channel.queue_delete(queue.name.clone(), QueueDeleteOptions::default()).await;
    deleted.map(drop).map_err(|cause| from_lapin(cause, "register"))
}

/// Removes what leads to a queue for another filter, if nobody uses it. The queue itself is bound to the new sources
/// meanwhile, so nothing is missed.
async fn replace_gate(session: &Session, plan: &Plan, gate: &Gate, cause: lapin::Error) -> Result<()> {
    if count_when_unused(session, &plan.queue.name).await?.is_some_and(|count| count.consumers > 0) {
        let context = format!("another instance of the subscriber of {} has another filter", plan.queue.name);
        return Err(mismatch(cause, context));
    }
    // Two that do this at once must not remove each other's bindings; no exchange matches what begins with x-.
    let mut mark = FieldTable::default();
    mark.insert("x-purista-temporary".into(), AMQPValue::LongString(Id::random().to_string().into()));
    let channel = session.channel().await?;
    let bound = bind_queue(&channel, plan, &mark).await;
    bound.map_err(|cause| from_lapin(cause, "register"))?;
    let replaced = async {
        channel.exchange_delete(gate.name.clone(), ExchangeDeleteOptions::default()).await?;
        declare_gate(&channel, gate).await?;
        bind_gate(&channel, plan, gate).await
    };
    let channel = match replaced.await {
        Ok(()) => channel,
        // Another instance was faster: what it has declared is compared next.
        Err(cause) if soft_error(&cause) == Some(AMQPSoftError::PRECONDITIONFAILED) => {
            session.channel().await?
        }
        Err(cause) => return Err(from_lapin(cause, "register")),
    };
    for Binding { exchange, routing_key, arguments } in &plan.bindings {
        let (queue, arguments) = (plan.queue.name.clone(), with(arguments, &mark));
        let unbound = channel.queue_unbind(queue, exchange.clone(), routing_key.clone(), arguments).await;
        unbound.map_err(|cause| from_lapin(cause, "register"))?;
    }
    Ok(())
}

fn mismatch(cause: lapin::Error, context: String) -> Error {
    error(ErrorKind::TopologyMismatch, "register").with_context(context).with_source(cause)
}

/// What is in a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) messages: u32,
    pub(crate) consumers: u32,
}

/// Looks at a queue; `None` if there is none.
pub(crate) async fn count(session: &Session, name: &ShortString) -> Result<Option<Count>> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let channel = session.channel().await?;
    match channel.queue_declare(name.clone(), options, FieldTable::default()).await {
        Ok(queue) => Ok(Some(Count { messages: queue.message_count(), consumers: queue.consumer_count() })),
        Err(cause) if soft_error(&cause) == Some(AMQPSoftError::NOTFOUND) => Ok(None),
        Err(cause) => Err(from_lapin(cause, "register")),
    }
}

/// Looks at a queue when nobody consumes from it any more, or when somebody goes on to.
async fn count_when_unused(session: &Session, name: &ShortString) -> Result<Option<Count>> {
    let deadline = Instant::now() + LINGERING;
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(100));
    loop {
        let counted = count(session, name).await?;
        if counted.is_none_or(|count| count.consumers == 0) || Instant::now() >= deadline {
            return Ok(counted);
        }
        sleep(backoff.next_delay()).await;
    }
}

pub(crate) async fn declare_queue(channel: &Channel, queue: &QueueSpec) -> lapin::Result<()> {
    let QueueSpec { name, options, arguments, .. } = queue;
    channel.queue_declare(name.clone(), *options, arguments.clone()).await.map(drop)
}

async fn declare_gate(channel: &Channel, gate: &Gate) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions {
        durable: true,
        auto_delete: gate.auto_delete,
        ..ExchangeDeclareOptions::default()
    };
    // The broker compares this argument with what it knows; the exchange that it names need not be there.
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), AMQPValue::LongString(gate.fingerprint.as_str().into()));
    channel.exchange_declare(gate.name.clone(), ExchangeKind::Fanout, options, arguments).await
}

/// Declares and binds again what leads to a queue, as far as it is not there.
pub(crate) async fn bind(channel: &Channel, plan: &Plan) -> lapin::Result<()> {
    match &plan.gate {
        None => bind_queue(channel, plan, &FieldTable::default()).await,
        Some(gate) => {
            declare_gate(channel, gate).await?;
            bind_gate(channel, plan, gate).await
        }
    }
}

async fn bind_gate(channel: &Channel, plan: &Plan, gate: &Gate) -> lapin::Result<()> {
    let (queue, options) = (plan.queue.name.clone(), QueueBindOptions::default());
    channel
        .queue_bind(queue, gate.name.clone(), ShortString::default(), options, FieldTable::default())
        .await?;
    for Binding { exchange, routing_key, arguments } in &plan.bindings {
        let (gate, exchange, options) = (gate.name.clone(), exchange.clone(), ExchangeBindOptions::default());
        channel.exchange_bind(gate, exchange, routing_key.clone(), options, arguments.clone()).await?;
    }
    Ok(())
}

async fn bind_queue(channel: &Channel, plan: &Plan, mark: &FieldTable) -> lapin::Result<()> {
    for Binding { exchange, routing_key, arguments } in &plan.bindings {
        let (queue, arguments) = (plan.queue.name.clone(), with(arguments, mark));
        let options = QueueBindOptions::default();
        channel.queue_bind(queue, exchange.clone(), routing_key.clone(), options, arguments).await?;
    }
    Ok(())
}

fn with(arguments: &FieldTable, more: &FieldTable) -> FieldTable {
    let mut all = arguments.clone();
    for (name, value) in more.inner() {
        all.insert(name.clone(), value.clone());
    }
    all
}

/// Removes a queue, and what leads to it, if nobody consumes from it any more.
pub(crate) async fn remove_if_unused(session: &Session, plan: &Plan) -> Result<()> {
    let channel = session.channel().await?;
    let options = QueueDeleteOptions { if_unused: true, ..QueueDeleteOptions::default() };
    let removed = async {
        channel.queue_delete(plan.queue.name.clone(), options).await?;
        match &plan.gate {
            Some(gate) => channel.exchange_delete(gate.name.clone(), Default::default()).await,
            None => Ok(()),
        }
    };
    match removed.await {
        // Others still use it.
        Err(cause) if soft_error(&cause) == Some(AMQPSoftError::PRECONDITIONFAILED) => Ok(()),
        removed => removed.map_err(|cause: lapin::Error| from_lapin(cause, "unregister")),
    }
}
