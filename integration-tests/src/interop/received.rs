//! Services of ours see what the original emits and answers.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use purista_conformance::Collector;
use purista_core::{EventBridge, Filter, Message, MessageType, SubscriptionOptions};
use serde_json::Value;

use super::{
    frame::{Frame, take},
    scene::{PATIENCE, in_order, is_id, same, watch},
    wire::{Peer, Wire},
};
use crate::samples;

/// Checks that a message came as it was sent, and that we filled in what the original left out.
fn is_as_sent(what: &str, message: &Message, sample: &Frame) -> Result<()> {
    let mut came: Value = serde_json::from_slice(&message.encode())?;
    for left_out in ["id", "timestamp", "otp"].into_iter().filter(|key| sample.body.get(key).is_none()) {
        let filled_in = take(&mut came, left_out)?;
        if !(filled_in.is_u64() || filled_in == "{}") {
            is_id(&filled_in)?;
        }
    }
    let mut expected = sample.body.clone();
    // One of the original's misspelt fields, which says the same once more.
    let _misspelt = take(&mut expected, "sennder");
    same(what, &came, &expected)
}

/// Checks that these came, in this order, and nothing else.
fn are_as_sent(what: &str, seen: &Collector, samples: &[&Frame]) -> Result<()> {
    let came = seen.messages();
    same(what, &came.len(), &samples.len())?;
    came.iter().zip(samples).try_for_each(|(message, sample)| is_as_sent(what, message, sample))
}

/// A place, a bridge, and an instance of the original.
async fn both<W: Wire>() -> (W, Arc<dyn EventBridge>, Arc<dyn Peer>) {
    let wire = W::start().await;
    let (bridge, peer) = (wire.bridge(None).await, wire.peer().await);
    (wire, bridge, peer)
}

fn transient() -> SubscriptionOptions {
    in_order().with_durable(false)
}

async fn watch_all(bridge: &dyn EventBridge) -> Result<Arc<Collector>> {
    Ok(watch(bridge, "all", Filter::any(), transient()).await?)
}

pub async fn what_the_original_emits_arrives<W: Wire>() -> Result<()> {
    let ((_wire, bridge, peer), events) = (both::<W>().await, W::events()?);
    let all = watch_all(&*bridge).await?;
    let mut narrow = Vec::new();
    for sample in &events {
        let filter = samples::narrowest_filter(&samples::message(&sample.frame.body)?);
        let mut expected = Vec::new();
        for other in &events {
            if filter.matches(&samples::message(&other.frame.body)?) {
                expected.push(&other.frame);
            }
        }
        ensure!(expected.contains(&&sample.frame), "{} does not match itself", sample.case);
        let seen = watch(&*bridge, &sample.case, filter, transient()).await?;
        narrow.push((sample, expected, seen));
    }
    // What came twice would have come before the second round.
    for round in 1..=2 {
        for sample in &events {
            peer.send(&sample.frame).await;
        }
        all.at_least(round * events.len()).await?;
    }
    are_as_sent("all", &all, &events.iter().chain(&events).map(|it| &it.frame).collect::<Vec<_>>())?;
    for (sample, expected, seen) in narrow {
        seen.at_least(2 * expected.len()).await?;
        are_as_sent(&sample.case, &seen, &expected.repeat(2))?;
    }
    same("malformed", &bridge.stats().malformed, &0)
}

/// Without all that a subscriber can do without, in the message and outside.
pub async fn an_event_with_the_fewest_fields_arrives<W: Wire>() -> Result<()> {
    let ((_wire, bridge, peer), sample) = (both::<W>().await, W::event("plain")?.frame);
    let event_name = sample.body["eventName"].as_str().context("no event")?;
    let by_name = watch(&*bridge, "byName", Filter::event(event_name), transient()).await?;
    let all = watch_all(&*bridge).await?;
    let mut fewest = sample.clone();
    fewest.keep(&["messageType", "contentType", "contentEncoding", "eventName", "sender", "payload"]);
    W::strip(&mut fewest);
    peer.send(&fewest).await;
    peer.send(&sample).await;
    for (what, seen) in [("by name", by_name), ("all", all)] {
        seen.at_least(2).await?;
        are_as_sent(what, &seen, &[&fewest, &sample])?;
    }
    same("malformed", &bridge.stats().malformed, &0)
}

/// The original answers one of its own callers. Not on every wire do others see that.
pub async fn answers_of_the_original_are_seen_by_subscribers<W: Wire>() -> Result<()> {
    let (_wire, bridge, peer) = both::<W>().await;
    let (announces, fails) = (W::call("event-response")?, W::call("handled-error")?);
    let event_name = announces.answer()?.body["eventName"].as_str().context("no event")?;
    let by_event = watch(&*bridge, "byEvent", Filter::event(event_name), transient()).await?;
    let errors = Filter::message_type(MessageType::CommandErrorResponse);
    let errors = watch(&*bridge, "errors", errors, transient()).await?;
    for _round in 0..2 {
        for answer in [W::call("success")?.answer()?, announces.answer()?, fails.answer()?] {
            peer.send(answer).await;
        }
    }
    for (seen, call) in [(by_event, announces), (errors, fails)] {
        seen.at_least(2).await?;
        are_as_sent(&call.case, &seen, &[call.answer()?, call.answer()?])?;
    }
    // Nobody here had asked for them.
    same("forged", &bridge.stats().forged_responses, &0)
}

/// It is kept as any other message is, where ours are kept.
pub async fn what_the_original_emits_waits_for_a_durable_subscriber<W: Wire>() -> Result<()> {
    let (wire, plain, derived) = (W::start_keeping().await, W::event("plain")?, W::event("derived")?);
    let filter = Filter::message_type(MessageType::CustomMessage);
    let durable = || in_order().with_durable(true);
    let (peer, away) = (wire.peer().await, wire.bridge(None).await);
    watch(&*away, "durable", filter.clone(), durable()).await?;
    away.shutdown(PATIENCE).await;

    peer.send(&plain.frame).await;
    peer.send(&derived.frame).await;
    let back = wire.bridge(None).await;
    let seen = watch(&*back, "durable", filter, durable()).await?;
    seen.at_least(2).await?;
    are_as_sent("kept", &seen, &[&plain.frame, &derived.frame])
}

pub async fn what_is_no_message_is_counted_and_passed_over<W: Wire>() -> Result<()> {
    let ((_wire, bridge, peer), sample) = (both::<W>().await, W::event("plain")?.frame);
    let seen = watch_all(&*bridge).await?;
    let none = [&b""[..], b"{}", b"\"text\"", b"null", b"{\"messageType\":", b"\xff\xfe"];
    for body in none {
        peer.send_body(&sample.outside, body.into()).await;
    }
    peer.send(&sample).await;
    seen.at_least(1).await?;
    same("seen and malformed", &(seen.count(), bridge.stats().malformed), &(1, none.len() as u64))
}
