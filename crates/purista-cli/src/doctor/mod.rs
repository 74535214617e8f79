//! `purista doctor`.

mod checkup;
mod finding;
mod pages;
mod tls;

use crate::{
    arguments::DoctorArguments,
    connection::bridge,
    outcome::{Failure, Outcome},
    output::Output,
};
use checkup::Checkup;

/// Checks what can be seen through a bridge, and tells each finding as soon as it is there.
pub(crate) async fn doctor(arguments: DoctorArguments, output: Output) -> Result<(), Failure> {
    let DoctorArguments { url, json } = arguments;
    let bridge = bridge(url.as_deref())?;
    let variable = std::env::var("PURISTA_URL").unwrap_or_default();
    let mut checkup = Checkup::new(&*bridge, json);
    checkup.run(url.as_deref().unwrap_or(&variable)).await?;
    match checkup.failed() {
        0 => output.done(),
        failed => Err(Failure::new(Outcome::Unhealthy, format!("checks that failed: {failed}"))),
    }
}
