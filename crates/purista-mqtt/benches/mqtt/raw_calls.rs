//! Requests and replies of the raw side.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use purista_integration_tests::bench::{Contender, Stage};
use rumqttc::{AsyncClient, PubAckReason, PublishOptions, PublishProperties, ValidatedTopic};
use tokio::{sync::oneshot, time::timeout};

use crate::client::{Link, publish, read, subscribe};

/// How long a call may take, as with ours.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// What a raw contender sends and gets.
#[derive(Clone, Debug)]
pub(crate) struct RawCall {
    pub(crate) request: Message,
    pub(crate) reply: Message,
    /// What the service shares with others like it.
    pub(crate) requests: Subscription,
    pub(crate) replies: Subscription,
    /// Whether the caller waits until the broker has taken the request.
    pub(crate) is_confirmed: bool,
    /// Whether nobody takes care of the delays of the kernel.
    pub(crate) is_slow: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) topic: ValidatedTopic,
    pub(crate) payload: Bytes,
    pub(crate) properties: PublishProperties,
}

#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) filter: String,
    pub(crate) id: Option<usize>,
}

impl RawCall {
    /// Sends just these bytes, on short topics.
    pub(crate) fn bare(name: &str, [request, reply]: [Bytes; 2]) -> anyhow::Result<Self> {
        let (to, back) = (format!("{name}/echo"), format!("{name}/reply"));
        let asks = PublishProperties { response_topic: Some(back.clone()), ..PublishProperties::default() };
        let message = |topic: &str, payload, properties| {
            anyhow::Ok(Message { topic: ValidatedTopic::new(topic)?, payload, properties })
        };
        Ok(Self {
            request: message(&to, request, asks)?,
            reply: message(&back, reply, PublishProperties::default())?,
            requests: Subscription { filter: format!("$share/bench/{to}"), id: None },
            replies: Subscription { filter: back, id: None },
            is_confirmed: false,
            is_slow: false,
        })
    }

    fn link(&self, broker: SocketAddr, client_id: &str) -> Link {
        let link = Link::new(broker, client_id);
        if self.is_slow { link.slow() } else { link }
    }
}

/// The calls that wait for their replies.
#[derive(Debug, Default)]
struct Pending {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

impl Pending {
    /// Notes a call; returns its id, which is as long as one of ours, and its reply.
    fn call(&self) -> (Bytes, oneshot::Receiver<()>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        (format!("{id:032x}").into(), reply)
    }

    /// Hands a reply to its call.
    fn replied(&self, properties: Option<PublishProperties>) -> anyhow::Result<()> {
        let id =
            properties.and_then(|properties| properties.correlation_data).context("a reply to nothing")?;
        let id = u64::from_str_radix(std::str::from_utf8(&id)?, 16)?;
        // Who has given up does not listen.
        let _given_up = self.waiting.lock().remove(&id).context("a second reply")?.send(());
        Ok(())
    }
}

/// Adds a caller and its service: many calls in flight, or one by one.
pub(crate) async fn add(
    stage: &mut Stage,
    name: &'static str,
    broker: SocketAddr,
    in_flight: usize,
    call: RawCall,
) -> anyhow::Result<()> {
    serve(stage, name, broker, &call).await?;
    let (client, events) = call.link(broker, &format!("{name}-caller")).build()?;
    let pending = Arc::new(Pending::default());
    let replied = Arc::clone(&pending);
    read(stage, events, move |reply| replied.replied(reply.properties));
    subscribe(&client, &call.replies.filter, call.replies.id).await?;
    let caller = Arc::new(Caller { client, pending, call });
    stage.add(Contender::of_calls(name, in_flight, move || {
        let caller = Arc::clone(&caller);
        async move { caller.call().await }
    }));
    Ok(())
}

/// Who calls; shared by pointer, as clones of a client cost something.
struct Caller {
    client: AsyncClient,
    pending: Arc<Pending>,
    call: RawCall,
}

impl Caller {
    async fn call(&self) -> anyhow::Result<()> {
        let Message { topic, payload, properties } = &self.call.request;
        let (id, reply) = self.pending.call();
        let options = at_least_once(properties, Some(id));
        let (topic, payload) = (topic.clone(), payload.clone());
        if self.call.is_confirmed {
            let reason = publish(&self.client, topic, payload, options).await?;
            ensure!(reason == PubAckReason::Success, "a request was refused: {reason:?}");
        } else {
            self.client.try_publish(topic, payload, options)?;
        }
        timeout(TIME_LIMIT, reply).await??;
        Ok(())
    }
}

fn at_least_once(properties: &PublishProperties, correlation_data: Option<Bytes>) -> PublishOptions {
    PublishOptions::at_least_once().properties(PublishProperties { correlation_data, ..properties.clone() })
}

/// Answers where requests are read, and waits for nothing.
async fn serve(stage: &mut Stage, name: &str, broker: SocketAddr, call: &RawCall) -> anyhow::Result<()> {
    let (client, events) = call.link(broker, &format!("{name}-service")).build()?;
    let (answers, reply) = (client.clone(), call.reply.clone());
    read(stage, events, move |request| {
        let id = request.properties.and_then(|properties| properties.correlation_data);
        let options = at_least_once(&reply.properties, id);
        Ok(answers.try_publish(reply.topic.clone(), reply.payload.clone(), options)?)
    });
    subscribe(&client, &call.requests.filter, call.requests.id).await
}
