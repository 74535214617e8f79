use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use purista_core::{
    CommandDraft, Context, ErrorKind, EventBridge, EventBridgeExt as _, HandledError, HandlerError,
    InvokeError, InvokeOptions, Payload, Service, ServiceAddress, StatusCode,
};
use purista_integration_tests::dapr::Component;

use crate::support::{PATIENCE, Place, beside};

fn user() -> Service {
    Service::new("UserService", "1")
        .command("echoBack", |_ctx: Context, input: Payload| async move { Ok(input) })
        .command("failHandled", |_ctx: Context, _: ()| async move {
            Err::<(), HandlerError>(HandledError::bad_request("no good").into())
        })
        .command("failUnhandled", |_ctx: Context, _: ()| async move {
            Err::<(), HandlerError>(HandlerError::unhandled("a secret"))
        })
        .command("hang", |_ctx: Context, _: ()| async move {
            // Longer than its caller waits, and less than the service takes its time to shut down.
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok(())
        })
}

async fn error(bridge: &dyn EventBridge, target: &str, limit: Duration) -> anyhow::Result<InvokeError> {
    let draft = CommandDraft::new(ServiceAddress::client(), ("UserService", "1", target))
        .with_payload(Payload::json(&())?);
    let options = InvokeOptions::default().with_timeout(limit);
    bridge.invoke_command(draft, &options).await.err().context("an answer")
}

#[tokio::test]
async fn commands_are_answered_by_the_app_of_their_service() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let [callee, caller] = [place.sidecar("app-user-service-v1").await?, place.sidecar("caller").await?];
    let (service, client) = (beside(&callee).build()?, beside(&caller).build()?);
    service.serve([user()]).await?;
    client.start().await?;
    ensure!(service.health().is_healthy() && client.health().is_healthy());

    for bridge in [&client, &service] {
        // Neither numbers nor half a character nor the order of keys change.
        let text = r#"{"b":12345678901234567890123,"a":[1.0,"\ud800 <&> \u2028"],"b":null}"#;
        let input = Payload::from_json_text(text)?;
        let answer: Payload = bridge.invoke(("UserService", "1", "echoBack"), &input).await?;
        ensure!(answer.as_str() == text, "{answer:?}");
    }
    let limit = Duration::from_secs(5);
    let handled = error(&client, "failHandled", limit).await?;
    ensure!(matches!(&handled, InvokeError::Handled(error) if error.message() == "no good"), "{handled:?}");
    let unhandled = error(&client, "failUnhandled", limit).await?;
    ensure!(matches!(unhandled, InvokeError::Unhandled(StatusCode::INTERNAL_SERVER_ERROR)), "{unhandled:?}");
    let unknown = error(&client, "unknown", limit).await?;
    ensure!(unknown.bridge_kind() == Some(ErrorKind::NoHandler), "{unknown:?}");
    // The same path, and another address.
    let namesake = error(&client, "EchoBack", limit).await?;
    ensure!(namesake.bridge_kind() == Some(ErrorKind::NoHandler), "{namesake:?}");

    let began = Instant::now();
    let late = error(&client, "hang", Duration::from_millis(300)).await?;
    ensure!(late.bridge_kind() == Some(ErrorKind::Timeout), "{late:?}");
    let took = began.elapsed();
    ensure!(took >= Duration::from_millis(300) && took < PATIENCE / 2, "{took:?}");

    let nobody = client.invoke::<u8>(("Nobody", "1", "echoBack"), &1).await.err().context("an answer")?;
    ensure!(nobody.bridge_kind() == Some(ErrorKind::NoHandler), "{nobody:?}");
    client.shutdown(Duration::from_secs(1)).await;
    let report = service.shutdown(PATIENCE).await;
    ensure!(report.errors.is_empty(), "{report:?}");
    let gone = beside(&caller).build()?;
    gone.start().await?;
    let error = error(&gone, "echoBack", limit).await?;
    ensure!(error.bridge_kind() == Some(ErrorKind::Unavailable), "{error:?}");
    gone.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
