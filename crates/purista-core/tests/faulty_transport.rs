//! The engine over a broker that has a fault: nothing hangs, and nothing is lost that could be kept.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::{Future, pending},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use purista_core::{
    Capabilities, Capability, Command, CommandDraft, CommandOptions, Context, Error, ErrorKind, EventBridge,
    EventBridgeExt as _, EventDraft, Filter, Id, Message, Payload, Registration, Result, Service,
    ServiceAddress, Subscription,
    adapter::{
        Acknowledgement, Busy, Consumer, DeadLetter, Delivery, Engine, EngineConfig, Intake, Link, Publish,
        Stop, Transport, async_trait,
    },
};
use tokio::time::{Instant, sleep};

/// How long after its grace period a shutdown may take.
const PATIENCE: Duration = Duration::from_millis(250);

/// Longer than anything in these tests takes; passes at once, as the time is paused.
const A_LONG_TIME: Duration = Duration::from_secs(20 * 60 * 60);

/// The command that tests call.
const WORK: (&str, &str, &str) = ("Worker", "1", "work");

/// What is wrong with a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    ConnectHangs,
    PublishHangs,
    RequestHangs,
    RespondHangs,
    ClosePanics,
    /// The first try to connect fails, and what is published later takes a moment.
    FirstConnectFails,
    /// The connection breaks while the first consumer is set up.
    CutWhileConsuming,
    /// The first consumer gets an event at once, and the others take a second to set up.
    DeliversDuringStart,
    /// Durable subscriptions turn out not to be there once it is connected.
    OffersLessWhenConnected,
}

/// A broker that can do everything, but for its fault.
#[derive(Debug)]
struct Faulty {
    fault: Fault,
    /// Whether it was connected before, or tried to.
    is_tried: AtomicBool,
    connected: AtomicBool,
    disconnects: AtomicUsize,
    link: Mutex<Option<Link>>,
    /// Where it delivers to, by registration.
    intakes: Mutex<Vec<Intake<Self>>>,
}

impl Faulty {
    async fn hang_if(&self, fault: Fault) {
        if self.fault == fault {
            pending().await
        }
    }

    async fn consume(&self, intake: Intake<Self>) -> Result<Consuming> {
        let is_first = self.intakes.lock().is_empty();
        self.intakes.lock().push(intake.clone());
        match self.fault {
            Fault::CutWhileConsuming => self.link.lock().as_ref().unwrap().disconnected("cut"),
            Fault::DeliversDuringStart if is_first => deliver(&intake, Delivery::new(event())),
            Fault::DeliversDuringStart => sleep(ms(1_000)).await,
            _ => {}
        }
        Ok(Consuming(self.fault))
    }
}

#[derive(Debug)]
struct Consuming(Fault);

impl Consumer for Consuming {
    async fn stop(&self, _why: Stop) {}

    async fn close(&self) -> Result<()> {
        assert!(self.0 != Fault::ClosePanics, "as it has to");
        Ok(())
    }
}

impl Transport for Faulty {
    type Consumer = Consuming;
    type ReplyTo = ();

    const NAME: &'static str = "faulty";

    fn capabilities(&self) -> Capabilities {
        let all =
            Capability::ALL.iter().fold(Capabilities::NONE, |given, capability| given.with(*capability));
        if self.fault == Fault::OffersLessWhenConnected && self.connected.load(SeqCst) {
            return all.without(Capability::DurableSubscriptions);
        }
        all
    }

    async fn connect(&self, link: Link) -> Result<()> {
        self.hang_if(Fault::ConnectHangs).await;
        let was_tried = self.is_tried.swap(true, SeqCst);
        if self.fault == Fault::FirstConnectFails && !was_tried {
            return Err(Error::new(ErrorKind::Unavailable, "start"));
        }
        self.connected.store(true, SeqCst);
        *self.link.lock() = Some(link);
        Ok(())
    }

    async fn publish(&self, _message: Arc<Message>, _publish: Publish) -> Result<()> {
        self.hang_if(Fault::PublishHangs).await;
        if self.fault == Fault::FirstConnectFails {
            sleep(ms(10)).await;
        }
        Ok(())
    }

    async fn request(&self, _command: Arc<Message>, _deadline: Instant) -> Result<()> {
        self.hang_if(Fault::RequestHangs).await;
        Ok(())
    }

    async fn respond(&self, _response: Arc<Message>, (): ()) -> Result<()> {
        self.hang_if(Fault::RespondHangs).await;
        Ok(())
    }

    async fn consume_command(&self, _: &Command, intake: Intake<Self>) -> Result<Consuming> {
        self.consume(intake).await
    }

