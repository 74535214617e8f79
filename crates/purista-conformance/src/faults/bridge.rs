//! The bridge that is wrong.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use purista_core::{
    Acknowledge, BridgeEvents, BridgeState, Capabilities, Capability, Command, CommandDraft, CommandHandler,
    EmitOptions, Error, ErrorKind, EventBridge, EventDraft, Filter, Granted, Health, Id, InvokeError,
    InvokeOptions, Message, MessageType, Name, PartyFilter, Payload, Registration, RegistrationControl,
    Result, RetryPolicy, ServiceAddress, Sharing, ShutdownReport, Stats, Subscription, SubscriptionHandler,
    TraceContext,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::{
    Fault,
    handlers::{WrongCommand, WrongSubscription},
    outage::Outage,
};
use crate::probe::on_event;

/// A right bridge, used wrongly.
#[derive(Debug)]
pub(super) struct WrongBridge {
    inner: Arc<dyn EventBridge>,
    fault: Fault,
    emitted: Mutex<u64>,
    /// How many emits the broker has refused, and what the last one was told.
    refused: Mutex<(u64, Option<Error>)>,
    held_event: Mutex<Option<EventDraft>>,
    held_answer: Mutex<Option<Arc<Message>>>,
    forgotten_calls: Mutex<usize>,
    registrations: Mutex<HashMap<ServiceAddress, Registration>>,
    any_response: Arc<AnyResponse>,
    outage: Arc<Outage>,
    /// One permit for each handler that may run.
    turn: Arc<Semaphore>,
}

/// The last response that anybody sent.
#[derive(Debug, Default)]
struct AnyResponse {
    last: Mutex<Option<Arc<Message>>>,
    came: Notify,
}

impl WrongBridge {
    pub(super) fn new(inner: Arc<dyn EventBridge>, fault: Fault) -> Self {
        Self {
            inner,
            fault,
            emitted: Mutex::default(),
            refused: Mutex::default(),
            held_event: Mutex::default(),
            held_answer: Mutex::default(),
            forgotten_calls: Mutex::default(),
            registrations: Mutex::default(),
            any_response: Arc::default(),
            outage: Arc::new(Outage::new(fault)),
            turn: Arc::new(Semaphore::new(match fault {
                Fault::RunsHandlersInTurn => 1,
                _ => Semaphore::MAX_PERMITS,
            })),
        }
    }

    /// Spoils what is about to be emitted.
    fn spoil_event(&self, draft: EventDraft) -> EventDraft {
        let message = draft.clone().stamp(self.inner.instance_id());
        match (self.fault, message.payload(), &message.tenant_id) {
            (Fault::LosesTrace, ..) => draft.with_trace_context(TraceContext::EMPTY),
            (Fault::NormalisesNames, _, Some(tenant)) => draft.with_tenant_id(normalise(tenant)),
            (Fault::EscapesMarkers, ..) if message.event_name.as_deref() == Some("none") => {
                draft.with_event_name("escaped-none")
            }
            (Fault::RenamesEvents, ..) => match &message.event_name {
                Some(name) => draft.with_event_name(name.replace(|letter: char| !letter.is_ascii(), "")),
                None => draft,
            },
            (Fault::LosesDigits, Some(payload), _) => match as_floating_point(payload) {
                Some(payload) => draft.with_payload(payload),
                None => draft,
            },
            (Fault::RoundsNumbers, Some(payload), _) => match rounded(payload) {
                Ok(payload) => draft.with_payload(payload),
                Err(_) => draft,
            },
            (Fault::LosesNull, Some(payload), _) if payload.get() == "null" => {
                let bare = EventDraft::custom(&message.sender.address);
                match &message.event_name {
                    Some(event_name) => bare.with_event_name(event_name),
                    None => bare,
                }
            }
            _ => draft,
        }
    }

