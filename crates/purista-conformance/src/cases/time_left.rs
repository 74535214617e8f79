//! What is left of a caller's time limit to the calls that a handler makes on its behalf.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use futures_util::future::join_all;
use purista_core::{
    CommandDraft, CommandHandler, CommandOptions, Context, ErrorKind, EventBridge, Filter, InvokeError,
    InvokeOptions, MAX_TIMEOUT, ServiceAddress, SubscriptionOptions,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    case::{Case, Outcome, case},
    probe::{Collector, Latch, on_command, on_event},
    stage::{PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[case!("TMO-5", a_nested_call_ends_with_its_caller)];

/// How long the callers wait: no whole number of seconds, so that it shows if somebody counts in those.
const LIMIT: Duration = Duration::from_millis(1_100);

/// The time limit of a nested call that is shorter than its caller's.
const SHORTER: Duration = Duration::from_millis(300);

/// How much later than its caller a nested call may end: the time that the command was on its way, beside a busy machine.
/// Who counts in whole seconds is later.
const TOLERANCE: Duration = Duration::from_millis(600);

/// How a handler calls another command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    AsItIs,
    WithLongerLimit,
    WithShorterLimit,
    AsWholeMessage,
    OfAnotherHandler,
    InAnotherHandler,
    TooLate,
    Detached,
    OfAnEvent,
}

impl Way {
    /// Those of handlers that the trial calls.
    const CALLED: [Self; 7] = [
        Self::AsItIs,
        Self::WithLongerLimit,
        Self::WithShorterLimit,
        Self::AsWholeMessage,
        Self::OfAnotherHandler,
        Self::TooLate,
        Self::Detached,
    ];

    fn target(self) -> String {
        format!("{self:?}")
    }
}

/// How a nested call ended.
struct Ended {
    way: Way,
    result: Result<(), InvokeError>,
    began: Instant,
    at: Instant,
}

/// What handlers call, and where they tell how it ended.
#[derive(Clone)]
struct Nested {
    silent: ServiceAddress,
    not_called: ServiceAddress,
    other_handler: ServiceAddress,
    told: mpsc::UnboundedSender<Ended>,
}

impl Nested {
    async fn call(&self, context: &Context, way: Way) -> Result<(), InvokeError> {
        let silent = self.silent.clone();
        let answer: Result<Option<u8>, _> = match way {
            Way::AsItIs | Way::InAnotherHandler | Way::OfAnEvent => context.invoke(silent, &0).await,
            Way::WithLongerLimit => context.call(silent).timeout(MAX_TIMEOUT).invoke(&0).await,
            Way::WithShorterLimit => context.call(silent).timeout(SHORTER).invoke(&0).await,
            Way::AsWholeMessage => {
                let draft = CommandDraft::new(context.address(), silent).caused_by(context.message());
                let options = InvokeOptions::default().within(context);
                context.bridge().invoke_command(draft, &options).await.map(|_| None)
            }
            Way::OfAnotherHandler => context.invoke(self.other_handler.clone(), &0).await,
            Way::TooLate => context.invoke(self.not_called.clone(), &0).await,
            Way::Detached => context.detached().invoke(silent, &0).await,
        };
        answer.map(drop)
    }

    async fn call_and_tell(&self, context: &Context, way: Way) {
        if way == Way::TooLate {
            context.cancelled().await;
        }
        let began = Instant::now();
        let result = self.call(context, way).await;
        // Nobody listens any more if the trial has failed.
        let _told = self.told.send(Ended { way, result, began, at: Instant::now() });
    }

    fn command(&self, way: Way) -> Arc<dyn CommandHandler> {
        let nested = self.clone();
        on_command(move |context| {
            let nested = nested.clone();
            async move {
                nested.call_and_tell(&context, way).await;
                Ok(None)
            }
        })
    }
}

/// Checks how a call ended that a handler made on behalf of somebody who waited until then.
fn check(ended: &Ended, until: Instant) -> Outcome {
    let Ended { way, result, began, at } = ended;
    let (early, late) = (until.saturating_duration_since(*at), at.saturating_duration_since(until));
    match way {
        Way::WithShorterLimit => {
            let took = *at - *began;
            ensure!(took >= SHORTER && took <= SHORTER + TOLERANCE, "{SHORTER:?} became {took:?}");
        }
        Way::TooLate => {
            ensure!(*at - *began <= TOLERANCE, "it took {:?} to refuse a late call", *at - *began)
        }
        _ => ensure!(early.is_zero() && late <= TOLERANCE, "{way:?}: {early:?} too early, {late:?} too late"),
    }
    if *way == Way::OfAnotherHandler {
        // The other handler gave up at the same time, and may have been quick to say so.
        return Ok(());
    }
    let error = result.as_ref().err().with_context(|| format!("{way:?}: an answer"))?;
    ensure!(error.bridge_kind() == Some(ErrorKind::Timeout), "{way:?}: {error:?}");
    let blames_caller = error.to_string().contains("caller");
    ensure!(blames_caller == (*way != Way::WithShorterLimit), "{way:?}: {error}");
    Ok(())
}

async fn a_nested_call_ends_with_its_caller(stage: Stage) -> Outcome {
    let (service, caller) = (stage.bridge().await?, stage.bridge().await?);
    let (latch, executed, not_called) = (Latch::new(), Collector::new(), Collector::new());
    let (told, mut endings) = mpsc::unbounded_channel();
    let nested = Nested {
        silent: stage.address("silent"),
        not_called: stage.address("not called"),
        other_handler: stage.address(&Way::InAnotherHandler.target()),
        told,
    };
    let (options, opened) = (CommandOptions::default(), Latch::new());
    opened.open();
    stage.serve(&*service, "silent", options.clone(), latch.command(&executed)).await?;
    stage.serve(&*service, "not called", options.clone(), opened.command(&not_called)).await?;
    for way in Way::CALLED.into_iter().chain([Way::InAnotherHandler]) {
        stage.serve(&*service, &way.target(), options.clone(), nested.command(way)).await?;
    }
    subscribe(&stage, &*service, &nested).await?;
    stage.begin().await?;

    stage.emit(&**stage.emitter(&caller, &service), "event", &0).await?;
    let began = Instant::now();
    let calls = Way::CALLED.map(|way| {
        let (stage, caller) = (&stage, &*caller);
        async move { stage.invoke_within(caller, &way.target(), &0, LIMIT).await }
    });
    // A handler that gives up with its caller may still answer it.
    let _given_up = join_all(calls).await;
    // The one of the other handler comes in addition, the detached one later.
    for _ in 0..Way::CALLED.len() {
        let ended = tokio::time::timeout(PATIENCE, endings.recv()).await;
        let ended = ended.context("a nested call outlives its caller")?.context("nobody tells")?;
        check(&ended, began + LIMIT)?;
    }
    executed.at_least(7).await?;

    // These two are answered when their callers have long been gone.
    latch.open();
    for _ in 0..2 {
        let ended = tokio::time::timeout(PATIENCE, endings.recv()).await;
        let Ended { way, result, .. } = ended.context("no end")?.context("nobody tells")?;
        ensure!(matches!(way, Way::Detached | Way::OfAnEvent), "{way:?} ended once more");
        result.with_context(|| format!("{way:?}"))?;
    }
    stage.invoke(&*caller, "not called", "sentinel").await?;
    ensure!(not_called.payloads() == ["\"sentinel\""], "a late call was sent: {:?}", not_called.payloads());
    Ok(())
}

/// Calls a command from a subscription, for which nobody waits.
async fn subscribe(stage: &Stage, service: &dyn EventBridge, nested: &Nested) -> Outcome {
    let nested = nested.clone();
    let handler = on_event(move |context| {
        let nested = nested.clone();
        async move {
            if let Some(left) = context.time_left() {
                return Err(purista_core::HandlerError::unhandled(format!("{left:?} are left")));
            }
            nested.call_and_tell(&context, Way::OfAnEvent).await;
            Ok(())
        }
    });
    let (filter, options) = (Filter::event(stage.unique("event")), SubscriptionOptions::default());
    stage.subscribe(service, "subscriber", filter, options, handler).await?;
    Ok(())
}
