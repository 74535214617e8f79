use super::{
    Body, CONTENT_ENCODING, CONTENT_TYPE, Id, Message, MessageType, Name, Payload, Receiver, Sender,
    ServiceAddress, now,
};
use crate::trace::TraceContext;

/// What event and command drafts have in common.
#[derive(Clone, Debug)]
struct Header {
    sender: ServiceAddress,
    event_name: Option<Name>,
    principal_id: Option<Name>,
    tenant_id: Option<Name>,
    trace_id: Option<Id>,
    trace_context: TraceContext,
}

impl Header {
    fn new(sender: ServiceAddress) -> Self {
        Self {
            sender,
            event_name: None,
            principal_id: None,
            tenant_id: None,
            trace_id: None,
            trace_context: TraceContext::EMPTY,
        }
    }

    fn stamp(
        self,
        instance_id: &Id,
        correlation_id: Option<Id>,
        receiver: Option<Receiver>,
        body: Body,
    ) -> Message {
        Message {
            id: Id::random(),
            timestamp: now(),
            content_type: CONTENT_TYPE,
            content_encoding: CONTENT_ENCODING,
            trace_id: self.trace_id,
            correlation_id,
            principal_id: self.principal_id,
            tenant_id: self.tenant_id,
            event_name: self.event_name,
            trace_context: self.trace_context.or_current(),
            sender: Sender::new(self.sender, instance_id.clone()),
            receiver,
            body,
        }
    }
}

macro_rules! header_setters {
    () => {
        /// Sets the name of the event that the message announces.
        #[must_use]
        pub fn with_event_name(mut self, event_name: impl Into<Name>) -> Self {
            self.header.event_name = Some(event_name.into());
            self
        }

        /// Sets on whose behalf it is sent.
        #[must_use]
        pub fn with_principal_id(mut self, principal_id: impl Into<Name>) -> Self {
            self.header.principal_id = Some(principal_id.into());
            self
        }

        /// Sets to which tenant it belongs.
        #[must_use]
        pub fn with_tenant_id(mut self, tenant_id: impl Into<Name>) -> Self {
            self.header.tenant_id = Some(tenant_id.into());
            self
        }

        /// Sets the application's trace id.
        #[must_use]
        pub fn with_trace_id(mut self, trace_id: impl Into<Id>) -> Self {
            self.header.trace_id = Some(trace_id.into());
            self
        }

        /// Makes the message part of a distributed trace.
        #[must_use]
        pub fn with_trace_context(mut self, trace_context: TraceContext) -> Self {
            self.header.trace_context = trace_context;
            self
        }

        /// Makes the message one that a span sends.
        #[must_use]
        pub(crate) fn sent_in(mut self, span: &tracing::Span) -> Self {
            self.header.trace_context = self.header.trace_context.or_current().sent_in(span);
            self
        }

        /// Takes over principal, tenant, trace id and trace context of the message that caused this one, where they are
        /// not set.
        #[must_use]
        pub fn caused_by(mut self, cause: &Message) -> Self {
            let header = &mut self.header;
            header.principal_id = header.principal_id.take().or_else(|| cause.principal_id.clone());
            header.tenant_id = header.tenant_id.take().or_else(|| cause.tenant_id.clone());
            header.trace_id = header.trace_id.take().or_else(|| cause.trace_id.clone());
            if header.trace_context.is_empty() {
                header.trace_context = cause.trace_context.next();
            }
            self
        }
    };
}

/// A message to be emitted: an event, or an `info…` message.
///
/// The bridge adds id, timestamp and the sender's instance id; a caller cannot set them.
///
/// ```
/// use purista_core::{EventDraft, Payload};
///
/// let draft = EventDraft::event(("User", "1", "signUp"), "userRegistered")
///     .with_payload(Payload::json(&"Ada")?)
///     .with_tenant_id("acme");
/// # Ok::<(), purista_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct EventDraft {
    header: Header,
    correlation_id: Option<Id>,
    receiver: Option<Receiver>,
    info: Option<MessageType>,
    payload: Option<Payload>,
}

impl EventDraft {
    /// Drafts an event.
    #[must_use]
    pub fn event(sender: impl Into<ServiceAddress>, event_name: impl Into<Name>) -> Self {
        Self::custom(sender).with_event_name(event_name)
    }

    /// Drafts a custom message that announces no event.
    #[must_use]
    pub fn custom(sender: impl Into<ServiceAddress>) -> Self {
        Self {
            header: Header::new(sender.into()),
            correlation_id: None,
            receiver: None,
            info: None,
            payload: None,
        }
    }

    /// Drafts an `info…` message; `None` if the type is none of them.
    #[must_use]
    pub fn info(sender: impl Into<ServiceAddress>, message_type: MessageType) -> Option<Self> {
        message_type.is_info().then(|| Self { info: Some(message_type), ..Self::custom(sender) })
    }

    header_setters!();

    /// Sets the content.
    #[must_use]
    pub fn with_payload(mut self, payload: Payload) -> Self {
        self.payload = Some(payload);
        self
    }

    /// Names a receiver, which subscriptions can filter by.
    #[must_use]
    pub fn with_receiver(mut self, receiver: impl Into<Receiver>) -> Self {
        self.receiver = Some(receiver.into());
        self
    }

    /// Sets the correlation id.
    #[must_use]
    pub fn with_correlation_id(mut self, correlation_id: impl Into<Id>) -> Self {
        self.correlation_id = Some(correlation_id.into());
        self
    }

    /// Returns the event that it announces; empty text if it announces none.
    pub(crate) fn event_name(&self) -> &str {
        self.header.event_name.as_deref().unwrap_or_default()
    }

    /// Builds the message, as the bridge with this instance id.
    #[must_use]
    pub fn stamp(self, instance_id: &Id) -> Message {
        let body = match self.info {
            Some(info) => Body::Info(info, self.payload),
            None => Body::CustomMessage(self.payload),
        };
        self.header.stamp(instance_id, self.correlation_id, self.receiver, body)
    }
}

/// A command to be invoked.
///
/// The bridge adds id, timestamp, correlation id and the sender's instance id; a caller cannot set them.
#[derive(Clone, Debug)]
pub struct CommandDraft {
    header: Header,
    receiver: Receiver,
    payload: Option<Payload>,
    parameter: Option<Payload>,
}

impl CommandDraft {
    /// Drafts a call of the command at `receiver`.
    #[must_use]
    pub fn new(sender: impl Into<ServiceAddress>, receiver: impl Into<Receiver>) -> Self {
        Self { header: Header::new(sender.into()), receiver: receiver.into(), payload: None, parameter: None }
    }

    header_setters!();

    /// Sets the input.
    #[must_use]
    pub fn with_payload(mut self, payload: Payload) -> Self {
        self.payload = Some(payload);
        self
    }

    /// Sets the second input.
    #[must_use]
    pub fn with_parameter(mut self, parameter: Payload) -> Self {
        self.parameter = Some(parameter);
        self
    }

    /// Returns the address that it is for.
    pub(crate) const fn address(&self) -> &ServiceAddress {
        &self.receiver.address
    }

    /// Builds the message, as the bridge with this instance id.
    #[must_use]
    pub fn stamp(self, instance_id: &Id) -> Message {
        let body = Body::Command { payload: self.payload, parameter: self.parameter };
        self.header.stamp(instance_id, Some(Id::random()), Some(self.receiver), body)
    }
}