    /// Spoils what is about to be invoked.
    fn spoil_command(&self, draft: CommandDraft) -> CommandDraft {
        let message = draft.clone().stamp(self.inner.instance_id());
        let Some(mut receiver) = message.receiver.clone() else { return draft };
        let mut parameter = message.parameter().cloned();
        match self.fault {
            Fault::AsksAnybody => receiver.instance_id = None,
            _ => parameter = parameter.filter(|parameter| parameter.get() != "{}"),
        }
        let mut spoiled = CommandDraft::new(&message.sender.address, receiver).caused_by(&message);
        if let Some(payload) = message.payload() {
            spoiled = spoiled.with_payload(payload.clone());
        }
        match parameter {
            Some(parameter) => spoiled.with_parameter(parameter),
            None => spoiled,
        }
    }

    fn spoil_filter(&self, mut filter: Filter) -> Filter {
        match self.fault {
            Fault::IgnoresTenant => filter.tenant_id = None,
            Fault::IgnoresReceiver => filter.receiver = PartyFilter::any(),
            Fault::NormalisesNames => filter.tenant_id = filter.tenant_id.as_ref().map(normalise),
            Fault::AcceptsEmptyFilters => {
                let given = |name: &Name| !name.is_empty();
                filter.event_name = filter.event_name.filter(given);
                filter.tenant_id = filter.tenant_id.filter(given);
                filter.principal_id = filter.principal_id.filter(given);
                for party in [&mut filter.sender, &mut filter.receiver] {
                    party.service_name = party.service_name.take().filter(given);
                    party.service_version = party.service_version.take().filter(given);
                    party.service_target = party.service_target.take().filter(given);
                    party.instance_id = party.instance_id.take().filter(|id| !id.is_empty());
                }
            }
            _ => {}
        }
        filter
    }

    fn spoil_subscription(&self, mut subscription: Subscription) -> Subscription {
        subscription.filter = self.spoil_filter(subscription.filter);
        let options = &mut subscription.options;
        match self.fault {
            Fault::BroadcastsShared => options.sharing = Some(Sharing::Broadcast),
            Fault::SharesBroadcast => options.sharing = Some(Sharing::Shared),
            Fault::ClaimsDurable => options.durable = None,
            Fault::DropsDeadLetters => options.dead_letter = Some(false),
            Fault::AcknowledgesTooEarly => options.acknowledge = Some(Acknowledge::OnReceive),
            Fault::IgnoresConcurrency => {
                options.max_concurrency = options.max_concurrency.map(|limit| 2 * limit)
            }
            Fault::RetriesWithoutEnd => {
                options.retry = options.retry.map(|retry| retry.with_max_attempts(retry.max_attempts + 1));
            }
            Fault::RetriesAtOnce => {
                options.retry =
                    options.retry.map(|retry| RetryPolicy::with_initial_delay(retry, Duration::ZERO));
            }
            Fault::SharesAmongSubscribers => {
                subscription.subscriber = ServiceAddress::new("everybody", "1", "same");
            }
            _ => {}
        }
        subscription
    }

    /// Answers a call with the next response on the bridge, whoever sent it.
    async fn next_response(&self) -> Arc<Message> {
        loop {
            let came = self.any_response.came.notified();
            if let Some(response) = self.any_response.last.lock().take() {
                return response;
            }
            came.await;
        }
    }

    async fn listen_to_all_responses(&self) -> Result<()> {
        for message_type in [MessageType::CommandSuccessResponse, MessageType::CommandErrorResponse] {
            let heard = Arc::clone(&self.any_response);
            let handler = on_event(move |context| {
                *heard.last.lock() = Some(Arc::clone(context.message()));
                heard.came.notify_waiters();
                async { Ok(()) }
            });
            let name = format!("listener {}", self.inner.instance_id());
            let subscriber = ServiceAddress::new(name, "1", message_type.as_str());
            let subscription = Subscription::new(subscriber, Filter::message_type(message_type));
            self.inner.register_subscription(subscription, handler).await?;
        }
        Ok(())
    }

