//! Events that are emitted with options of their own.

use std::sync::Arc;

use purista_core::{Context, ErrorKind, EventBridgeExt as _, Filter, Message, Service, ServiceAddress};
use tokio::sync::mpsc;

use super::{ms, serving, settle};

/// Forwards each event that it gets to the test.
fn watcher() -> (Service, mpsc::UnboundedReceiver<Arc<Message>>) {
    let (sender, seen) = mpsc::unbounded_channel();
    let see = move |context: Context, _content: String| {
        let told = sender.send(Arc::clone(context.message()));
        async move { Ok(told?) }
    };
    (Service::new("Watcher", "1").subscription("all", Filter::event("happened"), see), seen)
}

#[tokio::test(start_paused = true)]
async fn an_event_has_what_was_set() {
    let (service, mut seen) = watcher();
    let bridge = serving(service).await;
    let event = bridge.event("happened").tenant("acme").principal("ada").trace_id("trace 7");
    let sent = event.timeout(ms(1_000)).must_route().emit("content").await.unwrap();
    let came = seen.recv().await.unwrap();
    assert_eq!(*came, *sent);
    assert_eq!(came.sender.address, ServiceAddress::client());
    let set = [&came.tenant_id, &came.principal_id].map(|name| name.as_deref());
    assert_eq!(set, [Some("acme"), Some("ada")]);
    assert_eq!(came.trace_id.as_deref(), Some("trace 7"));
    assert_eq!(came.payload().map(|payload| payload.as_str()), Some("\"content\""));
}

#[tokio::test(start_paused = true)]
async fn what_an_event_asks_for_is_met_or_refused() {
    let bridge = serving(watcher().0).await;
    let nobody = bridge.event("ignored").must_route().emit("content").await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Unroutable);
    bridge.event("ignored").emit("content").await.unwrap();
    let no_time = bridge.event("happened").timeout(ms(0)).emit("content").await.unwrap_err();
    assert_eq!(no_time.kind(), ErrorKind::InvalidConfig);
    let no_json = bridge.event("happened").emit(&f64::NAN).await.unwrap_err();
    assert_eq!(no_json.kind(), ErrorKind::InvalidMessage);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_handler_carries_on_what_it_does_not_set() {
    let (watcher, mut seen) = watcher();
    let service = Service::new("User", "1").command("signUp", |context: Context, name: String| async move {
        context.event("happened").tenant("other").must_route().emit(&name).await?;
        Ok(())
    });
    let bridge = serving(watcher).await;
    bridge.serve([service]).await.unwrap();
    let call = bridge.call(("User", "1", "signUp")).tenant("acme").principal("ada").trace_id("trace 7");
    call.invoke::<()>("Ada").await.unwrap();
    let came = seen.recv().await.unwrap();
    assert_eq!(came.sender.address, ("User", "1", "signUp").into());
    let set = [&came.tenant_id, &came.principal_id].map(|name| name.as_deref());
    assert_eq!(set, [Some("other"), Some("ada")]);
    assert_eq!(came.trace_id.as_deref(), Some("trace 7"));
    settle().await;
}
