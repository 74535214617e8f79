//! What becomes of what waits on a hub.

use std::{sync::Arc, time::Duration};

use purista_core::{
    Command, CommandDraft, CommandHandler, CommandOptions, Context, ErrorKind, EventBridge, HandlerError,
    InvokeOptions, Payload, ServiceAddress, adapter::async_trait,
};
use purista_default::{DefaultEventBridge, Hub, HubConfig};

struct Stuck;

#[async_trait]
impl CommandHandler for Stuck {
    async fn handle(&self, _: Context) -> Result<Option<Payload>, HandlerError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn calls_hear_that_their_service_is_gone_wherever_they_wait() {
    let hub = Hub::new(HubConfig::default().with_queue_capacity(1));
    let service = DefaultEventBridge::builder().hub(&hub).build().unwrap();
    let caller = Arc::new(DefaultEventBridge::builder().hub(&hub).build().unwrap());
    let stuck = Command::new(("Service", "1", "stuck"));
    let one_at_a_time = stuck.with_options(CommandOptions::default().with_max_concurrency(1));
    service.register_command(one_at_a_time, Arc::new(Stuck)).await.unwrap();
    service.start().await.unwrap();
    caller.start().await.unwrap();

    // One runs, one is in the queue, and one waits for room there.
    let calls = [(); 3].map(|()| {
        let caller = Arc::clone(&caller);
        tokio::spawn(async move {
            let draft = CommandDraft::new(ServiceAddress::client(), ("Service", "1", "stuck"));
            caller.invoke_command(draft, &InvokeOptions::default()).await.unwrap_err().bridge_kind()
        })
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((caller.stats().pending_calls, hub.report().queued), (3, 1));
    service.shutdown(Duration::from_millis(10)).await;
    let [running, queued, waiting] = calls;
    let heard = (running.await.unwrap(), queued.await.unwrap(), waiting.await.unwrap());
    assert_eq!(
        heard,
        (None, None, Some(ErrorKind::NoHandler)),
        "the service's answer, twice, and the bridge's"
    );
}
