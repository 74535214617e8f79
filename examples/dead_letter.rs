//! A subscription that fails is tried again, with a delay; what fails at every attempt becomes a dead letter, with its reason.
//!
//! ```text
//! cargo run --example dead_letter
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use purista::{
    in_process::{DefaultEventBridge, Hub},
    prelude::*,
};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (failed, mut failures) = mpsc::unbounded_channel();
    let charge = move |context: Context, amount: i32| {
        let failed = failed.clone();
        async move {
            let attempt = context.attempt();
            if amount > 0 && attempt > 1 {
                println!("{amount} charged at attempt {attempt}");
                failed.send(attempt).ok();
                return Ok(());
            }
            println!("{amount} fails at attempt {attempt}");
            failed.send(attempt).ok();
            Err(HandlerError::unhandled("the bank says no"))
        }
    };
    let retry = RetryPolicy::default().with_max_attempts(3).with_initial_delay(Duration::from_millis(10));
    let options = SubscriptionOptions::default().with_retry(retry).with_dead_letter(true);
    let billing =
        Service::new("Billing", "1").subscription_with("charge", Filter::event("ordered"), options, charge);

    // Where dead letters wait is for the broker to say; within one process it is the hub.
    let hub = Hub::default();
    let bridge = DefaultEventBridge::builder().hub(&hub).build()?;
    bridge.serve([billing]).await?;
    bridge.emit("ordered", &5).await?; // its second attempt succeeds
    for _ in 0..2 {
        failures.recv().await;
    }
    bridge.emit("ordered", &-5).await?; // never succeeds
    for _ in 0..3 {
        failures.recv().await;
    }
    // It finishes what is in hand.
    bridge.shutdown(purista::DRAIN_TIME).await;
    for letter in hub.take_dead_letters() {
        println!(
            "dead letter of {} after {} attempts: {}",
            letter.subscriber, letter.attempts, letter.reason
        );
    }
    Ok(())
}
