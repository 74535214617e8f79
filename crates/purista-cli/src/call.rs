//! `purista call`.

use purista::{Capability, CommandDraft, InvokeOptions, Payload, Receiver, ServiceAddress};

use crate::{
    arguments::CallArguments,
    connection::{bridge, over},
    input::Text,
    outcome::Failure,
    output::Output,
};

/// Invokes a command and prints its answer.
pub(crate) async fn call(arguments: CallArguments, output: Output) -> Result<(), Failure> {
    let CallArguments { command, payload, parameter, timeout, instance, identity, connection } = arguments;
    if payload == Some(Text::StandardInput) && parameter == Some(Text::StandardInput) {
        return Err(Failure::usage("payload and parameter cannot both be read from standard input"));
    }
    let payload = payload.map(|text| text.read("payload")).transpose()?;
    let parameter = parameter.map(|text| text.read("parameter")).transpose()?;
    let bridge = bridge(connection.url.as_deref())?;

    let mut receiver = Receiver::new(command);
    if let Some(instance) = instance {
        receiver = receiver.with_instance_id(instance);
    }
    let mut draft = identity.on_command(CommandDraft::new(ServiceAddress::client(), receiver));
    if let Some(payload) = payload {
        draft = draft.with_payload(payload);
    }
    let answer = over(&*bridge, async {
        // As `purista::Call` does: commands of the TypeScript original that have a schema for it refuse a call without one.
        let parameter = match parameter {
            None if bridge.capabilities().has(Capability::WireCompatible) => {
                Some(Payload::from_json_text("{}")?)
            }
            given => given,
        };
        if let Some(parameter) = parameter {
            draft = draft.with_parameter(parameter);
        }
        Ok(bridge.invoke_command(draft, &InvokeOptions::default().with_timeout(timeout)).await?)
    });
    output.answer(answer.await?.payload())
}
