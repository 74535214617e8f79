//! The services that the command line calls.

use std::{future::pending, sync::Arc};

use anyhow::Result;
use purista::prelude::*;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Serves `Math` on the broker; returns what its subscription to the event `happened` gets: tenant, principal and content.
pub(crate) async fn serve(url: &str) -> Result<(Arc<dyn EventBridge>, UnboundedReceiver<Value>)> {
    let (sender, happened) = unbounded_channel();
    let bridge = purista::connect(url)?;
    let whose = |context: &Context| {
        let message = context.message();
        let text = |name: &Option<purista::Name>| name.as_ref().map(ToString::to_string);
        (text(&message.tenant_id), text(&message.principal_id))
    };
    let math = Service::new("Math", "1")
        .command("double", |_: Context, number: u64| async move { Ok(2 * number) })
        .command("echo", move |context: Context, payload: Value| async move {
            let parameter: Value = context.parameter()?;
            let (tenant, principal) = whose(&context);
            let trace = context.message().trace_id.as_ref().map(ToString::to_string);
            Ok(json!([payload, parameter, tenant, principal, trace]))
        })
        .command("refuse", |_: Context, _: Value| async move {
            let error =
                HandledError::not_found("no\nsuch \u{1b}[2Jnumber").with_data(&json!({ "digits": 2 }))?;
            Err::<(), _>(error.into())
        })
        .command("fail", |_: Context, _: Value| async move {
            Err::<(), _>(HandlerError::unhandled("a secret of the service"))
        })
        .command("think", |_: Context, _: Value| async move { pending::<Result<(), HandlerError>>().await })
        .subscription("seen", Filter::event("happened"), move |context: Context, content: Value| {
            let (tenant, principal) = whose(&context);
            // Nobody waits for it any more at the end of a trial.
            let _gone = sender.send(json!([tenant, principal, content]));
            async { Ok(()) }
        });
    bridge.serve([math]).await?;
    Ok((bridge, happened))
}
