//! Requests and replies.

use std::sync::Arc;

use async_nats::{Client, HeaderMap, Subject};
use bytes::Bytes;
use futures_util::StreamExt as _;
use purista_core::{EventBridge as _, InvokeOptions};
use purista_integration_tests::bench::{Contender, Stage, ours};
use tokio::task::JoinHandle;

use crate::{
    bridge::bridge,
    wire::{Wire, round_trip, with_prefix},
};

/// What a raw contender sends and gets.
#[derive(Clone, Debug)]
struct RawCall {
    subject: Subject,
    pattern: String,
    headers: Option<HeaderMap>,
    request: Bytes,
    reply: Bytes,
    /// Where the service sends a copy of its reply.
    copy: Option<Subject>,
}

/// Who calls on the raw side; shared by pointer, as clones of a client cost something.
struct RawCaller {
    client: Client,
    call: RawCall,
}

impl RawCaller {
    async fn call(&self) -> anyhow::Result<()> {
        let RawCall { subject, headers, request, .. } = &self.call;
        let (subject, request) = (subject.clone(), request.clone());
        match headers {
            Some(headers) => self.client.request_with_headers(subject, headers.clone(), request).await?,
            None => self.client.request(subject, request).await?,
        };
        Ok(())
    }
}

/// Sets up requests, so many in flight; one by one if it is one.
pub(crate) async fn set_up(url: String, in_flight: usize) -> anyhow::Result<Stage> {
    let prefix = format!("requests{in_flight}");
    let (caller, service) = (bridge(&url, &prefix).await?, bridge(&url, &prefix).await?);
    ours::serve(&*service, ours::echo()).await?;

    let listener = async_nats::connect(&url).await?;
    let mut commands = Wire::listen(&listener, &prefix, "command").await?;
    let mut responses = Wire::listen(&listener, &prefix, "command_success_response").await?;
    caller.invoke_command(ours::call()?, &InvokeOptions::default()).await?;
    let (command, response) = (commands.next().await?, responses.next().await?);

    let payload = ours::payload()?;
    let bare = RawCall {
        subject: "raw-a.echo".into(),
        pattern: "raw-a.echo".to_owned(),
        headers: None,
        request: payload.clone(),
        reply: payload,
        copy: None,
    };
    let envelope = RawCall {
        subject: "raw-b.echo".into(),
        pattern: "raw-b.echo".to_owned(),
        request: command.payload,
        reply: response.payload,
        ..bare.clone()
    };
    let whole_wire = RawCall {
        subject: with_prefix("raw-c", &command.subject).into(),
        pattern: "raw-c.command.*.*.*.*.*.*.*.*.bench.1.echo".to_owned(),
        headers: command.headers,
        copy: Some(with_prefix("raw-c", &response.subject).into()),
        ..envelope.clone()
    };

    let mut stage = Stage::default();
    for (name, call) in [("raw-a", bare), ("raw-b", envelope), ("raw-c", whole_wire)] {
        stage.keep_task(serve(async_nats::connect(&url).await?, call.clone()).await?);
        let caller = Arc::new(RawCaller { client: async_nats::connect(&url).await?, call });
        stage.add(Contender::of_calls(name, in_flight, move || {
            let caller = Arc::clone(&caller);
            async move { caller.call().await }
        }));
    }
    stage.add(ours::calls("ours", in_flight, &caller)?);
    stage.keep_bridge(caller);
    stage.keep_bridge(service);
    Ok(stage)
}

/// Answers in one loop, which waits for nothing but room in the client. A task for each answer took half as much
/// processor time again, and did fewer calls.
async fn serve(client: Client, call: RawCall) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let mut requests = client.queue_subscribe(call.pattern, "bench".to_owned()).await?;
    round_trip(&client).await?;
    Ok(tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply_to) = request.reply {
                client.publish(reply_to, call.reply.clone()).await?;
            }
            if let Some(copy) = &call.copy {
                client.publish(copy.clone(), call.reply.clone()).await?;
            }
        }
        Ok(())
    }))
}
