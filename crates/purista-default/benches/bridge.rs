//! Calls and events on the default bridge, beside what a call costs without a bridge.
//!
//! All times are those of one call or event. The goal: at most 1 µs to invoke a handler that is ready at once, with 64
//! calls in flight.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has to stop")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use purista_core::{
    Command, CommandDraft, CommandHandler, Context, EmitOptions, EventBridge, EventBridgeExt as _,
    EventDraft, Filter, HandlerError, InvokeOptions, Payload, Service, ServiceAddress, Subscription,
    SubscriptionHandler, adapter::async_trait,
};
use purista_default::DefaultEventBridge;
use tokio::{
    runtime::Builder,
    sync::{Semaphore, mpsc, oneshot},
};

/// How calls are made: by so many tasks, each with so many calls in flight.
struct Load {
    name: &'static str,
    tasks: u64,
    in_flight: usize,
}

const ONE: Load = Load { name: "1 in flight", tasks: 1, in_flight: 1 };
const MANY: Load = Load { name: "64 in flight", tasks: 64, in_flight: 1 };
const MANY_OF_ONE_TASK: Load = Load { name: "64 in flight of one task", tasks: 1, in_flight: 64 };

/// Makes calls and returns how long that took.
async fn time<C, F>(load: &Load, calls: u64, call: C) -> Duration
where
    C: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let begin = Instant::now();
    let in_flight = load.in_flight;
    let tasks = (0..load.tasks).map(|task| {
        let share = (calls + task) / load.tasks;
        let call = call.clone();
        tokio::spawn(async move {
            if in_flight == 1 {
                for _ in 0..share {
                    call().await;
                }
            } else {
                stream::iter(0..share).map(|_| call()).buffer_unordered(in_flight).collect().await
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    begin.elapsed()
}

/// Measures a call on one thread and on two workers. `set_up` runs on the same runtime as the calls.
fn measure<C, F>(criterion: &mut Criterion, name: &str, loads: &[Load], set_up: impl AsyncFn() -> C)
where
    C: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut group = criterion.benchmark_group(name);
    let one_thread = Builder::new_current_thread().enable_time().build().unwrap();
    let two_workers = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    for (threads, runtime) in [("one thread", one_thread), ("two workers", two_workers)] {
        let call = runtime.block_on(set_up());
        for load in loads {
            group.bench_function(format!("{threads}, {}", load.name), |bencher| {
                bencher.to_async(&runtime).iter_custom(|calls| time(load, calls, call.clone()));
            });
        }
    }
}

fn floors(criterion: &mut Criterion) {
    fn boxed() -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
    measure(criterion, "bridge/floor/boxed future", &[ONE], async || boxed);
    measure(criterion, "bridge/floor/task", &[ONE, MANY], async || {
        || async { tokio::spawn(async {}).await.unwrap() }
    });
    measure(criterion, "bridge/floor/channel and oneshot", &[ONE, MANY], async || {
        let (requests, mut server) = mpsc::channel::<oneshot::Sender<()>>(1_024);
        tokio::spawn(async move {
            while let Some(reply) = server.recv().await {
                reply.send(()).unwrap();
            }
        });
        move || {
            let requests = requests.clone();
            async move {
                let (reply, answer) = oneshot::channel();
                requests.send(reply).await.unwrap();
                answer.await.unwrap();
            }
        }
    });
}

/// Answers with what it got: at once, or after it let another task run.
struct Echo {
    yields: bool,
}

#[async_trait]
impl CommandHandler for Echo {
    async fn handle(&self, context: Context) -> Result<Option<Payload>, HandlerError> {
        if self.yields {
            tokio::task::yield_now().await;
        }
        Ok(context.message().payload().cloned())
    }
}

fn echo() -> ServiceAddress {
    ServiceAddress::new("Bench", "1", "echo")
}

fn bridge() -> Arc<DefaultEventBridge> {
    Arc::new(DefaultEventBridge::builder().build().unwrap())
}

fn invoke(criterion: &mut Criterion) {
    let loads = [ONE, MANY, MANY_OF_ONE_TASK];
    for (name, yields) in [("ready handler", false), ("handler that yields", true)] {
        measure(criterion, &format!("bridge/invoke/{name}"), &loads, async || {
            let bridge = bridge();
            bridge.register_command(Command::new(echo()), Arc::new(Echo { yields })).await.unwrap();
            bridge.start().await.unwrap();
            let payload = Payload::json(&"x".repeat(254)).unwrap();
            let draft = CommandDraft::new(ServiceAddress::client(), echo()).with_payload(payload);
            move || {
                let (bridge, draft) = (Arc::clone(&bridge), draft.clone());
                async move {
                    bridge.invoke_command(draft, &InvokeOptions::default()).await.unwrap();
                }
            }
        });
    }
    measure(criterion, "bridge/invoke/typed", &loads, async || {
        let bridge = bridge();
        let service = Service::new("Bench", "1").command("echo", async |_: Context, text: String| Ok(text));
        bridge.serve([service]).await.unwrap();
        let input = "x".repeat(254);
        move || {
            let (bridge, input) = (Arc::clone(&bridge), input.clone());
            async move {
                let _echo: String = bridge.invoke(echo(), &input).await.unwrap();
            }
        }
    });
}

/// Tells that it has run.
struct Tell(Arc<Semaphore>);

#[async_trait]
impl SubscriptionHandler for Tell {
    async fn handle(&self, _context: Context) -> Result<(), HandlerError> {
        self.0.add_permits(1);
        Ok(())
    }
}

/// Measures from the emit until all handlers have run.
fn emit(criterion: &mut Criterion) {
    for size in [1, 100, 10_000] {
        emit_to(criterion, size, 1);
        if size > 1 {
            emit_to(criterion, size, size);
        }
    }
}

fn emit_to(criterion: &mut Criterion, size: u32, matching: u32) {
    measure(criterion, &format!("bridge/emit/{matching} of {size} match"), &[ONE], async || {
        let (bridge, handled) = (bridge(), Arc::new(Semaphore::new(0)));
        for number in 0..size {
            let subscriber = ServiceAddress::new("Bench", "1", format!("subscription{number}"));
            let filter = match number {
                matched if matched < matching => Filter::event("event"),
                other => Filter::event(format!("event{other}")),
            };
            let subscription = Subscription::new(subscriber, filter);
            bridge.register_subscription(subscription, Arc::new(Tell(Arc::clone(&handled)))).await.unwrap();
        }
        bridge.start().await.unwrap();
        let payload = Payload::json(&"x".repeat(254)).unwrap();
        let draft = EventDraft::event(ServiceAddress::client(), "event").with_payload(payload);
        move || {
            let (bridge, draft, handled) = (Arc::clone(&bridge), draft.clone(), Arc::clone(&handled));
            async move {
                bridge.emit_message(draft, &EmitOptions::default()).await.unwrap();
                handled.acquire_many(matching).await.unwrap().forget();
            }
        }
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = floors, invoke, emit
}
criterion_main!(benches);
