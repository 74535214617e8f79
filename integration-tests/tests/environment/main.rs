//! What changes around a bridge while it runs: names, certificates, clocks. A process can have files and a clock of its
//! own, so this program starts itself again for those.

mod brokers;
mod certificates;
mod clock;
mod names;
mod peer;
mod worker;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use self::brokers::Kind;

fn main() -> ExitCode {
    if let Some(order) = worker::order() {
        return match worker::run(&order) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                worker::tell(&format!("error {error:?}"));
                ExitCode::FAILURE
            }
        };
    }
    let mut trials = Vec::new();
    for kind in Kind::ALL {
        trials.push(trial("a host name is resolved anew", kind, names::are_resolved_anew));
        trials.push(trial("a wall clock that jumps changes nothing", kind, clock::jumps_change_nothing));
        // The way to a sidecar is not encrypted.
        if kind != Kind::Dapr {
            trials.push(trial("certificates are read anew", kind, certificates::are_read_anew));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial<F>(name: &str, kind: Kind, run: fn(Kind) -> F) -> Trial
where
    F: Future<Output = anyhow::Result<()>> + 'static,
{
    Trial::test(format!("{} {name}", kind.name()), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let outcome = runtime.block_on(run(kind));
        runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        outcome.map_err(|error| format!("{error:?}").into())
    })
}
