use std::sync::Arc;

use futures_util::StreamExt as _;
use lapin::{Consumer, message::Delivery, options::BasicAckOptions, types::ShortString};
use purista_core::{Message, Result, adapter::Link};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    attach::{Attached, attach},
    codec::{body, is_refusal},
    error::from_lapin,
    session::Session,
    topology::Topology,
};

/// How many responses are acknowledged at once. The broker sends as many more as its prefetch allows, so what waits
/// here is bounded.
const ACKNOWLEDGED_AT_ONCE: u64 = 512;

/// Reads the responses to this instance.
#[derive(Debug)]
pub(crate) struct Replies {
    pub(crate) queue: ShortString,
    _end: DropGuard,
}

impl Replies {
    pub(crate) async fn open(session: &Session, topology: &Topology, link: Link) -> Result<Self> {
        let plan = topology.replies(link.instance_id());
        let Attached { channel, mut consumers, .. } =
            attach(session, std::slice::from_ref(&plan), false).await?;
        let end = CancellationToken::new();
        if let Some(consumer) = consumers.pop() {
            let reading = read(consumer, link, move |tag| {
                let channel = channel.clone();
                async move {
                    let acknowledged = channel.basic_ack(tag, BasicAckOptions { multiple: true }).await;
                    acknowledged.map_err(|cause| from_lapin(cause, "respond"))
                }
            });
            let over = end.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = reading => {}
                    () = over.cancelled() => {}
                }
            });
        }
        Ok(Self { queue: plan.queue.name, _end: end.drop_guard() })
    }
}

async fn read<F>(mut consumer: Consumer, link: Link, acknowledge: impl Fn(u64) -> F)
where
    F: Future<Output = Result<()>>,
{
    while let Some(Ok(delivery)) = consumer.next().await {
        let tag = delivery.delivery_tag;
        hand_over(delivery, &link);
        if tag % ACKNOWLEDGED_AT_ONCE == 0 && acknowledge(tag).await.is_err() {
            return;
        }
    }
}

fn hand_over(delivery: Delivery, link: &Link) {
    let refusal = is_refusal(&delivery.properties);
    match Message::decode(body(delivery.data)) {
        Ok(response) if refusal => link.refused(&response),
        Ok(response) => link.respond(Arc::new(response)),
        Err(error) => link.malformed(&error),
    }
}
