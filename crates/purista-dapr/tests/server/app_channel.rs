use std::time::Duration;

use anyhow::{Context as _, ensure};
use purista_core::{
    Capability, Context, ErrorKind, EventBridge, EventBridgeExt as _, Filter, Payload, Service,
};
use purista_dapr::DaprBridge;
use purista_integration_tests::{
    dapr::{Component, Sidecar},
    free_port,
};
use reqwest::{Client, StatusCode};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{PATIENCE, Place, Seen, beside};

const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"a","type":"t","data":{"messageType":"customMessage",
    "id":"ID","eventName":"userCreated","tenantId":"one","timestamp":1,
    "sender":{"serviceName":"A","serviceVersion":"1","serviceTarget":"x","instanceId":"i"},"payload":1}}"#;

fn mail(seen: &Seen) -> Service {
    let seen = seen.clone();
    Service::new("Mail", "1").subscription(
        "welcome",
        Filter::event("userCreated"),
        move |_ctx: Context, payload: Payload| {
            seen.push(payload.as_str());
            async { Ok(()) }
        },
    )
}

#[tokio::test]
async fn who_shows_no_token_is_not_let_in_and_no_cloud_event_is_taken_that_is_none() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let port = free_port()?;
    let tokens = place.config("app-mail-v1")?.with_app_token("for the app").with_api_token("for the sidecar");
    let sidecar = Sidecar::start(tokens).await?;
    let refused = beside(&sidecar).build()?.start().await.err().context("started without a token")?;
    ensure!(refused.kind() == ErrorKind::Unauthenticated, "{refused:?}");

    let config = place.config("app-mail-v1")?.with_app_token("for the app");
    let sidecar = Sidecar::start(config.with_argument(format!("--app-port={port}"))).await?;
    let seen = Seen::default();
    let bridge: DaprBridge = beside(&sidecar)
        .app_token("for the app")
        .max_payload(1_024)
        .header_timeout(Duration::from_secs(3))
        .build()?;
    bridge.serve([mail(&seen)]).await?;

    let http = Client::builder().no_proxy().build()?;
    let url = format!("http://127.0.0.1:{port}/purista/subscription/userCreated");
    let post = async |token: &str, kind: &str, body: String| {
        let request = http.post(&url).header("dapr-api-token", token).header("content-type", kind).body(body);
        let response = request.send().await?;
        anyhow::Ok((response.status(), response.text().await?))
    };
    let kind = "application/cloudevents+json";
    ensure!(post("wrong", kind, EVENT.into()).await?.0 == StatusCode::UNAUTHORIZED);
    ensure!(post("", kind, EVENT.into()).await?.0 == StatusCode::UNAUTHORIZED);
    ensure!(http.get(format!("http://127.0.0.1:{port}/healthz")).send().await?.status().is_success());
    for required in ["specversion", "id", "source", "type"] {
        let without = EVENT.replacen(&format!("\"{required}\""), "\"other\"", 1);
        ensure!(post("for the app", kind, without).await?.0 == StatusCode::BAD_REQUEST, "{required}");
    }
    ensure!(post("for the app", "application/json", "1".into()).await?.0 == StatusCode::BAD_REQUEST);
    let other_tenant = EVENT.replacen("\"source\"", "\"tenantid\":\"two\",\"source\"", 1);
    let large = EVENT.replace("\"payload\":1", &format!("\"payload\":{:?}", "x".repeat(200_000)));
    for poison in [other_tenant, EVENT.replace("customMessage", "unknown"), large] {
        let (status, answer) = post("for the app", kind, poison).await?;
        ensure!(status.is_success() && answer.contains("DROP"), "{status} {answer}");
    }
    ensure!(bridge.stats().malformed == 8, "{:?}", bridge.stats());
    ensure!(seen.all().is_empty());

    for id in ["1", "2", "1"] {
        let (status, answer) = post("for the app", kind, EVENT.replace("\"ID\"", &format!("{id:?}"))).await?;
        ensure!(status.is_success() && answer.contains("SUCCESS"), "{status} {answer}");
    }
    let data = EVENT.split_once("\"data\":").context("data")?.1;
    let request = http.post(&url).header("dapr-api-token", "for the app").header("ce-id", "3");
    let request = request.header("ce-specversion", "1.0").header("ce-source", "a").header("ce-type", "t");
    let request = request.header("content-type", "application/json").header("ce-tenantid", "one");
    ensure!(request.body(data.trim_end_matches('}').to_owned() + "}").send().await?.status().is_success());
    ensure!(seen.all().len() == 3, "{:?}", seen.all());

    let mut slow = TcpStream::connect(("127.0.0.1", port)).await?;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await?;
    let mut answer = Vec::new();
    timeout(PATIENCE, slow.read_to_end(&mut answer)).await??;
    bridge.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

#[tokio::test]
async fn what_the_sidecar_cannot_learn_is_refused() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let sidecar = place.sidecar("app-mail-v1").await?;
    let start = async |bridge: DaprBridge, service: Service| {
        let refused = bridge.serve([service]).await.err().context("it is served")?;
        bridge.shutdown(Duration::ZERO).await;
        anyhow::Ok(refused.kind())
    };
    let other = Service::new("Other", "1").command("x", |_ctx: Context, _: ()| async { Ok(()) });
    ensure!(start(beside(&sidecar).build()?, other).await? == ErrorKind::InvalidConfig);
    let any =
        Service::new("Mail", "1")
            .subscription("all", Filter::any(), |_ctx: Context, _: Payload| async { Ok(()) });
    ensure!(start(beside(&sidecar).build()?, any).await? == ErrorKind::InvalidConfig);
    let fine = || mail(&Seen::default());
    ensure!(start(beside(&sidecar).app_id("other").build()?, fine()).await? == ErrorKind::InvalidConfig);
    let of_redis = beside(&sidecar).component_type("pubsub.redis").build()?;
    ensure!(start(of_redis, fine()).await? == ErrorKind::InvalidConfig);

    let bridge = beside(&sidecar).build()?;
    let registered = bridge.serve([fine()]).await?;
    let late =
        bridge.serve([Service::new("Mail", "1").command("x", |_ctx: Context, _: ()| async { Ok(()) })]);
    let late = late.await.err().context("registered after the start")?;
    ensure!(late.kind() == ErrorKind::Unsupported(Capability::RegisterAfterStart), "{late:?}");
    let unregistered = registered[0].unregister().await.err().context("unregistered")?;
    ensure!(unregistered.kind() == ErrorKind::Unsupported(Capability::Unregister), "{unregistered:?}");
    bridge.shutdown(Duration::from_secs(1)).await;

    // The app alone comes back, with the same topics and then with another one.
    let again = beside(&sidecar).build()?;
    again.serve([fine()]).await?;
    again.shutdown(Duration::from_secs(1)).await;
    let more = fine().subscription("x", Filter::event("x"), |_ctx: Context, _: Payload| async { Ok(()) });
    let quick = beside(&sidecar).connect_timeout(Duration::from_millis(300)).build()?;
    ensure!(start(quick, more).await? == ErrorKind::Unavailable);
    Ok(())
}
