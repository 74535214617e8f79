//! Request and reply.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use purista_core::{
    Capability, CommandOptions, ErrorKind, EventBridgeExt as _, Filter, InvokeOptions, MessageType, Payload,
};
use tokio::time::Instant;

use crate::{
    case::{Case, Outcome, case},
    probe::{Latch, echo, eventually, on_command},
    stage::{PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[
    case!("RPC-1", a_command_answers),
    case!("RPC-2", calls_at_once_get_their_own_answers),
    case!("RPC-3", callers_get_only_their_own_answers),
    case!("RPC-4", nobody_serves_it, Capability::NoResponder, else nobody_serves_it_until_the_time_limit),
    case!("RPC-6", a_response_is_an_event_too),
    case!("RPC-7", commands_call_commands),
    case!("RPC-9", a_caller_goes_away),
];

async fn a_command_answers(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    stage.begin().await?;
    for number in 0..1_000 {
        let response = stage.invoke(&*bridge, "echo", &number).await?;
        ensure!(response.payload() == Some(&Payload::json(&number)?), "call {number} got {response:?}");
    }
    let typed: u32 = bridge.invoke(stage.address("echo"), &7).await?;
    ensure!(typed == 7, "the typed call got {typed}");
    Ok(())
}

async fn calls_at_once_get_their_own_answers(stage: Stage) -> Outcome {
    const CALLS: usize = 500;
    let bridge = stage.bridge().await?;
    let latch = Latch::new();
    let held = Arc::clone(&latch);
    let handler = on_command(move |context| {
        let held = Arc::clone(&held);
        async move {
            held.pass().await;
            // The later ones are answered first.
            for _ in 0..(rand::random::<u8>() % 8) {
                tokio::task::yield_now().await;
            }
            Ok(context.message().payload().cloned())
        }
    });
    stage.serve(&*bridge, "echo", CommandOptions::default().with_max_concurrency(CALLS), handler).await?;
    stage.begin().await?;
    let calls = (0..CALLS).map(|number| {
        let (stage, bridge) = (stage.clone(), Arc::clone(&bridge));
        tokio::spawn(async move { (number, stage.invoke(&*bridge, "echo", &number).await) })
    });
    let calls: Vec<_> = calls.collect();
    latch.reached(CALLS).await?;
    latch.open();
    for call in calls {
        let (number, response) = call.await?;
        ensure!(response?.payload() == Some(&Payload::json(&number)?), "call {number} got a foreign answer");
    }
    Ok(())
}

async fn callers_get_only_their_own_answers(stage: Stage) -> Outcome {
    let service = stage.bridge().await?;
    stage.serve(&*service, "echo", CommandOptions::default(), echo()).await?;
    let callers = try_join_all([stage.bridge(), stage.bridge()]).await?;
    stage.begin().await?;
    let calls = (0..100).flat_map(|number| callers.iter().map(move |caller| (number, caller)));
    let calls = calls.map(|(number, caller)| {
        let input = format!("{number} of {}", caller.instance_id());
        let stage = &stage;
        async move {
            let response = stage.invoke(&**caller, "echo", &input).await?;
            ensure!(response.payload() == Some(&Payload::json(&input)?), "{input} got {response:?}");
            Ok(())
        }
    });
    join_all(calls).await.into_iter().collect::<Result<()>>()?;
    for caller in &callers {
        let stats = caller.stats();
        ensure!(stats.answered == 100, "{} answers of 100", stats.answered);
        ensure!(stats.late_responses + stats.forged_responses == 0, "foreign responses: {stats:?}");
    }
    Ok(())
}

async fn nobody_serves_it(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    stage.begin().await?;
    let began = Instant::now();
    let error = stage.invoke(&*bridge, "nobody", &0).await.err().context("an answer from nobody")?;
    ensure!(error.bridge_kind() == Some(ErrorKind::NoHandler), "{error:?}");
    ensure!(began.elapsed() < PATIENCE / 2, "it took {:?}", began.elapsed());
    Ok(())
}

async fn nobody_serves_it_until_the_time_limit(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    stage.begin().await?;
    let limit = Duration::from_millis(500);
    let error =
        stage.invoke_within(&*bridge, "nobody", &0, limit).await.err().context("an answer from nobody")?;
    ensure!(error.bridge_kind() == Some(ErrorKind::Timeout), "{error:?}");
    Ok(())
}

async fn a_response_is_an_event_too(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let options = CommandOptions::default().with_success_event(stage.unique("echoed"));
    stage.serve(&*bridge, "echo", options, echo()).await?;
    let by_event = stage.watch(&*bridge, "by event", Filter::event(stage.unique("echoed"))).await?;
    let responses =
        Filter::message_type(MessageType::CommandSuccessResponse).with_sender(stage.address("echo"));
    let by_type = stage.watch(&*bridge, "by type", responses).await?;
    stage.begin().await?;

    let response = stage.invoke(&*bridge, "echo", &"one").await?;
    for collector in [&by_event, &by_type] {
        collector.at_least(1).await?;
    }
    stage.invoke(&*bridge, "echo", &"sentinel").await?;
    for collector in [by_event, by_type] {
        collector.sentinel("\"sentinel\"").await?;
        let seen = collector.messages();
        ensure!(seen.len() == 2, "{} deliveries of 2 responses", seen.len());
        ensure!(
            seen.iter().any(|seen| **seen == *response),
            "a subscriber saw another response than the caller"
        );
    }
    Ok(())
}

async fn commands_call_commands(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    for depth in 0..5_u32 {
        let next = stage.address(&format!("depth {}", depth + 1));
        let handler = on_command(move |context| {
            let next = next.clone();
            async move {
                let below: u32 = if depth < 4 { context.invoke(next, &0).await? } else { 0 };
                Ok(Some(Payload::json(&(below + 1))?))
            }
        });
        let options = CommandOptions::default().with_max_concurrency(1);
        stage.serve(&*bridge, &format!("depth {depth}"), options, handler).await?;
    }
    stage.begin().await?;
    let response = stage.invoke(&*bridge, "depth 0", &0).await?;
    ensure!(response.payload() == Some(&Payload::json(&5)?), "{response:?}");
    Ok(())
}

async fn a_caller_goes_away(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let latch = Latch::new();
    let held = Arc::clone(&latch);
    let handler = on_command(move |_| {
        let held = Arc::clone(&held);
        async move {
            held.pass().await;
            Ok(None)
        }
    });
    stage.serve(&*bridge, "slow", CommandOptions::default(), handler).await?;
    stage.begin().await?;
    let draft = stage.call("slow", &0)?;
    let caller = Arc::clone(&bridge);
    let call = tokio::spawn(async move { caller.invoke_command(draft, &InvokeOptions::default()).await });
    latch.reached(1).await?;
    ensure!(bridge.stats().pending_calls == 1, "{:?}", bridge.stats());
    call.abort();
    ensure!(call.await.is_err_and(|error| error.is_cancelled()), "the call was not dropped");
    ensure!(bridge.stats().pending_calls == 0, "the dropped call is still pending: {:?}", bridge.stats());
    latch.open();
    let late = u64::from(stage.deployment().answers_come_late());
    let is_over = || async { Ok((bridge.stats().executed, bridge.stats().late_responses) == (1, late)) };
    eventually("the late response is counted", is_over).await
}
