//! A durable subscription misses nothing while its service is away: the broker keeps its messages until it is back.
//!
//! ```text
//! cargo run --example durable --features nats -- nats://localhost:4222
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use purista::prelude::*;
use tokio::sync::mpsc;

fn mails(sent: &mpsc::UnboundedSender<String>) -> Service {
    let sent = sent.clone();
    let send = move |_: Context, name: String| {
        let sent = sent.clone();
        async move {
            println!("a mail to {name}");
            sent.send(name).ok();
            Ok(())
        }
    };
    let durable = SubscriptionOptions::default().with_durable(true);
    Service::new("Mail", "1").subscription_with("welcome", Filter::event("registered"), durable, send)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("the URL of a broker is needed: nats://localhost:4222")?;
    let (sent, mut mails_sent) = mpsc::unbounded_channel();

    let users = purista::connect(&url)?;
    users.start().await?;

    let first = purista::connect(&url)?;
    first.serve([mails(&sent)]).await?;
    users.emit("registered", "Ada").await?;
    mails_sent.recv().await;
    first.shutdown(purista::DRAIN_TIME).await;
    println!("the service is away");

    users.emit("registered", "Bob").await?;
    println!("Bob registered");

    let second = purista::connect(&url)?;
    let registrations = second.serve([mails(&sent)]).await?;
    println!("the service is back");
    mails_sent.recv().await;

    // Unregistered, it leaves nothing on the broker.
    for registration in registrations {
        registration.unregister().await?;
    }
    for bridge in [second, users] {
        bridge.shutdown(purista::DRAIN_TIME).await;
    }
    Ok(())
}
