//! Instances of ours and of the original share queues, whoever declares them first.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, QueueDeclareOptions};
use parking_lot::Mutex;
use purista_amqp::AmqpBridge;
use purista_conformance::{Collector, on_command};
use purista_core::{CommandDraft, EventBridge as _, EventBridgeExt as _, Filter, Payload, ServiceAddress};

use super::{
    peer::{Peer, Service, again, answer_as_in, frame},
    samples::{Frame, call},
};
use crate::support::{Place, durable, eventually, invoke, serve, started, transient, watch};

const CALLS: usize = 60;

async fn their_service(place: &Place) -> Service {
    let sample = call("success");
    let answers = move |command: &Frame| Some(answer_as_in(&sample, command));
    Peer::new(place).await.serve(&call("success").address(), answers).await
}

async fn our_service(place: &Place, seen: &Arc<Collector>) -> AmqpBridge {
    let (service, log) = (started(place.typescript()).await, Arc::clone(seen));
    let handler = on_command(move |context| {
        log.record(&context);
        async move { Ok(context.message().payload().cloned()) }
    });
    serve(&service, call("success").address(), handler).await;
    service
}

async fn a_command_is_executed_by_one_of_ours_or_of_theirs(theirs_first: bool) {
    let (place, call) = (Place::shared().await, call("success"));
    let ours = Collector::new();
    let early = if theirs_first { Some(their_service(&place).await) } else { None };
    let _service = our_service(&place, &ours).await;
    let theirs = match early {
        Some(theirs) => theirs,
        None => their_service(&place).await,
    };

    let mut sent = BTreeSet::new();
    let mut caller = Peer::new(&place).await;
    for number in 0..CALLS {
        let command = again(&call.command, number);
        sent.insert(command.body["correlationId"].as_str().unwrap().to_owned());
        caller.send(&command).await;
        let answer = frame(&caller.answer().await);
        assert_eq!(answer.body["correlationId"], command.body["correlationId"]);
    }
    let bridge = started(place.typescript()).await;
    for number in 0..CALLS {
        let draft = CommandDraft::new(ServiceAddress::client(), call.address());
        let draft = draft.with_payload(Payload::json(&number).unwrap());
        let response = invoke(&bridge, draft).await.unwrap();
        sent.insert(response.correlation_id.as_ref().unwrap().to_string());
    }

    let theirs = theirs.commands().into_iter();
    let theirs: Vec<_> =
        theirs.map(|command| command.body["correlationId"].as_str().unwrap().to_owned()).collect();
    let ours = ours.messages().into_iter();
    let ours: Vec<_> = ours.map(|command| command.correlation_id.as_ref().unwrap().to_string()).collect();
    assert!(ours.len() > CALLS / 4 && theirs.len() > CALLS / 4, "{} and {}", ours.len(), theirs.len());
    assert_eq!(ours.len() + theirs.len(), 2 * CALLS);
    assert_eq!(ours.into_iter().chain(theirs).collect::<BTreeSet<_>>(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn we_join_a_command_of_the_original() {
    a_command_is_executed_by_one_of_ours_or_of_theirs(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_joins_a_command_of_ours() {
    a_command_is_executed_by_one_of_ours_or_of_theirs(false).await;
}

/// A subscriber of the original, which acknowledges after its handler.
struct Subscriber {
    seen: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Subscriber {
    async fn start(place: &Place, durable: bool) -> Self {
        let peer = Peer::new(place).await;
        let options = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
        let wanted = [("eventName", "userCreated")];
        let mut queue = peer.listen("purista.sub.Watcher.1.shared", options, &wanted).await;
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let _peer = peer;
            while let Some(Ok(delivery)) = queue.next().await {
                log.lock().push(frame(&delivery).body["payload"].to_string());
                delivery.ack(BasicAckOptions::default()).await.unwrap();
            }
        });
        Self { seen, task }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn each_event_comes_to_one(theirs_first: bool, is_durable: bool) {
    let place = Place::shared().await;
    let early = OnceLock::new();
    if theirs_first {
        _ = early.set(Subscriber::start(&place, is_durable).await);
    }
    let bridge = started(place.typescript()).await;
    let options = if is_durable { durable() } else { transient() };
    let (ours, _) = watch(&bridge, "shared", Filter::event("userCreated"), options).await.unwrap();
    let theirs = match early.into_inner() {
        Some(theirs) => theirs,
        None => Subscriber::start(&place, is_durable).await,
    };
    for number in 0..CALLS {
        bridge.emit("userCreated", &number).await.unwrap();
    }
    eventually("all have come", async || ours.count() + theirs.seen.lock().len() >= CALLS).await;
    let theirs = theirs.seen.lock().clone();
    // The original takes all it can get, however slow it is: how much that is says nothing.
    assert!(ours.count() > 0 && !theirs.is_empty(), "{} and {}", ours.count(), theirs.len());
    let mut all: Vec<usize> =
        ours.payloads().iter().chain(&theirs).map(|number| number.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(0..CALLS));
}

#[tokio::test(flavor = "multi_thread")]
async fn we_join_a_subscription_of_the_original() {
    each_event_comes_to_one(true, false).await;
    each_event_comes_to_one(true, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_joins_a_subscription_of_ours() {
    each_event_comes_to_one(false, false).await;
    each_event_comes_to_one(false, true).await;
}

/// What the original declared stays when ours leaves.
#[tokio::test(flavor = "multi_thread")]
async fn ours_leaves_and_the_original_goes_on() {
    let place = Place::shared().await;
    let theirs = Subscriber::start(&place, false).await;
    let bridge = started(place.typescript()).await;
    let (_ours, registration) =
        watch(&bridge, "shared", Filter::event("userCreated"), transient()).await.unwrap();
    registration.unregister().await.unwrap();
    for number in 0..CALLS {
        bridge.emit("userCreated", &number).await.unwrap();
    }
    eventually("all have come", async || theirs.seen.lock().len() >= CALLS).await;
    assert_eq!(theirs.seen.lock().len(), CALLS);
    bridge.shutdown(crate::support::PATIENCE).await;
}
