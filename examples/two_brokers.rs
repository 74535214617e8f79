//! One service on two brokers at once: a bridge for each, while callers move from one to the other.
//!
//! ```text
//! cargo run --example two_brokers --features nats,mqtt -- nats://localhost:4222 mqtt://localhost:1883
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use purista::prelude::*;

/// It does not know by which bridge it is called, but can ask.
async fn greet(context: Context, name: String) -> Result<String, HandlerError> {
    Ok(format!("Hello, {name}, over {}!", context.bridge().name()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut served = Vec::new();
    for url in std::env::args().skip(1) {
        let bridge = purista::connect(&url)?;
        bridge.serve([Service::new("Greeter", "1").command("greet", greet)]).await?;
        served.push((url, bridge));
    }
    for (url, _) in &served {
        // Callers of one broker each.
        let caller = purista::connect(url)?;
        caller.start().await?;
        println!("{}", caller.invoke::<String>(("Greeter", "1", "greet"), "Ada").await?);
        caller.shutdown(purista::DRAIN_TIME).await;
    }
    for (_, bridge) in served {
        let report = bridge.shutdown(purista::DRAIN_TIME).await;
        println!("{}: everything finished: {}", bridge.name(), report.is_clean());
    }
    Ok(())
}
