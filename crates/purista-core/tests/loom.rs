//! The interleavings of what concurrent tasks do to a gate and to pending calls: all of them, and where that takes too
//! long, all for two tasks and those with up to [`PREEMPTIONS`] for three.
//!
//! Run by `just loom`; empty without `--cfg purista_loom`.
#![cfg(purista_loom)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use loom::{
    future::block_on,
    model,
    model::Builder,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};
use purista_core::{
    CommandDraft, ErrorKind, EventDraft, Id, Message,
    adapter::{Gate, Pass, PendingCalls, ResponseVerdict},
};

const COUNTER: (&str, &str, &str) = ("Counter", "2", "order");
const WAREHOUSE: (&str, &str, &str) = ("Warehouse", "3", "reserve");

/// So many switches away from a task that could go on, beside all those at which it waits.
const PREEMPTIONS: usize = 3;

fn model_with_few_preemptions(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(check);
}

fn command(correlation_id: &str) -> Message {
    let mut command = CommandDraft::new(COUNTER, WAREHOUSE).stamp(&Id::from("desk-1"));
    command.correlation_id = Some(correlation_id.into());
    command
}

/// An answer to a command; a forged one comes from someone else.
fn answer(command: &Message, from: (&str, &str, &str)) -> Arc<Message> {
    let mut answer = EventDraft::custom(from).stamp(&Id::from("warehouse-1"));
    answer.correlation_id.clone_from(&command.correlation_id);
    answer.body = purista_core::Body::CommandSuccessResponse(None);
    Arc::new(answer)
}

