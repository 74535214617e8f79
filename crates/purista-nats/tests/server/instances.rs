//! A command for one certain instance, and an instance that is gone.

use std::time::Duration;

use purista_core::{
    CommandDraft, EventBridge as _, EventBridgeExt as _, Filter, InvokeOptions, Receiver, ServiceAddress,
    SubscriptionOptions,
};
use purista_integration_tests::nats::NatsConfig;
use tokio::runtime::Handle;

use crate::support::{PATIENCE, Place, echo, serve, watch};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_one_of_several_instances_is_served_by_that_one() {
    let place = Place::shared(false).await;
    let (meant, other, caller) = (place.bridge().await, place.bridge().await, place.bridge().await);
    serve(&meant, ("User", "1", "echo"), echo()).await;
    serve(&other, ("User", "1", "echo"), echo()).await;
    let options = InvokeOptions::default().with_timeout(PATIENCE);
    for number in 0..20 {
        let receiver = Receiver::new(("User", "1", "echo")).with_instance_id(meant.instance_id());
        let draft = CommandDraft::new(ServiceAddress::client(), receiver);
        let answer = caller.invoke_command(draft, &options).await;
        let answer = answer.unwrap_or_else(|error| panic!("call {number}: {error:?}"));
        assert_eq!(answer.sender.instance_id, *meant.instance_id());
    }
    assert_eq!([&meant, &other].map(|bridge| bridge.stats().executed), [20, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_dropped_is_gone() {
    for config in [NatsConfig::core(), NatsConfig::jetstream()] {
        let place = Place::own(config).await;
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let bridge = place.bridge().await;
        serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
        watch(&bridge, "all", Filter::event("happened"), SubscriptionOptions::default()).await.unwrap();
        let _: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
        drop(bridge);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            // The server learns of the end a bit later.
            let left = place.server.monitor().connections().await.unwrap();
            if left.is_empty() && tasks() <= before {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{} tasks, {left:?}", tasks());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
