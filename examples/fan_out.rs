//! Who gets an event: each subscriber gets it; the instances of one subscriber share them, or each gets all.
//!
//! ```text
//! cargo run --example fan_out
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{collections::BTreeMap, error::Error, sync::Arc};

use purista::{
    in_process::{DefaultEventBridge, Hub},
    prelude::*,
};
use tokio::sync::mpsc;

const EVENTS: usize = 6;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (got, mut gets) = mpsc::unbounded_channel();
    let subscriber = |name: &'static str, sharing, instance: usize| {
        let got = got.clone();
        let count = move |_: Context, _: usize| {
            let got = got.clone();
            async move {
                got.send((name, instance)).ok();
                Ok(())
            }
        };
        let options = SubscriptionOptions::default().with_sharing(sharing);
        Service::new(name, "1").subscription_with("count", Filter::event("ordered"), options, count)
    };

    // Two instances of the same services, as two processes on one broker would be.
    let hub = Hub::default();
    let mut instances = Vec::new();
    for instance in 1..=2 {
        let bridge: Arc<dyn EventBridge> = Arc::new(DefaultEventBridge::builder().hub(&hub).build()?);
        let mails = subscriber("Mail", Sharing::Shared, instance);
        let stock = subscriber("Stock", Sharing::Shared, instance);
        let cache = subscriber("Cache", Sharing::Broadcast, instance);
        bridge.serve([mails, stock, cache]).await?;
        instances.push(bridge);
    }
    for number in 0..EVENTS {
        instances[0].emit("ordered", &number).await?;
    }

    let mut counts = BTreeMap::new();
    for _ in 0..4 * EVENTS {
        let (name, instance) = gets.recv().await.ok_or("nobody is there")?;
        counts.entry(name).or_insert([0, 0])[instance - 1] += 1;
    }
    for (name, [first, second]) in counts {
        println!("{name}: of {EVENTS} events, its two instances got {} together", first + second);
    }
    for bridge in instances {
        bridge.shutdown(purista::DRAIN_TIME).await;
    }
    Ok(())
}