    /// Returns the answer of the call before, and keeps this one for the next.
    fn one_answer_late(&self, response: Arc<Message>) -> Arc<Message> {
        let before = self.held_answer.lock().replace(Arc::clone(&response));
        before.unwrap_or(response)
    }
}

fn normalise(name: &Name) -> Name {
    name.to_lowercase().replace('-', "_").into()
}

fn as_floating_point(payload: &Payload) -> Option<Payload> {
    let value: serde_json::Value = payload.deserialize().ok()?;
    Payload::json(&value).ok()
}

/// Writes floating-point numbers with one digit less than it takes.
fn rounded(payload: &Payload) -> Result<Payload> {
    let is_part = |part: char| part.is_ascii_digit() || "+-.eE".contains(part);
    let (mut json, mut rest) = (String::new(), payload.get());
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|part| !is_part(part)).unwrap_or(rest.len()));
        let digits = number.parse::<f64>().map(|double| format!("{double:.16e}")).unwrap_or_default();
        match digits.split_once('e') {
            Some((digits, exponent)) if number.contains('.') => {
                json.push_str(&digits[..digits.len() - 1]);
                json.push('e');
                json.push_str(exponent);
            }
            _ => json.push_str(number),
        }
        let text = after.find(is_part).unwrap_or(after.len());
        json.push_str(&after[..text]);
        rest = &after[text..];
    }
    Payload::from_json_text(json)
}

#[async_trait]
impl EventBridge for WrongBridge {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn instance_id(&self) -> &Id {
        self.inner.instance_id()
    }

    fn capabilities(&self) -> Capabilities {
        let given = self.inner.capabilities();
        match self.fault {
            Fault::ClaimsDurable => given.with(Capability::DurableSubscriptions),
            Fault::UnderstatesPayload => given.with_max_payload(given.max_payload() - 16),
            _ => given,
        }
    }

    async fn start(&self) -> Result<()> {
        if self.fault == Fault::LeaksTasks {
            tokio::spawn(std::future::pending::<()>());
        }
        self.outage.watch(self.inner.events());
        self.outage.start(&*self.inner).await?;
        if self.fault == Fault::AcceptsForgedResponses {
            self.listen_to_all_responses().await?;
        }
        Ok(())
    }

    async fn emit_message(&self, draft: EventDraft, options: &EmitOptions) -> Result<Arc<Message>> {
        let draft = self.spoil_event(draft);
        let pretended = || Arc::new(draft.clone().stamp(self.inner.instance_id()));
        let number = {
            let mut emitted = self.emitted.lock();
            *emitted += 1;
            *emitted
        };
        match self.fault {
            Fault::DropsOneInSeven if number.is_multiple_of(7) => return Ok(pretended()),
            Fault::Duplicates => {
                self.inner.emit_message(draft.clone(), options).await?;
            }
            Fault::Reorders if number % 2 == 1 => {
                *self.held_event.lock() = Some(draft.clone());
                return Ok(pretended());
            }
            Fault::Reorders => {
                let held = self.held_event.lock().take();
                let sent = self.inner.emit_message(draft, options).await;
                if let Some(held) = held {
                    self.inner.emit_message(held, options).await?;
                }
                return sent;
            }
            Fault::EmitsUnconfirmed => {
                let message = pretended();
                let (bridge, options) = (Arc::clone(&self.inner), *options);
                tokio::spawn(async move { bridge.emit_message(draft, &options).await });
                return Ok(message);
            }
            Fault::IgnoresMustRoute => {
                return self.inner.emit_message(draft, &options.with_must_route(false)).await;
            }
            Fault::BuffersEvents if !self.inner.health().connected => return Ok(pretended()),
            Fault::IgnoresEmitLimits => {
                let patient = options.with_timeout(options.timeout.saturating_mul(3));
                return self.inner.emit_message(draft, &patient).await;
            }
            Fault::FailsNeighbours => {
                let before = self.refused.lock().0;
                let sent = self.inner.emit_message(draft, options).await;
                let mut refused = self.refused.lock();
                match sent {
                    Err(error) => {
                        *refused = (refused.0 + 1, Some(error.clone()));
                        return Err(error);
                    }
                    // It was on its way at that time.
                    Ok(_) if refused.0 > before => {
                        return Err(refused
                            .1
                            .clone()
                            .unwrap_or_else(|| Error::new(ErrorKind::Unexpected, "emit")));
                    }
                    Ok(message) => return Ok(message),
                }
            }
            Fault::BlocksThreads => {
                return self.outage.block(self.inner.emit_message(draft, options)).await;
            }
            _ => {}
        }
        self.inner.emit_message(draft, options).await
    }

