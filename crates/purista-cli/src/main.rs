//! The command line of PURISTA: calls commands, emits events and watches messages over any message broker.

mod arguments;
mod call;
mod closed;
mod connection;
mod doctor;
mod emit;
mod filter;
mod input;
mod line;
mod missed;
mod outcome;
mod output;
mod pages;
mod tail;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    arguments::{Arguments, Verb},
    outcome::{Failure, Outcome},
    output::Output,
};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help is asked for, and goes to standard output; whoever closed that has read enough.
            let _closed = told.print();
            return u8::try_from(told.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let output = Output::new(arguments.verb.wants_json());
    let ended = match arguments.verb {
        Verb::Call(call) => with_runtime(call::call(call, output)),
        Verb::Emit(emit) => with_runtime(emit::emit(emit, output)),
        Verb::Tail(tail) => with_runtime(tail::tail(*tail)),
        Verb::Doctor(doctor) => with_runtime(doctor::doctor(doctor, output)),
        Verb::Completions(shell) => pages::completions(&shell),
        Verb::Man(page) => pages::man(&page),
    };
    match ended {
        Ok(()) => Outcome::Ok.exit_code(),
        Err(failure) => output.failed(&failure),
    }
}

/// Threads of their own keep the connection alive while this one waits for whoever reads the output.
fn with_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Outcome::Failed, format!("the runtime does not start: {error}")))?;
    let ended = runtime.block_on(work);
    // What still runs belongs to a bridge that was shut down.
    runtime.shutdown_background();
    ended
}
