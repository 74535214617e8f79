//! Calls: time limits, answers that do not count, bounds.

use std::sync::Arc;

use futures_util::future::join_all;
use purista_core::{
    Body, CommandDraft, Context, ErrorKind, EventBridge as _, EventBridgeExt as _, EventDraft, HandlerError,
    Id, Message, Receiver, Service,
    adapter::{PendingCalls, ResponseVerdict},
};
use purista_default::DefaultEventBridge;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{WORK, bridge_on, ms, serve, serving, settle, sleep, timed, within, work};

/// Works as long as the payload says.
fn sleeper() -> Service {
    Service::new(WORK.0, WORK.1).command(WORK.2, |_ctx: Context, milliseconds: Option<u64>| async move {
        sleep(milliseconds.unwrap_or(0)).await;
        Ok(milliseconds)
    })
}

fn work_for(milliseconds: u64) -> CommandDraft {
    work().with_payload(purista_core::Payload::json(&milliseconds).unwrap())
}

#[tokio::test(start_paused = true)]
async fn time_limits_hold_to_the_millisecond() {
    let bridge = serving(sleeper()).await;
    for limit in [1, 7, 1_000, 30_000] {
        let (took, result) = timed(bridge.invoke_command(work_for(limit + 1), &within(limit))).await;
        assert_eq!(result.unwrap_err().bridge_kind(), Some(ErrorKind::Timeout));
        assert_eq!(took, ms(limit));
        assert_eq!(bridge.stats().pending_calls, 0);
        let (took, result) = timed(bridge.invoke_command(work_for(limit - 1), &within(limit))).await;
        result.unwrap();
        assert_eq!(took, ms(limit - 1));
    }
    settle().await;
    let stats = bridge.stats();
    assert_eq!((stats.invoked, stats.answered, stats.timed_out, stats.late_responses), (8, 4, 4, 4));
}

