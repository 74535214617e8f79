//! What the command line says about itself to shells and to `man`.

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::{
    arguments::{Arguments, CompletionsArguments, ManArguments},
    outcome::{Failure, Outcome},
    output::printed,
};

/// Prints the completions of a shell.
pub(crate) fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "purista", &mut text);
    print(&text)
}

/// Prints a manual page.
pub(crate) fn man(arguments: &ManArguments) -> Result<(), Failure> {
    let mut whole = Arguments::command();
    whole.build();
    let page = match &arguments.command {
        None => whole,
        Some(name) => whole.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::usage(format!("there is no command {name}; purista --help lists them"))
        })?,
    };
    let mut text = Vec::new();
    Man::new(page)
        .render(&mut text)
        .map_err(|error| Failure::new(Outcome::Failed, format!("the page cannot be made: {error}")))?;
    print(&text)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    printed(String::from_utf8_lossy(text).trim_end()).map(drop)
}
