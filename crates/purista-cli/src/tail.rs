//! `purista tail`.

use std::{pin::pin, sync::Arc, time::Duration};

use purista::{
    BridgeEvent, Context, EventBridge, HandlerError, Message, RetryPolicy, Sharing, Subscription,
    SubscriptionHandler, SubscriptionOptions, core::adapter::async_trait,
};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::{JoinHandle, spawn_blocking},
    time::{interval, timeout},
};

use crate::{
    arguments::TailArguments,
    closed::stdout_is_closed,
    connection::{bridge, over},
    line,
    missed::Missed,
    outcome::{Failure, Outcome},
    output::{note, printed},
};

/// How many messages wait for whoever reads the output; more wait at the bridge.
const WAITING: usize = 1_024;

/// How long what has arrived may take to be printed at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How often it is looked whether something was missed.
const LOOK: Duration = Duration::from_secs(1);

/// A message to print, or the end.
type Item = Option<Arc<Message>>;

/// Prints messages as they come.
pub(crate) async fn tail(arguments: TailArguments) -> Result<(), Failure> {
    let TailArguments { filter, count, connection } = arguments;
    let bridge = bridge(connection.url.as_deref())?;
    let end = purista::end_signal()?;
    let (sender, receiver) = channel(WAITING);
    // Gone with this process, and apart from whoever else watches.
    let options = SubscriptionOptions::default()
        .with_sharing(Sharing::Broadcast)
        .with_durable(false)
        .with_max_concurrency(1)
        .with_retry(RetryPolicy::NEVER)
        .with_dead_letter(false);
    let subscription = Subscription::new(("purista-cli", "1", "tail"), filter.filter()).with_options(options);
    let hides_nobody = filter.may_be_command();
    bridge.register_subscription(subscription, Arc::new(Print(sender.clone()))).await?;
    over(&*bridge, async {
        let events = bridge.events();
        note(&format!("watching on {}: {filter}; Ctrl-C ends", bridge.name()));
        if hides_nobody {
            note(
                "while commands are watched, nobody hears at once that a command is not served; --type leaves commands out",
            );
        }
        // It may wait for its reader without end, which nothing else here may.
        let mut printer = spawn_blocking(move || print_all(receiver, connection.json, count));
        let mut missed = Missed::default();
        let watched = watch(&*bridge, events, end, &mut printer, &mut missed).await;
        if !printer.is_finished() {
            let _late = timeout(LAST_LINES, async {
                if sender.send(None).await.is_ok() {
                    let _ended = (&mut printer).await;
                }
            })
            .await;
        }
        missed.look(&bridge.stats());
        watched
    })
    .await
}

/// Returns at the end of the printer, at a signal, or when nobody reads any more.
async fn watch(
    bridge: &dyn EventBridge,
    mut events: purista::BridgeEvents,
    end: impl Future<Output = ()>,
    printer: &mut JoinHandle<Result<(), Failure>>,
    missed: &mut Missed,
) -> Result<(), Failure> {
    let mut end = pin!(end);
    let mut closed = pin!(stdout_is_closed());
    let mut look = interval(LOOK);
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            () = &mut closed => return Ok(()),
            printed = &mut *printer => {
                return printed.unwrap_or_else(|error| Err(Failure::new(Outcome::Failed, error.to_string())));
            }
            event = events.next() => match event {
                Some(BridgeEvent::ShutDown) | None => {
                    return Err(Failure::new(Outcome::Unreachable, "the bridge has ended"));
                }
                Some(event) => missed.event(&event),
            },
            _ = look.tick() => missed.look(&bridge.stats()),
        }
    }
}

/// Prints until the last message that is wanted, or until nobody reads.
fn print_all(mut messages: Receiver<Item>, json: bool, count: Option<u64>) -> Result<(), Failure> {
    let mut left = count;
    while let Some(Some(message)) = messages.blocking_recv() {
        let line = if json { line::whole(&message) } else { line::short(&message) };
        if printed(&line)?.is_break() {
            return Ok(());
        }
        left = left.map(|left| left - 1);
        if left == Some(0) {
            return Ok(());
        }
    }
    Ok(())
}

struct Print(Sender<Item>);

#[async_trait]
impl SubscriptionHandler for Print {
    async fn handle(&self, context: Context) -> Result<(), HandlerError> {
        // Fails after the last message that is wanted: then this one is not.
        let _unwanted = self.0.send(Some(Arc::clone(context.message()))).await;
        Ok(())
    }
}
