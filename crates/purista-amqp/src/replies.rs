use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{Consumer, options::BasicAckOptions, types::ShortString};
use purista_core::{
    Result,
    adapter::{Link, async_trait},
};
use tokio::time::interval;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    attach::{Attached, attach},
    audit::{Audited, Found, look_at},
    channels::OpenChannel,
    codec::is_refusal,
    error::from_lapin,
    session::Session,
    topology::{Plan, Topology},
};

/// How many responses, and how many bytes of them, are acknowledged at once. The broker sends no more than its prefetch
/// beyond that, so what waits here is bounded.
const ACKNOWLEDGED_AT_ONCE: usize = 512;
const BYTES_AT_ONCE: usize = 1 << 20;

/// How long a response waits at most for others to be acknowledged with.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_millis(100);

/// Reads the responses to this instance.
#[derive(Debug)]
pub(crate) struct Replies {
    pub(crate) queue: ShortString,
    plans: Arc<[Plan]>,
    channel: OpenChannel,
    session: Weak<Session>,
    _end: DropGuard,
}

impl Replies {
    pub(crate) async fn open(session: &Arc<Session>, topology: &Topology, link: Link) -> Result<Self> {
        let plan = topology.replies(link.instance_id());
        let Attached { plans, channel, mut consumers, .. } =
            attach(session, std::slice::from_ref(&plan), false).await?;
        let (end, session) = (CancellationToken::new(), Arc::downgrade(session));
        let queue = plans[0].queue.name.clone();
        if let Some(consumer) = consumers.pop() {
            let acknowledging = channel.clone();
            let reading = read(consumer, link, move |tag| {
                let channel = acknowledging.clone();
                async move {
                    let acknowledged = channel.basic_ack(tag, BasicAckOptions { multiple: true }).await;
                    acknowledged.map_err(|cause| from_lapin(cause, "respond"))
                }
            });
            let (over, session) = (end.clone(), Weak::clone(&session));
            tokio::spawn(async move {
                tokio::select! {
                    () = reading => end_session(&session),
                    () = over.cancelled() => {}
                }
            });
        }
        Ok(Self { queue, plans, channel, session, _end: end.drop_guard() })
    }
}

#[async_trait]
impl Audited for Replies {
    async fn look(&self) -> Found {
        let found = look_at(&self.channel, &self.plans).await;
        if matches!(found, Found::Broken(_)) {
            end_session(&self.session);
        }
        found
    }
}

/// Answers that were on their way to a queue that is gone never come: the calls fail with the session, and a new one has
/// a new queue.
fn end_session(session: &Weak<Session>) {
    if let Some(session) = session.upgrade().filter(|session| !session.is_lost()) {
        tracing::warn!("the queue of answers is gone: a new connection gets another one");
        session.end();
    }
}

async fn read<F>(mut consumer: Consumer, link: Link, acknowledge: impl Fn(u64) -> F)
where
    F: Future<Output = Result<()>>,
{
    let mut tick = interval(ACKNOWLEDGED_WITHIN);
    let (mut last, mut messages, mut bytes) = (0, 0, 0);
    loop {
        let delivery = tokio::select! {
            biased;
            delivery = consumer.next() => delivery,
            _tick = tick.tick(), if messages > 0 => None,
        };
        let is_due = match delivery {
            Some(Ok(delivery)) => {
                (last, messages, bytes) = (delivery.delivery_tag, messages + 1, bytes + delivery.data.len());
                let is_refusal = is_refusal(&delivery.properties);
                link.receive(&delivery.data.into(), is_refusal);
                messages >= ACKNOWLEDGED_AT_ONCE || bytes >= BYTES_AT_ONCE
            }
            Some(Err(_)) => return,
            None if messages == 0 => return,
            None => true,
        };
        if is_due {
            (messages, bytes) = (0, 0);
            if acknowledge(last).await.is_err() {
                return;
            }
        }
    }
}
