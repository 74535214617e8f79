//! What a caller sees when a command does not succeed: an error that the service means it to see, a failure that tells nothing
//! of its cause, or the bridge's own error.
//!
//! ```text
//! cargo run --example errors
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, future::pending, time::Duration};

use purista::prelude::*;

async fn divide(_context: Context, (dividend, divisor): (i32, i32)) -> Result<i32, HandlerError> {
    if divisor == 0 {
        // For the caller, with what it needs to do better.
        return Err(HandledError::bad_request("the divisor is zero").with_data(&dividend)?.into());
    }
    // Any other error is the service's own: it is logged here, and the caller hears that something failed.
    let quotient =
        dividend.checked_div(divisor).ok_or_else(|| HandlerError::unhandled("there is no such number"))?;
    Ok(quotient)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bridge = purista::connect("default")?;
    let never = |_: Context, (): ()| async move { pending::<Result<(), HandlerError>>().await };
    let service = Service::new("Math", "1").command("divide", divide).command("think", never);
    bridge.serve([service]).await?;

    for input in [(8, 2), (8, 0), (i32::MIN, -1)] {
        match bridge.invoke::<i32>(("Math", "1", "divide"), &input).await {
            Ok(result) => println!("{input:?}: {result}"),
            Err(InvokeError::Handled(error)) => {
                println!(
                    "{input:?}: handled, {} {}, data {:?}",
                    error.status(),
                    error.message(),
                    error.data()
                );
            }
            Err(InvokeError::Unhandled(status)) => println!("{input:?}: unhandled, {status}"),
            Err(InvokeError::Bridge(error)) => println!("{input:?}: {error}"),
            Err(other) => return Err(other.into()),
        }
    }
    let nobody = bridge.invoke::<i32>(("Math", "2", "divide"), &(8, 2)).await;
    println!("version 2: {:?}", nobody.err().and_then(|error| error.bridge_kind()));
    let late = bridge.call(("Math", "1", "think")).timeout(Duration::from_millis(50)).invoke::<()>(&()).await;
    println!("too late: {:?}", late.err().and_then(|error| error.bridge_kind()));

    bridge.shutdown(Duration::ZERO).await;
    Ok(())
}
