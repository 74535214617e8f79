use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use purista::{
    Capabilities, Capability, Command, CommandDraft, CommandHandler, Context, EmitOptions, Error, ErrorKind,
    EventBridge, EventDraft, Filter, HandlerError, Id, InvokeError, InvokeOptions, PartyFilter, Payload,
    Registration, RetryPolicy, ServiceAddress, Sharing, Subscription, SubscriptionHandler,
    SubscriptionOptions, core::adapter::async_trait,
};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::timeout,
};

use super::{
    finding::{Finding, Verdict},
    pages::Pages,
    tls,
};
use crate::outcome::Failure;

/// How long each check waits.
const LIMIT: Duration = Duration::from_secs(10);

/// How long the end may take.
const GRACE: Duration = Duration::from_secs(5);

/// The event that is emitted and awaited.
const EVENT: &str = "puristaDoctor";

/// The checks of one bridge.
pub(super) struct Checkup<'a> {
    bridge: &'a dyn EventBridge,
    pages: &'static Pages,
    json: bool,
    failed: usize,
}

impl<'a> Checkup<'a> {
    pub(super) fn new(bridge: &'a dyn EventBridge, json: bool) -> Self {
        Self { bridge, pages: Pages::of(bridge.name()), json, failed: 0 }
    }

    pub(super) const fn failed(&self) -> usize {
        self.failed
    }

    /// Checks all there is, and tells it.
    pub(super) async fn run(&mut self, url: &str) -> Result<(), Failure> {
        let (verdict, told) = tls::judge(url);
        self.tell(verdict, "TLS", told, Some(self.pages.security))?;
        // Where nothing can be registered after the start, these are there in time.
        let command = ServiceAddress::new("purista-cli", "1", format!("doctor-{}", Id::random()));
        let served = self.serve(&command).await;
        let (seen, mut arrived) = channel(1);
        let subscribed = self.subscribe(seen).await;

        let before = self.bridge.capabilities();
        let began = Instant::now();
        if let Err(error) = self.bridge.start().await {
            self.fail("connect", &error)?;
            for check in ["health", "capabilities", "call", "event"] {
                self.tell(Verdict::NotChecked, check, "there is no connection", None)?;
            }
        } else {
            let told = format!("connected to {} in {}", self.bridge.name(), milliseconds(began));
            self.tell(Verdict::Ok, "connect", &told, None)?;
            self.health()?;
            self.capabilities(&before)?;
            self.call(&command, &served).await?;
            self.event(&subscribed, &mut arrived).await?;
            self.end([served, subscribed]).await?;
        }
        for (check, why) in self.pages.unseen {
            self.tell(Verdict::NotChecked, check, why, Some(self.pages.broker))?;
        }
        Ok(())
    }

    async fn serve(&self, command: &ServiceAddress) -> purista::Result<Registration> {
        if self.bridge.name() == "dapr" {
            // The application of a sidecar serves its own service alone. Tried all the same, this would end the start.
            return Err(Error::new(ErrorKind::NoHandler, "register"));
        }
        self.bridge.register_command(Command::new(command), Arc::new(Echo)).await
    }

    async fn subscribe(&self, seen: Sender<()>) -> purista::Result<Registration> {
        let filter = Filter::event(EVENT)
            .with_sender(PartyFilter::any().with_instance_id(self.bridge.instance_id().clone()));
        let options = SubscriptionOptions::default()
            .with_sharing(Sharing::Broadcast)
            .with_durable(false)
            .with_retry(RetryPolicy::NEVER)
            .with_dead_letter(false);
        if self.bridge.name() == "dapr" {
            // A sidecar delivers to an application. Asked for all the same, this would end the start.
            return Err(Error::new(ErrorKind::Unsupported(Capability::BroadcastSubscriptions), "register"));
        }
        let subscription = Subscription::new(("purista-cli", "1", "doctor"), filter).with_options(options);
        self.bridge.register_subscription(subscription, Arc::new(Seen(seen))).await
    }

    fn health(&mut self) -> Result<(), Failure> {
        let health = self.bridge.health();
        if health.is_healthy() {
            return self.tell(Verdict::Ok, "health", "connected and consuming", None);
        }
        let idle = health.not_consuming.iter().map(|address| format!("{address} does not consume"));
        let why: Vec<_> = health.reason.iter().cloned().chain(idle).collect();
        self.tell(Verdict::Fail, "health", &why.join("; "), Some(self.pages.health))
    }

    /// What the adapter has and the live broker does not give.
    fn capabilities(&mut self, before: &Capabilities) -> Result<(), Failure> {
        let given = self.bridge.capabilities();
        let lost: Vec<_> = before.iter().filter(|capability| !given.has(*capability)).collect();
        for capability in &lost {
            let told = format!("the broker, as it is configured, does not give {capability}");
            self.tell(Verdict::Warn, "capabilities", &told, Some(self.pages.broker))?;
        }
        if lost.is_empty() {
            self.tell(Verdict::Ok, "capabilities", "the broker gives all that the adapter asks for", None)?;
        }
        Ok(())
    }

