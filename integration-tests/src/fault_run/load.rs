use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use purista_core::{
    BridgeEvents, CommandDraft, Context, EventBridge, EventBridgeExt as _, Filter, HandlerError,
    InvokeOptions, Payload, Service, ServiceAddress, Sharing, SubscriptionOptions,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{Site, books::Books, part::Reach};

/// How many bridges share the subscription and serve the command.
pub(super) const SERVICES: usize = 2;
const PUBLISHERS: usize = 4;
/// How many emits of one publisher wait for the broker at once.
const WINDOW: usize = 32;
const CALLERS: usize = 4;
/// The time between two calls of one caller: a refusal comes at once, and is no reason to spin.
const PACE: Duration = Duration::from_millis(5);
/// How long a call waits for its answer.
const CALL_LIMIT: Duration = Duration::from_secs(1);
/// How long a publisher rests after an emit that failed.
const REST: Duration = Duration::from_millis(10);

const EVENT: &str = "counted";
const ECHO: (&str, &str, &str) = ("Echo", "1", "echo");

/// Publishers, subscribers and callers at work.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) books: Arc<Books>,
    bridges: Vec<Arc<dyn EventBridge>>,
    tasks: JoinSet<()>,
    _listeners: JoinSet<()>,
}

impl Load {
    /// Begins to work, with bridges that connect to these addresses of nodes.
    pub(super) async fn begin(site: &dyn Site, reach: Reach) -> anyhow::Result<Self> {
        let books = Arc::new(Books::new());
        let mut addresses = site.nodes().iter().map(reach).cycle();
        let mut bridge = || anyhow::Ok(site.bridge(addresses.next().context("no node")?)?);
        let client = bridge()?;
        client.start().await?;
        let mut bridges = vec![Arc::clone(&client)];
        for service in 0..SERVICES {
            let bridge = bridge()?;
            bridge.serve([bookkeeper(&books, service), echo()]).await?;
            bridges.push(bridge);
        }
        let (mut tasks, mut listeners) = (JoinSet::new(), JoinSet::new());
        for (number, bridge) in bridges.iter().enumerate() {
            listeners.spawn(listen(Arc::clone(&books), bridge.events(), number));
        }
        for _ in 0..PUBLISHERS {
            tasks.spawn(publish(Arc::clone(&books), Arc::clone(&client)));
        }
        for caller in 0..CALLERS as u64 {
            tasks.spawn(call(Arc::clone(&books), Arc::clone(&client), caller));
        }
        Ok(Self { books, bridges, tasks, _listeners: listeners })
    }

    pub(super) fn bridges(&self) -> &[Arc<dyn EventBridge>] {
        &self.bridges
    }

    /// Stops publishers and callers; returns when their last emits and calls have ended.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        self.books.close();
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }
}

fn bookkeeper(books: &Arc<Books>, service: usize) -> Service {
    let books = Arc::clone(books);
    let options = SubscriptionOptions::default().with_durable(true).with_sharing(Sharing::Shared);
    let note = move |context: Context, number: u64| {
        books.handled(service, number, context.attempt());
        async { Ok(()) }
    };
    Service::new("Books", "1").subscription_with("book", Filter::event(EVENT), options, note)
}

fn echo() -> Service {
    let echo = |_: Context, number: u64| async move { Ok::<_, HandlerError>(number) };
    Service::new(ECHO.0, ECHO.1).command(ECHO.2, echo)
}

/// Notes what happens to a bridge; the first one is the client's.
async fn listen(books: Arc<Books>, mut events: BridgeEvents, number: usize) {
    while let Some(event) = events.next().await {
        books.watch.told(format!("bridge {number}: {event:?}"));
    }
}

async fn publish(books: Arc<Books>, bridge: Arc<dyn EventBridge>) {
    let mut emits = FuturesUnordered::new();
    loop {
        while emits.len() < WINDOW && !books.is_closed() {
            emits.push(emit(&books, &*bridge));
        }
        if emits.next().await.is_none() {
            return;
        }
    }
}

async fn emit(books: &Books, bridge: &dyn EventBridge) {
    let Some(number) = books.number().await else { return };
    match bridge.emit(EVENT, &number).await {
        Ok(_) => books.acknowledged(number),
        Err(error) => {
            books.emit_failed(number, &error);
            sleep(REST).await;
        }
    }
}

async fn call(books: Arc<Books>, bridge: Arc<dyn EventBridge>, caller: u64) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = caller;
    while !books.is_closed() {
        pace.tick().await;
        number += CALLERS as u64;
        let begun = Instant::now();
        match invoke(&*bridge, number).await {
            Ok(answer) if answer == number => {
                books.call_ok();
                books.watch.answered(begun);
            }
            Ok(answer) => books.complain(format!("the answer to {number} was {answer}")),
            Err(error) => books.call_failed(&error),
        }
    }
}

async fn invoke(bridge: &dyn EventBridge, number: u64) -> Result<u64, purista_core::InvokeError> {
    let draft = CommandDraft::new(ServiceAddress::client(), ECHO).with_payload(Payload::json(&number)?);
    let options = InvokeOptions::default().with_timeout(CALL_LIMIT);
    let response = bridge.invoke_command(draft, &options).await?;
    Ok(response.payload().map_or(Ok(u64::MAX), Payload::deserialize)?)
}
