//! The bridge of a command line, from its URL to its end.

use std::{sync::Arc, time::Duration};

use purista::EventBridge;

use crate::{outcome::Failure, output::note};

/// How long the end of a bridge may take: what was asked for is done then.
const GRACE: Duration = Duration::from_secs(5);

/// Creates the bridge, which is not connected yet.
pub(crate) fn bridge(url: Option<&str>) -> Result<Arc<dyn EventBridge>, Failure> {
    let bridge = match url {
        Some(url) => purista::connect(url),
        None if std::env::var_os("PURISTA_URL").is_none() => {
            return Err(Failure::usage("which broker? --url or the variable PURISTA_URL says it"));
        }
        None => purista::from_env(),
    };
    let bridge = bridge.map_err(|error| Failure::usage(error.to_string()))?;
    if bridge.name() == "default" {
        return Err(Failure::usage("the bridge `default` is within one process: nobody else is there"));
    }
    Ok(bridge)
}

/// Connects, works and disconnects, whatever the work ended with.
pub(crate) async fn over<T>(
    bridge: &dyn EventBridge,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let done = match bridge.start().await {
        Ok(()) => work.await,
        Err(error) => Err(Failure::of_start(&error)),
    };
    let report = bridge.shutdown(GRACE).await;
    if done.is_ok() && !report.is_clean() {
        note(&format!("the connection did not end well: {}", report.errors.join("; ")));
    }
    done
}