    async fn call(
        &mut self,
        command: &ServiceAddress,
        served: &purista::Result<Registration>,
    ) -> Result<(), Failure> {
        match served {
            Err(error) if error.kind() == ErrorKind::NoHandler => {
                let told = "calls go to the application of a service; the start called through the sidecar, and was answered";
                let page = Some("crates/purista-dapr/README.md#commands");
                return self.tell(Verdict::NotChecked, "call", told, page);
            }
            Err(error) => return self.fail("call", error),
            Ok(_) => {}
        }
        let payload = Payload::from_json_text("\"purista doctor\"")?;
        let draft = CommandDraft::new(ServiceAddress::client(), command).with_payload(payload.clone());
        let began = Instant::now();
        let options = InvokeOptions::default().with_timeout(LIMIT);
        match self.bridge.invoke_command(draft, &options).await {
            Ok(answer) if answer.payload() == Some(&payload) => {
                let told = format!("a call to itself was answered in {}", milliseconds(began));
                self.tell(Verdict::Ok, "call", &told, None)
            }
            Ok(_) => self.tell(Verdict::Fail, "call", "the answer is another one", Some(self.pages.broker)),
            Err(InvokeError::Bridge(error)) => self.fail("call", &error),
            Err(error) => self.tell(Verdict::Fail, "call", &error.to_string(), Some(self.pages.broker)),
        }
    }

    async fn event(
        &mut self,
        subscribed: &purista::Result<Registration>,
        arrived: &mut Receiver<()>,
    ) -> Result<(), Failure> {
        let draft = EventDraft::event(ServiceAddress::client(), EVENT);
        let began = Instant::now();
        let options = EmitOptions::default().with_timeout(LIMIT);
        if let Err(error) = self.bridge.emit_message(draft, &options).await {
            return self.fail("event", &error);
        }
        let told = format!("the broker took an event over in {}", milliseconds(began));
        self.tell(Verdict::Ok, "event", &told, None)?;
        match subscribed {
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported(_)) => {
                self.tell(Verdict::NotChecked, "delivery", &error.to_string(), Some(self.pages.broker))
            }
            Err(error) => self.fail("delivery", error),
            Ok(_) => match timeout(LIMIT, arrived.recv()).await {
                Ok(Some(())) => {
                    let told = format!("it was delivered {} after it was sent", milliseconds(began));
                    self.tell(Verdict::Ok, "delivery", &told, None)
                }
                _ => {
                    let told = format!("the event was not delivered within {LIMIT:?}");
                    self.tell(Verdict::Fail, "delivery", &told, Some(self.pages.broker))
                }
            },
        }
    }

    async fn end(&mut self, registered: [purista::Result<Registration>; 2]) -> Result<(), Failure> {
        for registration in registered.into_iter().flatten() {
            match registration.unregister().await {
                Err(error) if !matches!(error.kind(), ErrorKind::Unsupported(_)) => {
                    self.fail("disconnect", &error)?;
                }
                _ => {}
            }
        }
        let report = self.bridge.shutdown(GRACE).await;
        if report.is_clean() {
            return self.tell(Verdict::Ok, "disconnect", "everything finished", None);
        }
        self.tell(Verdict::Warn, "disconnect", &report.errors.join("; "), Some(self.pages.health))
    }

    /// Tells an error of the bridge, and the page that says what it can mean.
    fn fail(&mut self, check: &'static str, error: &Error) -> Result<(), Failure> {
        let page = match error.kind() {
            ErrorKind::InvalidConfig | ErrorKind::Unavailable => self.pages.urls,
            ErrorKind::Unauthenticated | ErrorKind::Tls => self.pages.security,
            _ => self.pages.broker,
        };
        self.tell(Verdict::Fail, check, &error.to_string(), Some(page))
    }

    fn tell(
        &mut self,
        verdict: Verdict,
        check: &'static str,
        message: &str,
        page: Option<&'static str>,
    ) -> Result<(), Failure> {
        self.failed += usize::from(verdict == Verdict::Fail);
        Finding { verdict, check, message, page }.print(self.json)
    }
}

fn milliseconds(since: Instant) -> String {
    format!("{} ms", since.elapsed().as_millis())
}

struct Echo;

#[async_trait]
impl CommandHandler for Echo {
    async fn handle(&self, context: Context) -> Result<Option<Payload>, HandlerError> {
        Ok(context.message().payload().cloned())
    }
}

struct Seen(Sender<()>);

#[async_trait]
impl SubscriptionHandler for Seen {
    async fn handle(&self, _context: Context) -> Result<(), HandlerError> {
        // Once is enough.
        let _again = self.0.try_send(());
        Ok(())
    }
}
