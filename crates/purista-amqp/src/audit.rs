//! What the broker tells nobody is looked at now and then: an exchange or a binding that somebody has deleted, a consumer
//! that is gone.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use lapin::{options::QueueDeclareOptions, protocol::AMQPSoftError, types::FieldTable};
use purista_core::{ErrorKind, Result, adapter::async_trait};
use tokio::time::{sleep, timeout};

use crate::{
    attach::bind,
    channels::OpenChannel,
    connection::Connection,
    error::{error, from_lapin, soft_error},
    session::Session,
    topology::Plan,
};

/// How many registrations are looked at in a second: that costs the broker some requests for each.
const PER_SECOND: u32 = 25;

/// How many registrations are bound anew at once when an exchange was restored.
const AT_ONCE: usize = 8;

/// How much longer than their interval other bridges may take to find out that they have to bind again.
const OTHERS: Duration = Duration::from_secs(1);

/// How long an exchange that goes away while all is bound anew has to settle.
const AGAIN: Duration = Duration::from_millis(100);

/// How long the broker may take to tell of the exchanges, or of one queue.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that consumes.
#[async_trait]
pub(crate) trait Audited: Send + Sync {
    /// Looks whether it does, puts back what leads to it, and has it restored if it does not consume.
    async fn look(&self) -> Found;
}

/// What was found at the broker.
#[derive(Debug)]
pub(crate) enum Found {
    /// All is there, or was put back.
    Whole,
    /// The consumer is gone, or cannot be as it should; why.
    Broken(String),
    /// There is an exchange less.
    NoExchange,
    /// The consumer is gone, or the queue is busy: the broker says of one that does not answer at once that it has none.
    Silent(String),
    /// The broker does not let us look.
    Unknown,
}

/// Looks at the broker now and then, and when it is asked to, as long as the connection is there.
pub(crate) async fn keep_whole(connection: Weak<Connection>) {
    let Some(current) = connection.upgrade() else { return };
    let (closing, asked, interval) =
        (current.closing().clone(), Arc::clone(&current.look), current.config.check_interval);
    drop(current);
    let mut was_blocked = false;
    loop {
        let Some(session) = connection.upgrade().map(|current| current.session()) else { return };
        tokio::select! {
            () = closing.cancelled() => return,
            () = asked.notified() => {}
            () = session.block_changed(was_blocked) => {}
            () = sleep(interval) => {}
        }
        drop(session);
        let Some(current) = connection.upgrade() else { return };
        if !current.is_up() {
            continue;
        }
        let session = current.session();
        was_blocked = session.is_blocked();
        tokio::select! {
            () = closing.cancelled() => return,
            () = session.lost() => {}
            () = look(&current, &session) => {}
        }
    }
}

async fn look(connection: &Connection, session: &Session) {
    if session.is_blocked() {
        connection
            .in_trouble(&error(ErrorKind::Backpressure, "send").with_context("the broker takes no messages"));
        return;
    }
    let mended = timeout(PATIENCE, mend_exchanges(connection, session)).await;
    match mended.unwrap_or_else(|_| Err(error(ErrorKind::Timeout, "look"))) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Timeout => {
            connection.in_trouble(&error.with_context("the broker does not answer"));
            return;
        }
        Err(error) if error.kind().is_temporary() => {
            tracing::debug!(%error, "the exchanges could not be looked at");
            return;
        }
        Err(error) => {
            connection.in_trouble(&error);
            return;
        }
    }
    if connection.is_slow() {
        connection.out_of_trouble();
    }
    if connection.is_in_trouble() {
        if !bind_all_anew(connection).await {
            sleep(AGAIN).await;
            connection.look.notify_one();
            return;
        }
        // Other bridges find out by themselves meanwhile. What is sent before would not come to them.
        sleep(connection.config.check_interval.saturating_add(OTHERS)).await;
        connection.out_of_trouble();
        return;
    }
    for what in connection.audited() {
        match what.look().await {
            Found::NoExchange => {
                connection.look.notify_one();
                return;
            }
            Found::Whole | Found::Broken(_) | Found::Silent(_) | Found::Unknown => {}
        }
        drop(what);
        tokio::select! {
            biased;
            () = connection.look.notified() => {
                connection.look.notify_one();
                return;
            }
            () = sleep(Duration::from_secs(1) / PER_SECOND) => {}
        }
    }
    match timeout(PATIENCE, connection.keep_dead_letter_queue(session)).await {
        Ok(Ok(())) => {}
        kept => tracing::debug!(?kept, "the queue of dead letters could not be looked at"),
    }
}

/// Declares the exchanges that are gone, and compares the others.
async fn mend_exchanges(connection: &Connection, session: &Session) -> Result<()> {
    let exchanges = connection.topology.exchanges();
    if let Some(missing) = session.missing_exchange(&exchanges).await? {
        let gone =
            error(ErrorKind::Unavailable, "send").with_context(format!("the exchange {missing} is gone"));
        connection.in_trouble(&gone);
    }
    session.declare_exchanges(&exchanges).await
}

/// Binds all that consumes to the exchanges again. Returns whether the exchanges were there for all of it.
async fn bind_all_anew(connection: &Connection) -> bool {
    let were_there = AtomicBool::new(true);
    let bind = async |what: Arc<dyn Audited>| {
        if let Found::NoExchange = what.look().await {
            were_there.store(false, Ordering::Relaxed);
        }
    };
    stream::iter(connection.audited()).for_each_concurrent(AT_ONCE, bind).await;
    were_there.into_inner()
}

/// Looks whether the queues of some plans are consumed, and puts back what leads to them.
pub(crate) async fn look_at(channel: &OpenChannel, plans: &[Plan]) -> Found {
    let look = async {
        for plan in plans {
            match look_at_one(channel, plan).await {
                Ok(Found::Whole) => {}
                Ok(found) => return found,
                Err(error) => {
                    tracing::debug!(%error, queue = %plan.queue.name, "a queue could not be looked at");
                    return Found::Unknown;
                }
            }
        }
        Found::Whole
    };
    timeout(PATIENCE, look).await.unwrap_or_else(|_| Found::Silent("the broker does not answer".to_owned()))
}

async fn look_at_one(channel: &OpenChannel, plan: &Plan) -> Result<Found> {
    let (queue, failed) = (&plan.queue.name, |cause| from_lapin(cause, "look"));
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let beside = channel.beside().await?;
    match beside.queue_declare(queue.clone(), options, FieldTable::default()).await {
        Ok(declared) if declared.consumer_count() > 0 => {}
        // A queue whose leader is down cannot be bound: the broker says of it that it is not there.
        Ok(_) => return Ok(Found::Silent(format!("nobody consumes from {queue}, or it does not answer"))),
        Err(cause) if soft_error(&cause) == Some(AMQPSoftError::NOTFOUND) => {
            return Ok(Found::Broken(format!("{queue} is gone")));
        }
        Err(cause) => return Err(failed(cause)),
    }
    match bind(&beside, plan).await {
        Ok(()) => Ok(Found::Whole),
        Err(cause) => match soft_error(&cause) {
            Some(AMQPSoftError::NOTFOUND) => Ok(Found::NoExchange),
            Some(AMQPSoftError::PRECONDITIONFAILED) => {
                Ok(Found::Broken(format!("{queue} has another filter")))
            }
            // Who may not bind still consumes.
            Some(AMQPSoftError::ACCESSREFUSED) => Ok(Found::Unknown),
            _ => Err(failed(cause)),
        },
    }
}