    async fn invoke_command(
        &self,
        draft: CommandDraft,
        options: &InvokeOptions,
    ) -> Result<Arc<Message>, InvokeError> {
        let limit = options.timeout;
        let timed_out = || Error::new(ErrorKind::Timeout, "invoke").into();
        match self.fault {
            Fault::AnswersFromTheCallBefore => {
                let response = self.inner.invoke_command(draft, options).await?;
                Ok(self.one_answer_late(response))
            }
            Fault::SwapsAnswers => {
                let response = self.inner.invoke_command(draft, options).await?;
                // Calls one after another get their own.
                if self.inner.stats().pending_calls == 0 {
                    Ok(response)
                } else {
                    Ok(self.one_answer_late(response))
                }
            }
            Fault::HidesNoHandler => match self.inner.invoke_command(draft, options).await {
                Err(error) if error.bridge_kind() == Some(ErrorKind::NoHandler) => {
                    tokio::time::sleep(limit).await;
                    Err(timed_out())
                }
                result => result,
            },
            Fault::WaitsTooLong => {
                self.inner.invoke_command(draft, &options.with_timeout(limit.saturating_mul(2))).await
            }
            Fault::ExecutesExpired => {
                let patient = options.with_timeout(limit + Duration::from_secs(60));
                let bridge = Arc::clone(&self.inner);
                let call = tokio::spawn(async move { bridge.invoke_command(draft, &patient).await });
                match tokio::time::timeout(limit, call).await {
                    Ok(Ok(result)) => result,
                    _ => Err(timed_out()),
                }
            }
            Fault::RoundsTimeLimitsDown if limit < Duration::from_millis(500) => Err(timed_out()),
            Fault::AcceptsForgedResponses => {
                *self.any_response.last.lock() = None;
                tokio::select! {
                    biased;
                    response = self.next_response() => Ok(response),
                    result = self.inner.invoke_command(draft, options) => result,
                }
            }
            Fault::LosesTrace => {
                self.inner.invoke_command(draft.with_trace_context(TraceContext::EMPTY), options).await
            }
            Fault::LosesParameters | Fault::AsksAnybody => {
                self.inner.invoke_command(self.spoil_command(draft), options).await
            }
            Fault::HidesOtherInstances | Fault::HidesUnreadableAnswers => {
                let hidden = match self.fault {
                    Fault::HidesOtherInstances => ErrorKind::OtherInstance,
                    _ => ErrorKind::InvalidMessage,
                };
                let outcome = self.inner.invoke_command(draft, options).await;
                if matches!(&outcome, Err(error) if error.bridge_kind() == Some(hidden)) {
                    tokio::time::sleep(limit.min(Duration::from_secs(10))).await;
                    return Err(timed_out());
                }
                outcome
            }
            Fault::LeaksCalls => {
                *self.forgotten_calls.lock() += 1;
                let result = self.inner.invoke_command(draft, options).await;
                if result.is_ok() {
                    *self.forgotten_calls.lock() -= 1;
                }
                result
            }
            _ => self.inner.invoke_command(draft, options).await,
        }
    }