    async fn consume_subscription(&self, _: &Subscription, intake: Intake<Self>) -> Result<Consuming> {
        self.consume(intake).await
    }

    async fn keep_dead_letter(&self, _letter: DeadLetter) -> Result<()> {
        Ok(())
    }

    async fn disconnect(&self) -> Result<()> {
        self.disconnects.fetch_add(1, SeqCst);
        Ok(())
    }
}

/// Cannot tell the broker that a message was taken.
#[derive(Debug)]
struct Unacceptable;

#[async_trait]
impl Acknowledgement for Unacceptable {
    async fn accept(self: Box<Self>) -> Result<()> {
        Err(Error::new(ErrorKind::Unavailable, "acknowledge"))
    }

    async fn release(self: Box<Self>, _failed_attempts: u32) -> Result<()> {
        Ok(())
    }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// How long something took.
async fn timed<R>(future: impl Future<Output = R>) -> (Duration, R) {
    let began = Instant::now();
    let result = future.await;
    (began.elapsed(), result)
}

fn bridge_with(fault: Fault) -> Arc<Engine<Faulty>> {
    let faulty = Faulty {
        fault,
        is_tried: AtomicBool::default(),
        connected: AtomicBool::default(),
        disconnects: AtomicUsize::default(),
        link: Mutex::default(),
        intakes: Mutex::default(),
    };
    Engine::new(faulty, EngineConfig::default()).unwrap()
}

/// A started bridge that serves this, its registrations, and where the first of them gets its deliveries.
async fn serving(fault: Fault, service: Service) -> (Arc<Engine<Faulty>>, Vec<Registration>, Intake<Faulty>) {
    let bridge = bridge_with(fault);
    let registrations = bridge.serve([service]).await.unwrap();
    let intake = bridge.transport().intakes.lock()[0].clone();
    (bridge, registrations, intake)
}

/// The command that tests call, which answers at once, one call at a time.
fn worker() -> Service {
    let one_at_a_time = CommandOptions::default().with_max_concurrency(1);
    Service::new(WORK.0, WORK.1)
        .command_with(WORK.2, one_at_a_time, |_: Context, number: u8| async move { Ok(number) })
}

fn deliver(intake: &Intake<Faulty>, delivery: Delivery<()>) {
    intake.deliver(intake.try_slot().unwrap(), delivery);
}

fn event() -> Arc<Message> {
    Arc::new(EventDraft::event(("Client", "1", "main"), "happened").stamp(&Id::random()))
}

fn call() -> Delivery<()> {
    let draft = CommandDraft::new(ServiceAddress::client(), WORK).with_payload(Payload::json(&1).unwrap());
    Delivery::new(Arc::new(draft.stamp(&Id::random()))).with_reply_to((), None)
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_start_that_nobody_polls() {
    let bridge = bridge_with(Fault::ConnectHangs);
    let mut start = pin!(bridge.start());
    tokio::select! {
        result = &mut start => unreachable!("{result:?}"),
        () = sleep(ms(10)) => {}
    }
    let (took, report) = timed(bridge.shutdown(ms(100))).await;
    assert!(took <= ms(100) + PATIENCE && report.is_clean(), "{took:?}: {report:?}");
    assert_eq!(start.await.unwrap_err().kind(), ErrorKind::ShutDown);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_disconnects_though_a_response_does_not_get_out() {
    let (bridge, _, intake) = serving(Fault::RespondHangs, worker()).await;
    deliver(&intake, call());
    let (took, report) = timed(bridge.shutdown(ms(100))).await;
    assert!(took >= ms(100) && took <= ms(100) + PATIENCE, "{took:?}");
    assert_eq!((bridge.transport().disconnects.load(SeqCst), report.errors), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_does_not_get_out_gives_its_slot_back() {
    let (bridge, _, intake) = serving(Fault::RespondHangs, worker()).await;
    deliver(&intake, call());
    sleep(ms(100)).await;
    assert_eq!((intake.try_slot().unwrap_err(), bridge.stats().in_hand), (Busy::Full, 1));
    sleep(A_LONG_TIME).await;
    assert!(intake.try_slot().is_ok());
    assert_eq!((bridge.stats().executed, bridge.stats().in_hand), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_call_that_does_not_get_out() {
    let bridge = bridge_with(Fault::RequestHangs);
    bridge.start().await.unwrap();
    let call = {
        let bridge = Arc::clone(&bridge);
        tokio::spawn(async move { timed(bridge.invoke::<u8>(WORK, &1)).await })
    };
    sleep(ms(10)).await;
    let report = bridge.shutdown(ms(100)).await;
    let (took, result) = call.await.unwrap();
    assert_eq!((report.failed_calls, result.unwrap_err().bridge_kind()), (1, Some(ErrorKind::ShutDown)));
    assert!(took >= ms(110) && took <= ms(110) + PATIENCE, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_an_emit_that_the_broker_does_not_confirm() {
    let bridge = bridge_with(Fault::PublishHangs);
    bridge.start().await.unwrap();
    let emit = {
        let bridge = Arc::clone(&bridge);
        tokio::spawn(async move { timed(bridge.emit("happened", &1)).await })
    };
    sleep(ms(10)).await;
    assert!(bridge.shutdown(ms(100)).await.is_clean());
    let (took, result) = emit.await.unwrap();
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ShutDown);
    assert!(took <= ms(110) + PATIENCE, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_bridge_whose_first_start_failed_works_after_the_next() {
    let bridge = bridge_with(Fault::FirstConnectFails);
    assert_eq!(bridge.start().await.unwrap_err().kind(), ErrorKind::Unavailable);
    bridge.start().await.unwrap();
    bridge.emit("happened", &1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_reports_that_the_adapter_panicked() {
    let (bridge, _, _) = serving(Fault::ClosePanics, worker()).await;
    let (took, report) = timed(bridge.shutdown(ms(100))).await;
    assert!(took <= ms(100) + PATIENCE, "{took:?}");
    assert_eq!(report.errors, ["the adapter panicked"]);
    assert!(!bridge.health().connected);
}

#[tokio::test(start_paused = true)]
async fn what_runs_before_the_start_is_complete_may_emit() {
    let emitted = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&emitted);
    let handler = move |ctx: Context, _: Option<u8>| {
        let noted = Arc::clone(&noted);
        async move {
            let result = ctx.emit("noticed", &1).await;
            *noted.lock() = Some(result.map(drop).map_err(|error| error.kind()));
            Ok(())
        }
    };
    let service = Service::new("Watch", "1")
        .subscription("one", Filter::event("happened"), handler.clone())
        .subscription("other", Filter::event("happened"), handler);
    let bridge = bridge_with(Fault::DeliversDuringStart);
    let mut start = pin!(bridge.serve([service]));
    tokio::select! {
        result = &mut start => unreachable!("{result:?}"),
        () = sleep(ms(500)) => {}
    }
    assert_eq!(*emitted.lock(), Some(Ok(())));
    start.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_during_the_start_is_not_reported_as_there() {
    let (bridge, _, _) = serving(Fault::CutWhileConsuming, worker()).await;
    assert!(!bridge.health().connected && !bridge.health().is_ready(), "{:?}", bridge.health());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asked_for_need_not_be_there_when_connected() {
    let service = Service::new("Watch", "1").subscription(
        "watch",
        Filter::event("happened"),
        |_: Context, (): ()| async { Ok(()) },
    );
    let (bridge, registrations, _) = serving(Fault::OffersLessWhenConnected, service).await;
    assert!(bridge.health().is_ready());
    assert!(!registrations[0].granted().durable, "{:?}", registrations[0].granted());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_delivered_too_often_is_not_handled() {
    let service = Service::new("Watch", "1").subscription(
        "watch",
        Filter::event("happened"),
        |_: Context, _: Option<u8>| async { Ok(()) },
    );
    let (bridge, registrations, intake) = serving(Fault::Nothing, service).await;
    let attempts = registrations[0].granted().retry.max_attempts;
    for attempt in [attempts, attempts + 1, attempts + 100] {
        deliver(&intake, Delivery::new(event()).with_attempt(attempt));
        sleep(ms(1)).await;
    }
    assert_eq!((bridge.stats().handled, bridge.stats().dead_lettered), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_receipt_the_broker_does_not_hear_of_is_not_executed() {
    let (bridge, registrations, intake) = serving(Fault::Nothing, worker()).await;
    assert_eq!(registrations[0].granted().acknowledge, purista_core::Acknowledge::OnReceive);
    // The broker delivers it again, so it would run twice.
    deliver(&intake, call().with_acknowledgement(Box::new(Unacceptable)));
    sleep(ms(10)).await;
    assert_eq!((bridge.stats().executed, bridge.stats().failed_acknowledgements), (0, 1));
    deliver(&intake, call());
    sleep(ms(10)).await;
    assert_eq!(bridge.stats().executed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_ended_does_not_count_as_not_consuming() {
    let (bridge, registrations, intake) = serving(Fault::Nothing, worker()).await;
    intake.consumer_down();
    assert!(!bridge.health().is_healthy());
    registrations[0].unregister().await.unwrap();
    sleep(ms(100)).await;
    assert!(bridge.health().is_healthy(), "{:?}", bridge.health());
}
