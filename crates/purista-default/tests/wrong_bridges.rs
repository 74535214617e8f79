//! The suite is tested: each wrong bridge fails the row that is there to catch it.

mod profile;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};
use purista_conformance::{
    Profile,
    faults::{Fault, Wrong},
    run_row,
};

#[expect(
    clippy::print_stdout,
    reason = "what the row saw shows that it caught the fault for the right reason"
)]
fn main() -> ExitCode {
    let trials = Fault::ALL.iter().map(|fault| {
        let name = format!("{} catches a bridge that {}", fault.caught_by(), fault.does());
        Trial::test(name, move || {
            let wrong: Arc<dyn Profile> = Arc::new(Wrong::new(Arc::new(profile::DefaultProfile), *fault));
            match run_row(&wrong, fault.caught_by()) {
                Err(seen) => {
                    println!("{fault:?}: {seen}");
                    Ok(())
                }
                Ok(()) => Err("it passed".into()),
            }
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