    async fn register_command(
        &self,
        mut command: Command,
        handler: Arc<dyn CommandHandler>,
    ) -> Result<Registration> {
        if self.fault == Fault::IgnoresConcurrency {
            let limit = &mut command.options.max_concurrency;
            *limit = limit.map(|limit| 2 * limit);
        }
        if self.fault == Fault::AcknowledgesCommandsTooEarly {
            command.options.acknowledge = Some(Acknowledge::OnReceive);
        }
        let known = self.registrations.lock().get(&command.address).cloned();
        if let (Fault::ReplacesRegistrations, Some(known)) = (self.fault, known) {
            return Ok(known);
        }
        let handler = Arc::new(WrongCommand { fault: self.fault, handler, turn: Arc::clone(&self.turn) });
        let registration = self.inner.register_command(command, handler).await?;
        self.registrations.lock().insert(registration.address().clone(), registration.clone());
        Ok(self.wrong_registration(registration))
    }

    async fn register_subscription(
        &self,
        subscription: Subscription,
        handler: Arc<dyn SubscriptionHandler>,
    ) -> Result<Registration> {
        let subscription = self.spoil_subscription(subscription);
        let known = self.registrations.lock().get(&subscription.subscriber).cloned();
        if let (Fault::ReplacesRegistrations, Some(known)) = (self.fault, known) {
            return Ok(known);
        }
        let handler = Arc::new(WrongSubscription {
            fault: self.fault,
            handler,
            registered_at: Instant::now(),
            outage: Arc::clone(&self.outage),
            turn: Arc::clone(&self.turn),
        });
        let registration = self.inner.register_subscription(subscription, handler).await?;
        self.registrations.lock().insert(registration.address().clone(), registration.clone());
        Ok(self.wrong_registration(registration))
    }

    fn health(&self) -> Health {
        let health = self.inner.health();
        match (self.fault, health.state) {
            (Fault::ReadyTooEarly, BridgeState::Created) => {
                Health::new(BridgeState::Started, true, Vec::new())
            }
            (Fault::HidesLostRuntimes, BridgeState::ShutDown) => {
                Health::new(BridgeState::Started, true, Vec::new())
            }
            (Fault::HidesSilence, state) => Health::new(state, true, health.not_consuming),
            (Fault::HidesDeadConsumers | Fault::HidesStoppages, state) => {
                Health::new(state, health.connected, Vec::new())
            }
            _ => health,
        }
    }

    fn events(&self) -> BridgeEvents {
        self.inner.events()
    }

    fn stats(&self) -> Stats {
        let mut stats = self.inner.stats();
        match self.fault {
            Fault::HidesMalformed => stats.malformed = 0,
            Fault::HidesStreams => stats.stream_frames = 0,
            Fault::LeaksCalls => stats.pending_calls = *self.forgotten_calls.lock(),
            _ => {}
        }
        stats
    }

    async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        match self.fault {
            Fault::ShutsDownAtOnce => {
                let mut report = self.inner.shutdown(Duration::ZERO).await;
                // On a busy machine, handlers may be quick enough to finish all the same.
                report.cancelled_handlers = report.cancelled_handlers.max(1);
                report
            }
            Fault::IgnoresShutdown => ShutdownReport::default(),
            _ => self.inner.shutdown(grace).await,
        }
    }
}

impl WrongBridge {
    fn wrong_registration(&self, registration: Registration) -> Registration {
        if self.fault != Fault::IgnoresUnregister {
            return registration;
        }
        Registration::new(registration.address().clone(), Arc::new(IgnoredUnregister(registration)))
    }
}

#[derive(Debug)]
struct IgnoredUnregister(Registration);

#[async_trait]
impl RegistrationControl for IgnoredUnregister {
    fn granted(&self) -> Granted {
        self.0.granted()
    }

    async fn unregister(&self) -> Result<()> {
        Ok(())
    }
}
