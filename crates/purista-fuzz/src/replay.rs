//! Runs seeds as tests do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Target, Verdict, seeds};

/// Runs each seed through a target.
///
/// # Errors
///
/// If there are no seeds, if none of them is accepted or a property is broken: the seed, and what was broken.
pub fn replay(target: &Target, inputs: &[Vec<u8>]) -> Result<(), String> {
    let mut accepted = 0;
    for input in inputs {
        let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        let broken = |panic: Box<dyn std::any::Any + Send>| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            format!("{}: {text}\nseed: {}", target.name, seeds::line(input))
        };
        accepted += usize::from(ran.map_err(broken)? == Verdict::Accepted);
    }
    match accepted {
        0 => {
            Err(format!("{}: none of {} seeds is accepted, so little is checked", target.name, inputs.len()))
        }
        _ => Ok(()),
    }
}