fn answer_from(
    from: (&'static str, &'static str, &'static str),
    calls: &Arc<PendingCalls>,
    command: &Arc<Message>,
) -> thread::JoinHandle<ResponseVerdict> {
    let (calls, command) = (Arc::clone(calls), Arc::clone(command));
    thread::spawn(move || calls.respond(answer(&command, from)))
}

#[test]
fn a_drain_misses_no_leaving() {
    model(|| {
        let gate = Gate::new();
        let passes = [(); 2].map(|()| gate.enter().unwrap());
        let leaving = passes.map(|pass| thread::spawn(move || drop(pass)));
        gate.close();
        block_on(gate.empty());
        assert_eq!(gate.count(), 0);
        leaving.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

fn drain_while_tasks_enter(tasks: usize) {
    let gate = Gate::new();
    let working = Arc::new(AtomicUsize::new(0));
    let enter = |_| {
        let (gate, working) = (Arc::clone(&gate), Arc::clone(&working));
        thread::spawn(move || {
            if let Some(_pass) = gate.enter() {
                working.fetch_add(1, Relaxed);
                working.fetch_sub(1, Relaxed);
            }
        })
    };
    let entering: Vec<_> = (0..tasks).map(enter).collect();
    gate.close();
    block_on(gate.empty());
    assert_eq!(working.load(Relaxed), 0, "the drain is over and someone works");
    assert!(gate.enter().is_none());
    entering.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(gate.count(), 0);
}

#[test]
fn a_drain_waits_for_whoever_got_in() {
    model(|| drain_while_tasks_enter(1));
    model_with_few_preemptions(|| drain_while_tasks_enter(2));
}

fn drain_twice(leave: impl FnOnce(Pass)) {
    let gate = Gate::new();
    let pass = gate.enter().unwrap();
    let other = Arc::clone(&gate);
    let draining = thread::spawn(move || block_on(other.empty()));
    leave(pass);
    block_on(gate.empty());
    draining.join().unwrap();
}

#[test]
fn every_drain_wakes_up() {
    model(|| drain_twice(drop));
    model_with_few_preemptions(|| {
        drain_twice(|pass| {
            thread::spawn(move || drop(pass));
        });
    });
}

#[test]
fn one_of_two_answers_counts() {
    model(|| {
        let calls = Arc::new(PendingCalls::new(8));
        let command = Arc::new(command("call"));
        let mut call = calls.begin(&command).unwrap();
        let answering = [WAREHOUSE; 2].map(|from| answer_from(from, &calls, &command));
        let answered = block_on(call.answer()).unwrap();
        assert_eq!(answered.correlation_id, command.correlation_id);
        drop(call);
        let mut verdicts = answering.map(|thread| thread.join().unwrap());
        verdicts.sort_by_key(|verdict| *verdict == ResponseVerdict::Late);
        assert_eq!(verdicts, [ResponseVerdict::Answered, ResponseVerdict::Late]);
        assert_eq!(calls.count(), 0);
    });
}

#[test]
fn a_forged_answer_takes_no_ones_place() {
    model(|| {
        let calls = Arc::new(PendingCalls::new(8));
        let command = Arc::new(command("call"));
        let mut call = calls.begin(&command).unwrap();
        let forging = answer_from(COUNTER, &calls, &command);
        let answering = answer_from(WAREHOUSE, &calls, &command);
        let answered = block_on(call.answer()).unwrap();
        assert_eq!(answered.sender.address, WAREHOUSE.into());
        assert_eq!(answering.join().unwrap(), ResponseVerdict::Answered);
        assert!(matches!(forging.join().unwrap(), ResponseVerdict::Forged | ResponseVerdict::Late));
    });
}

#[test]
fn an_answer_at_the_time_limit_finds_its_call_or_is_late() {
    model(|| {
        let calls = Arc::new(PendingCalls::new(8));
        let command = Arc::new(command("call"));
        let call = calls.begin(&command).unwrap();
        let answering = answer_from(WAREHOUSE, &calls, &command);
        // The time limit passed: the caller stops waiting, and its correlation id is free again.
        drop(call);
        drop(calls.begin(&command).unwrap());
        assert!(matches!(answering.join().unwrap(), ResponseVerdict::Answered | ResponseVerdict::Late));
        assert_eq!(calls.count(), 0);
        assert_eq!(calls.respond(answer(&command, WAREHOUSE)), ResponseVerdict::Late);
        block_on(calls.empty());
    });
}

fn shut_down_while_calls_begin(correlation_ids: &[&'static str]) {
    let calls = Arc::new(PendingCalls::new(8));
    let began = Arc::new(AtomicUsize::new(0));
    let begin = |correlation_id| {
        let (calls, began) = (Arc::clone(&calls), Arc::clone(&began));
        thread::spawn(move || {
            let command = command(correlation_id);
            let failure = match calls.begin(&command) {
                Ok(mut call) => {
                    began.fetch_add(1, Relaxed);
                    block_on(call.answer()).unwrap_err()
                }
                Err(refused) => refused,
            };
            assert_eq!(failure.kind(), ErrorKind::ShutDown);
        })
    };
    let calling: Vec<_> = correlation_ids.iter().copied().map(begin).collect();
    let failed = calls.close();
    block_on(calls.empty());
    calling.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(failed, began.load(Relaxed), "calls that began and calls that failed");
    assert_eq!((calls.count(), calls.close()), (0, 0));
}

#[test]
fn no_call_is_left_behind_by_a_shutdown() {
    model(|| shut_down_while_calls_begin(&["one"]));
    model_with_few_preemptions(|| shut_down_while_calls_begin(&["one", "two"]));
}

#[test]
fn an_answer_at_the_shutdown_is_given_or_the_call_fails() {
    model(|| {
        let calls = Arc::new(PendingCalls::new(8));
        let command = Arc::new(command("call"));
        let mut call = calls.begin(&command).unwrap();
        let answering = answer_from(WAREHOUSE, &calls, &command);
        let closing = {
            let calls = Arc::clone(&calls);
            thread::spawn(move || calls.close())
        };
        let outcome = block_on(call.answer()).map_err(|error| error.kind());
        let (verdict, failed) = (answering.join().unwrap(), closing.join().unwrap());
        match outcome {
            Ok(_) => assert_eq!((verdict, failed), (ResponseVerdict::Answered, 0)),
            Err(kind) => {
                assert_eq!((kind, verdict, failed), (ErrorKind::ShutDown, ResponseVerdict::Late, 1));
            }
        }
    });
}

#[test]
fn no_more_calls_wait_than_the_limit() {
    const LIMIT: usize = 1;
    model(|| {
        let calls = Arc::new(PendingCalls::new(LIMIT));
        let waiting = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let calling = ["one", "two"].map(|correlation_id| {
            let (calls, waiting, over) = (Arc::clone(&calls), Arc::clone(&waiting), Arc::clone(&over));
            thread::spawn(move || {
                let command = command(correlation_id);
                match calls.begin(&command) {
                    Ok(_call) => {
                        over.fetch_or(waiting.fetch_add(1, Relaxed) >= LIMIT, Relaxed);
                        waiting.fetch_sub(1, Relaxed);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Backpressure),
                }
            })
        });
        calling.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!over.load(Relaxed), "more calls waited than the limit");
        // Those that were refused left no trace.
        assert_eq!(calls.count(), 0);
        drop(calls.begin(&command("three")).unwrap());
    });
}
