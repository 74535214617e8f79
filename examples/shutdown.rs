//! A process that is told to end takes nothing new, and finishes what it began; its exit code tells whether it could.
//!
//! ```text
//! cargo run --example shutdown            # Ctrl-C ends it
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, process::ExitCode, sync::Arc};

use purista::{BridgeEvent, prelude::*};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let bridge = purista::connect("default")?;
    let work = |context: Context, (): ()| async move {
        // Work that takes long: until after the process was told to end.
        let mut events = context.bridge().events();
        println!("began; Ctrl-C, or SIGTERM, ends the process");
        while events.next().await.is_some_and(|event| event != BridgeEvent::Draining) {}
        println!("told to end; what began goes on, and can still emit");
        context.emit("worked", &()).await?;
        Ok(())
    };
    let end = purista::end_signal()?;
    bridge.serve([Service::new("Worker", "1").command("work", work)]).await?;

    let caller = Arc::clone(&bridge);
    let call = tokio::spawn(async move { caller.invoke::<()>(("Worker", "1", "work"), &()).await });
    let report = purista::run_until(bridge, [], end, purista::DRAIN_TIME).await?;
    println!("the caller got its answer: {}", call.await?.is_ok());
    println!("everything finished: {}", report.is_clean());
    Ok(report.exit_code())
}
