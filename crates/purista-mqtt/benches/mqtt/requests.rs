//! Requests and replies.

use std::sync::Arc;

use purista_core::{EventBridge as _, InvokeOptions};
use purista_integration_tests::{
    bench::{Stage, ours},
    mosquitto::MosquittoServer,
};

use crate::{
    bridge::bridge,
    raw_calls::{self, Message, RawCall, Subscription},
    wire::{Sent, Wire},
};

const WHOLE_WIRE: &str = "raw-c";

/// The group in which services share commands.
const COMMAND_GROUP: &str = "sharedpurista";

/// Which levels of a command's topic its service names, beside the first one: the kind of message, and the address.
const NAMED_IN_COMMANDS: &[usize] = &[1, 10, 11, 12];

/// Which levels of a response's topic its caller names: the kind of message, and the instance.
const NAMED_IN_RESPONSES: &[usize] = &[1, 9];

/// Sets up requests, so many in flight; one by one if it is one. Who leaves the delays to the kernel takes part if asked.
pub(crate) async fn set_up(
    server: Arc<MosquittoServer>,
    in_flight: usize,
    with_slow: bool,
) -> anyhow::Result<Stage> {
    let (broker, url) = (server.address(), server.url());
    let prefix = format!("requests{in_flight}");
    let (caller, service) = (bridge(url, &prefix).await?, bridge(url, &prefix).await?);
    ours::serve(&*service, ours::echo()).await?;

    let mut commands = Wire::listen(broker, format!("{prefix}/command/#")).await?;
    let mut responses = Wire::listen(broker, format!("{prefix}/command_success_response/#")).await?;
    caller.invoke_command(ours::call()?, &InvokeOptions::default()).await?;
    let (command, response) = (commands.next().await?, responses.next().await?);
    drop((commands, responses));

    let mut stage = Stage::default();
    let payload = || anyhow::Ok([ours::payload()?, ours::payload()?]);
    let envelopes = [command.payload.clone(), response.payload.clone()];
    let mut raw = vec![
        ("raw-a", RawCall::bare("raw-a", payload()?)?),
        ("raw-b", RawCall::bare("raw-b", envelopes)?),
        (WHOLE_WIRE, whole_wire(&command, &response)?),
    ];
    if with_slow {
        raw.push(("raw-slow", RawCall { is_slow: true, ..RawCall::bare("raw-slow", payload()?)? }));
    }
    for (name, call) in raw {
        raw_calls::add(&mut stage, name, broker, in_flight, call).await?;
    }
    stage.add(ours::calls("ours", in_flight, &caller)?);
    stage.keep_bridge(caller);
    stage.keep_bridge(service);
    Ok(stage)
}

/// Sends all that the bridge has sent, to whom listens as it does.
fn whole_wire(command: &Sent, response: &Sent) -> anyhow::Result<RawCall> {
    let message = |sent: &Sent| {
        let (topic, payload, properties) =
            (sent.topic(WHOLE_WIRE)?, sent.payload.clone(), sent.properties.clone());
        anyhow::Ok(Message { topic, payload, properties })
    };
    let requests = command.filter(WHOLE_WIRE, NAMED_IN_COMMANDS);
    Ok(RawCall {
        request: message(command)?,
        reply: message(response)?,
        requests: Subscription { filter: format!("$share/{COMMAND_GROUP}/{requests}"), id: Some(3) },
        replies: Subscription { filter: response.filter(WHOLE_WIRE, NAMED_IN_RESPONSES), id: Some(1) },
        is_confirmed: true,
        is_slow: false,
    })
}
