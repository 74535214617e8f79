use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};

use super::{AnyWrong, Fault, Wrong};
use crate::{profile::Profile, runner::run_row, worker::work_if_asked};

/// Tests the suite as the `main` of a test with `harness = false`: each of these faults, put into the bridges of a right
/// profile, must fail the row that is there to catch it.
#[must_use]
pub fn main(profile: impl Profile, faults: &[Fault]) -> ExitCode {
    let profile: Arc<dyn Profile> = Arc::new(profile);
    let in_a_worker: Arc<dyn Profile> = Arc::new(AnyWrong(Arc::clone(&profile)));
    if let Some(ended) = work_if_asked(&in_a_worker) {
        return ended;
    }
    let trials = faults.iter().map(|&fault| {
        let wrong: Arc<dyn Profile> = Arc::new(Wrong::new(Arc::clone(&profile), fault));
        let name = format!("{} catches a bridge that {}", fault.caught_by(), fault.does());
        Trial::test(name, move || is_caught(&wrong, fault))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

#[expect(
    clippy::print_stdout,
    reason = "what the row saw shows that it caught the fault for the right reason"
)]
fn is_caught(wrong: &Arc<dyn Profile>, fault: Fault) -> Result<(), libtest_mimic::Failed> {
    match run_row(wrong, fault.caught_by()) {
        Err(seen) => {
            println!("{fault:?}: {seen}");
            Ok(())
        }
        Ok(()) => Err("it passed".into()),
    }
}