#[tokio::test(start_paused = true)]
async fn time_limits_beyond_a_day_or_of_zero_are_refused() {
    let bridge = serving(sleeper()).await;
    for limit in [0, 24 * 60 * 60 * 1_000 + 1, u64::MAX] {
        let error = bridge.invoke_command(work(), &within(limit)).await.unwrap_err();
        assert_eq!(error.bridge_kind(), Some(ErrorKind::InvalidConfig), "{limit}");
    }
    bridge.invoke_command(work(), &within(24 * 60 * 60 * 1_000)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waited_too_long_is_not_executed() {
    let options = purista_core::CommandOptions::default().with_max_concurrency(1);
    let service = Service::new(WORK.0, WORK.1).command_with(WORK.2, options, |_ctx: Context, (): ()| async {
        sleep(10_000).await;
        Ok(())
    });
    let bridge = serving(service).await;
    let options = [within(30_000), within(5_000)];
    let calls = options.iter().map(|options| timed(bridge.invoke_command(work(), options)));
    let [first, second] = join_all(calls).await.try_into().unwrap();
    first.1.unwrap();
    assert_eq!(first.0, ms(10_000));
    assert_eq!((second.0, second.1.unwrap_err().bridge_kind()), (ms(5_000), Some(ErrorKind::Timeout)));
    settle().await;
    let stats = bridge.stats();
    assert_eq!((stats.executed, stats.expired, stats.late_responses), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_bound_are_refused_and_dropped_calls_make_room() {
    let bridge = Arc::new(DefaultEventBridge::builder().max_pending_calls(3).build().unwrap());
    serve(&*bridge, sleeper()).await;
    let invoke = || {
        let bridge = Arc::clone(&bridge);
        tokio::spawn(async move { bridge.invoke_command(work_for(60_000), &within(90_000)).await })
    };
    let calls: Vec<_> = (0..3).map(|_| invoke()).collect();
    sleep(1).await;
    assert_eq!(bridge.stats().pending_calls, 3);
    let (took, refused) = timed(bridge.invoke_command(work_for(0), &within(90_000))).await;
    assert_eq!((took, refused.unwrap_err().bridge_kind()), (ms(0), Some(ErrorKind::Backpressure)));

    calls[0].abort();
    sleep(1).await;
    assert_eq!(bridge.stats().pending_calls, 2);
    bridge.invoke_command(work_for(0), &within(90_000)).await.unwrap();
    settle().await;
    let stats = bridge.stats();
    assert_eq!((stats.pending_calls, stats.answered, stats.late_responses), (0, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_ten_thousand_calls() {
    let service = sleeper().command("fail", |_ctx: Context, (): ()| async {
        Err::<(), _>(HandlerError::unhandled("never mind"))
    });
    let bridge = serving(service).await;
    let fail = || CommandDraft::new(("Client", "1", "main"), (WORK.0, WORK.1, "fail"));
    let nobody = || CommandDraft::new(("Client", "1", "main"), (WORK.0, WORK.1, "nobody"));
    let options = within(50);
    for _ in 0..2_000 {
        bridge.invoke_command(work(), &options).await.unwrap();
        super::unhandled(bridge.invoke_command(fail(), &options).await);
        let nobody = bridge.invoke_command(nobody(), &options).await.unwrap_err();
        assert_eq!(nobody.bridge_kind(), Some(ErrorKind::NoHandler));
        let late = bridge.invoke_command(work_for(100), &options).await.unwrap_err();
        assert_eq!(late.bridge_kind(), Some(ErrorKind::Timeout));
        let dropped = tokio::time::timeout(ms(10), bridge.invoke_command(work_for(20), &options)).await;
        assert!(dropped.is_err());
    }
    settle().await;
    let stats = bridge.stats();
    assert_eq!((stats.pending_calls, stats.in_hand), (0, 0));
    assert_eq!((stats.answered, stats.timed_out, stats.late_responses), (4_000, 2_000, 4_000));
}

/// The answer to a command as its receiver gives it, in the wire's terms.
fn answer_to(command: &Message, result: &str) -> Value {
    let wire: Value = serde_json::from_slice(&command.encode()).unwrap();
    let mut sender = wire["receiver"].clone();
    sender["instanceId"] = "worker-7".into();
    json!({
        "messageType": "commandSuccessResponse", "correlationId": wire["correlationId"], "tenantId": "acme",
        "sender": sender, "receiver": wire["sender"], "payload": result,
    })
}

#[test]
fn only_whom_was_asked_can_answer() {
    let receiver = Receiver::new(WORK).with_instance_id("worker-7");
    let command =
        CommandDraft::new(("Client", "1", "main"), receiver).with_tenant_id("acme").stamp(&Id::random());
    let calls = PendingCalls::new(1);
    let call = calls.begin(&command).unwrap();
    let respond = |wire: &Value| calls.respond(Arc::new(Message::decode(wire.to_string()).unwrap()));

    let good = answer_to(&command, "good");
    let forgeries = [
        ("/sender/serviceName", json!("Work")),
        ("/sender/serviceVersion", json!("2")),
        ("/sender/serviceTarget", json!("WORK")),
        ("/tenantId", json!("acme2")),
        ("/tenantId", json!(null)),
        ("/messageType", json!("customMessage")),
        ("/messageType", json!("command")),
        ("/messageType", json!("infoInvokeTimeout")),
    ];
    for (pointer, value) in forgeries {
        let mut forged = good.clone();
        *forged.pointer_mut(pointer).unwrap() = value;
        forged.as_object_mut().unwrap().remove("payload");
        assert_eq!(respond(&forged), ResponseVerdict::Forged, "{forged}");
        assert_eq!(calls.count(), 1);
    }
    let mut unasked = good.clone();
    unasked["correlationId"] = "another".into();
    assert_eq!(respond(&unasked), ResponseVerdict::Late);
    assert_eq!(respond(&good), ResponseVerdict::Answered);
    assert_eq!(respond(&good), ResponseVerdict::Late);
    drop(call);
    assert_eq!(calls.count(), 0);
}

#[tokio::test]
async fn the_answer_of_another_instance_ends_a_call_that_names_one() {
    let receiver = Receiver::new(WORK).with_instance_id("worker-7");
    let command =
        CommandDraft::new(("Client", "1", "main"), receiver).with_tenant_id("acme").stamp(&Id::random());
    let from_another = |mut answer: Value| {
        answer["sender"]["instanceId"] = "worker-8".into();
        answer
    };
    let not_here = json!({ "status": 421, "message": "Misdirected Request" });
    let mut not_executed = from_another(answer_to(&command, ""));
    not_executed["messageType"] = "commandErrorResponse".into();
    not_executed["payload"] = not_here.clone();
    let mut handled = not_executed.clone();
    handled["isHandledError"] = true.into();
    for (answer, kind) in [
        (from_another(answer_to(&command, "executed")), ErrorKind::OtherInstance),
        (not_executed, ErrorKind::NoHandler),
        // The command itself said so.
        (handled, ErrorKind::OtherInstance),
    ] {
        let calls = PendingCalls::new(1);
        let mut call = calls.begin(&command).unwrap();
        let verdict = calls.respond(Arc::new(Message::decode(answer.to_string()).unwrap()));
        assert_eq!(verdict, ResponseVerdict::OtherInstance);
        assert_eq!(call.answer().await.unwrap_err().kind(), kind, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_on_after_a_forged_answer() {
    let (received, mut commands) = mpsc::unbounded_channel();
    let service = Service::new(WORK.0, WORK.1).command(WORK.2, move |ctx: Context, (): ()| {
        received.send(Arc::clone(ctx.message())).unwrap();
        async {
            sleep(1_000).await;
            Ok("good")
        }
    });
    let hub = purista_default::Hub::default();
    let (server, caller) = (bridge_on(&hub), bridge_on(&hub));
    serve(&*server, service).await;
    caller.start().await.unwrap();

    let call = {
        let caller = Arc::clone(&caller);
        let command = work().with_tenant_id("acme");
        tokio::spawn(async move { caller.invoke_command(command, &within(5_000)).await })
    };
    let command = commands.recv().await.unwrap();
    let mut forged = answer_to(&command, "forged");
    forged["sender"]["serviceName"] = "Mallory".into();
    hub.inject(forged.to_string()).await.unwrap();
    forged = answer_to(&command, "forged");
    forged["tenantId"] = "mallory".into();
    hub.inject(forged.to_string()).await.unwrap();
    assert_eq!((caller.stats().forged_responses, caller.stats().pending_calls), (2, 1));

    let answer = call.await.unwrap().unwrap();
    assert_eq!(answer.payload().unwrap().as_str(), "\"good\"");
    hub.inject(answer_to(&command, "again").to_string()).await.unwrap();
    let stats = caller.stats();
    assert_eq!((stats.forged_responses, stats.late_responses, stats.answered), (2, 1, 1));
}

#[test]
fn a_call_needs_a_receiver_and_a_correlation_id_of_its_own() {
    let calls = PendingCalls::new(8);
    let command = work().stamp(&Id::random());
    let refused = |command: &Message| calls.begin(command).map(drop).unwrap_err().kind();
    let mut incomplete = command.clone();
    incomplete.correlation_id = None;
    assert_eq!(refused(&incomplete), ErrorKind::InvalidMessage);
    let mut incomplete = command.clone();
    incomplete.receiver = None;
    assert_eq!(refused(&incomplete), ErrorKind::InvalidMessage);
    let call = calls.begin(&command).unwrap();
    assert_eq!(refused(&command), ErrorKind::InvalidMessage);
    assert_eq!(calls.count(), 1);
    drop(call);
    drop(calls.begin(&command).unwrap());

    let mut answer = EventDraft::custom(WORK).stamp(&Id::random());
    answer.body = Body::CommandSuccessResponse(None);
    assert_eq!(calls.respond(Arc::new(answer)), ResponseVerdict::Late);
    calls.close();
    assert_eq!(refused(&command), ErrorKind::ShutDown);
}

/// An empty object is what the original sends if there is no parameter.
#[tokio::test(start_paused = true)]
async fn no_parameter_and_an_empty_object_are_the_same() {
    #[derive(Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
    struct Page {
        #[serde(default)]
        number: u32,
    }
    #[derive(Debug, serde::Deserialize)]
    struct Needed {
        #[serde(rename = "name")]
        _name: String,
    }
    let service = Service::new(WORK.0, WORK.1).command(WORK.2, |context: Context, (): ()| async move {
        let optional: Option<Page> = context.parameter()?;
        let page: Page = context.parameter()?;
        assert_eq!(optional.unwrap_or_default(), page);
        assert!(context.parameter::<Needed>().is_err());
        let map: std::collections::BTreeMap<String, Value> = context.parameter()?;
        assert_eq!(map.is_empty(), page == Page::default());
        Ok((page, context.parameter::<Option<Value>>()?))
    });
    let bridge = serving(service).await;
    let call = || bridge.call(WORK);
    let empty = serde_json::json!({});
    let none = (Page::default(), None);
    assert_eq!(call().invoke::<(Page, Option<Value>)>(&()).await.unwrap(), none);
    assert_eq!(call().parameter(&empty).invoke::<(Page, Option<Value>)>(&()).await.unwrap(), none);
    assert_eq!(
        call().parameter(&()).invoke::<(Page, Option<Value>)>(&()).await.unwrap_err().bridge_kind(),
        None
    );
    let page = call().parameter(&Page { number: 7 }).timeout(ms(1)).tenant("acme").principal("ada");
    let (page, given): (Page, Option<Value>) = page.invoke(&()).await.unwrap();
    assert_eq!((page.number, given), (7, Some(json!({ "number": 7 }))));
}
