//! How a wrong bridge calls commands.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use purista_core::{
    CommandDraft, Error, ErrorKind, EventBridge, Filter, InvokeError, InvokeOptions, Message, MessageType,
    Result, ServiceAddress, Subscription, TraceContext,
};
use tokio::sync::Notify;

use super::{Fault, spoil};
use crate::probe::on_event;

/// The calls of a wrong bridge.
#[derive(Debug)]
pub(super) struct Calls {
    fault: Fault,
    inner: Arc<dyn EventBridge>,
    held_answer: Mutex<Option<Arc<Message>>>,
    forgotten: Mutex<usize>,
    any_response: Arc<AnyResponse>,
}

/// The last response that anybody sent.
#[derive(Debug, Default)]
struct AnyResponse {
    last: Mutex<Option<Arc<Message>>>,
    came: Notify,
}

impl Calls {
    pub(super) fn new(fault: Fault, inner: Arc<dyn EventBridge>) -> Self {
        Self {
            fault,
            inner,
            held_answer: Mutex::default(),
            forgotten: Mutex::default(),
            any_response: Arc::default(),
        }
    }

    /// Returns how many calls were given up and never freed.
    pub(super) fn forgotten(&self) -> usize {
        *self.forgotten.lock()
    }

    pub(super) async fn invoke(
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
                self.inner
                    .invoke_command(spoil::command(self.fault, draft, self.inner.instance_id()), options)
                    .await
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
                *self.forgotten.lock() += 1;
                let result = self.inner.invoke_command(draft, options).await;
                if result.is_ok() {
                    *self.forgotten.lock() -= 1;
                }
                result
            }
            _ => self.inner.invoke_command(draft, options).await,
        }
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

    /// Hears every response on the bridge, whoever asked for it.
    pub(super) async fn listen_to_all_responses(&self) -> Result<()> {
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
