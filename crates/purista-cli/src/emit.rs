//! `purista emit`.

use purista::{CommandDraft, EmitOptions, EventDraft, ServiceAddress};

use crate::{
    arguments::{EmitArguments, Identity},
    connection::{bridge, over},
    outcome::Failure,
    output::{Output, visible},
};

/// Emits an event, and returns when the broker has taken it over.
pub(crate) async fn emit(arguments: EmitArguments, output: Output) -> Result<(), Failure> {
    let EmitArguments { event, payload, timeout, must_route, identity, connection } = arguments;
    let payload = payload.map(|text| text.read("payload")).transpose()?;
    let bridge = bridge(connection.url.as_deref())?;
    let mut draft = identity.on_event(EventDraft::event(ServiceAddress::client(), event.as_str()));
    if let Some(payload) = payload {
        draft = draft.with_payload(payload);
    }
    let options = EmitOptions::default().with_timeout(timeout).with_must_route(must_route);
    let sent = over(&*bridge, async { Ok(bridge.emit_message(draft, &options).await?) }).await?;
    output.emitted(&format!("emitted {}, id {}", visible(&event), sent.id), &sent.encode())
}

macro_rules! identified {
    ($name:ident, $draft:ty) => {
        /// Says on whose behalf it is sent.
        pub(crate) fn $name(self, mut draft: $draft) -> $draft {
            let Self { tenant, principal, trace_id } = self;
            if let Some(tenant) = tenant {
                draft = draft.with_tenant_id(tenant);
            }
            if let Some(principal) = principal {
                draft = draft.with_principal_id(principal);
            }
            if let Some(trace_id) = trace_id {
                draft = draft.with_trace_id(trace_id);
            }
            draft
        }
    };
}

impl Identity {
    identified!(on_command, CommandDraft);
    identified!(on_event, EventDraft);
}
