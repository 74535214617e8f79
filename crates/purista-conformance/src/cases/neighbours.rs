//! What the broker refuses of one caller, beside what it takes of others.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use futures_util::future::{join, join_all};
use purista_core::{
    Capability, CommandOptions, EmitOptions, ErrorKind, EventBridge, EventDraft, Filter, InvokeError,
    Payload, Result,
};
use tokio::time::Instant;

use crate::{
    broker::{FORBIDDEN_EVENT, Login, Security},
    case::{Case, Outcome, case},
    cases::access::secured,
    probe::{Collector, echo, on_command},
    profile::DeploymentOptions,
    stage::{PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[
    case!("ISO-1", a_bad_publish_fails_only_itself, Capability::Reconnect, else "no broker that could refuse"),
];

const EVENTS: usize = 300;
const CALLS: usize = 50;

/// One of so many events is bad.
const BAD_ONE_IN: usize = 100;

/// What the broker takes, and what is too much for it.
const MAX_MESSAGE: usize = 1 << 20;
const TOO_LARGE: usize = 2 << 20;

/// Within which time a caller hears that the answer is too large.
const AT_ONCE: Duration = PATIENCE;

async fn a_bad_publish_fails_only_itself(stage: Stage) -> Outcome {
    let (forbids, limits) =
        (stage.deployment().can_forbid_one_event(), stage.deployment().can_limit_messages());
    ensure!(
        forbids || limits,
        "this broker refuses nothing that bridges send: name the row as not applicable"
    );
    if forbids {
        let stage = secured(&stage, Security::Login(Login::MayNotPublishOneEvent)).await?;
        forbidden_events(&stage).await.context("forbidden events")?;
    }
    if limits {
        let mut stage = stage.clone();
        let options =
            DeploymentOptions { max_broker_message: Some(MAX_MESSAGE), ..DeploymentOptions::default() };
        stage.own_broker(options).await?;
        large_messages(&stage).await.context("large messages")?;
    }
    Ok(())
}

/// A bridge whose broker refuses some of what is sent.
struct Neighbours {
    stage: Stage,
    bridge: Arc<dyn EventBridge>,
    seen: Arc<Collector>,
}

impl Neighbours {
    async fn begin(stage: &Stage) -> anyhow::Result<Self> {
        let bridge = stage.new_bridge()?;
        stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
        let seen = stage.watch(&*bridge, "subscriber", Filter::event(stage.unique("allowed"))).await?;
        bridge.start().await.context("start")?;
        Ok(Self { stage: stage.clone(), bridge, seen })
    }

    async fn emit(&self, draft: EventDraft) -> Result<()> {
        let options = EmitOptions::default().with_timeout(PATIENCE);
        self.bridge.emit_message(draft, &options).await.map(drop)
    }

    fn allowed(&self, number: usize) -> anyhow::Result<EventDraft> {
        self.stage.event("allowed", &number)
    }

    /// Sends all at once, bad ones among them; looks that each gets its own outcome.
    async fn each_gets_its_own(
        &self,
        bad: impl Fn() -> anyhow::Result<EventDraft>,
        is_right: impl Fn(ErrorKind) -> bool,
    ) -> Outcome {
        let attempts = self.stage.broker()?.connection_attempts();
        let drafts = (0..EVENTS).map(|number| match number % BAD_ONE_IN == BAD_ONE_IN / 2 {
            true => bad().map(|draft| (true, draft)),
            false => self.allowed(number).map(|draft| (false, draft)),
        });
        let drafts: Vec<_> = drafts.collect::<anyhow::Result<_>>()?;
        let emits = drafts.into_iter().map(|(is_bad, draft)| async move { (is_bad, self.emit(draft).await) });
        let calls = (0..CALLS)
            .map(|number| async move { self.stage.invoke(&*self.bridge, "echo", &number).await.map(drop) });
        let (emits, calls) = join(join_all(emits), join_all(calls)).await;
        let failed = emits.iter().filter(|(is_bad, sent)| !is_bad && sent.is_err()).count();
        let first = emits.iter().find_map(|(is_bad, sent)| sent.as_ref().err().filter(|_| !is_bad));
        ensure!(failed == 0, "{failed} events failed that nothing is wrong with: {first:?}");
        for (_, sent) in emits.iter().filter(|(is_bad, _)| *is_bad) {
            let error = sent.as_ref().err().context("the broker took what it should refuse")?;
            ensure!(is_right(error.kind()), "{error:?}");
        }
        let failed: Vec<_> = calls.into_iter().filter_map(std::result::Result::err).collect();
        ensure!(failed.is_empty(), "{} calls failed: {:?}", failed.len(), failed.first());

        let numbers = (0..EVENTS).filter(|number| number % BAD_ONE_IN != BAD_ONE_IN / 2);
        let wanted: Vec<_> = numbers.map(|number| number.to_string()).collect();
        self.seen.at_least(wanted.len()).await?;
        let came = self.seen.payloads();
        let lost: Vec<_> = wanted.iter().filter(|number| !came.contains(number)).collect();
        ensure!(lost.is_empty(), "taken, and never came: {lost:?}");
        let again = self.stage.broker()?.connection_attempts() - attempts;
        ensure!(again == 0, "it connected again {again} times");
        ensure!(self.bridge.health().is_healthy(), "{:?}", self.bridge.health());
        Ok(())
    }
}

async fn forbidden_events(stage: &Stage) -> Outcome {
    let neighbours = Neighbours::begin(stage).await?;
    let forbidden = || {
        let draft = EventDraft::event(stage.address("emitter"), FORBIDDEN_EVENT);
        Ok(draft.with_payload(Payload::json("forbidden")?))
    };
    neighbours.each_gets_its_own(forbidden, |kind| kind == ErrorKind::Forbidden).await?;
    neighbours.bridge.shutdown(PATIENCE).await;
    Ok(())
}

async fn large_messages(stage: &Stage) -> Outcome {
    let neighbours = Neighbours::begin(stage).await?;
    let too_large = |kind| matches!(kind, ErrorKind::PayloadTooLarge { .. });
    let text = "x".repeat(TOO_LARGE);
    let large = || stage.event("allowed", &text);
    // The first time nobody may know of the limit; then it is known.
    for _time in 0..2 {
        neighbours.each_gets_its_own(large, too_large).await?;
        neighbours.seen.clear();
    }
    let bridge = &neighbours.bridge;
    let call = stage.invoke(&**bridge, "echo", &text).await.err().context("the call was sent")?;
    ensure!(call.bridge_kind().is_some_and(too_large), "{call:?}");

    // An answer is no less bad: who waits for it hears that.
    let answering = stage.new_bridge()?;
    let result = text.clone();
    let long = on_command(move |_| {
        let result = Payload::json(&result);
        async move { Ok(Some(result?)) }
    });
    stage.serve(&*answering, "long", CommandOptions::default(), long).await?;
    answering.start().await.context("start")?;
    let began = Instant::now();
    let answer = stage.invoke(&**bridge, "long", &0).await;
    ensure!(matches!(answer, Err(InvokeError::Unhandled(_))), "an answer that is too large: {answer:?}");
    ensure!(began.elapsed() < AT_ONCE, "the caller heard of it after {:?}", began.elapsed());
    answering.shutdown(PATIENCE).await;
    bridge.shutdown(PATIENCE).await;
    Ok(())
}
