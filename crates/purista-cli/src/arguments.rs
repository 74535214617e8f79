//! What can be written on the command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, builder::NonEmptyStringValueParser};
use clap_complete::Shell;
use purista::{MAX_TIMEOUT, ServiceAddress, core::adapter::UrlValue};

use crate::{filter::FilterArguments, input::Text, outcome::Outcome};

/// Calls commands, emits events and watches messages of PURISTA services, over any message broker.
#[derive(Debug, Parser)]
#[command(name = "purista", version, propagate_version = true, after_long_help = Outcome::table())]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Call(CallArguments),
    Emit(EmitArguments),
    Tail(Box<TailArguments>),
    Doctor(DoctorArguments),
    Completions(CompletionsArguments),
    Man(ManArguments),
}

impl Verb {
    pub(crate) const fn wants_json(&self) -> bool {
        match self {
            Self::Call(call) => call.connection.json,
            Self::Emit(emit) => emit.connection.json,
            Self::Tail(tail) => tail.connection.json,
            Self::Doctor(doctor) => doctor.json,
            Self::Completions(_) | Self::Man(_) => false,
        }
    }
}

/// Which broker, and how the result is told.
#[derive(Args, Debug)]
pub(crate) struct Connection {
    /// Where the broker is, such as nats://localhost?prefix=acme; without it, PURISTA_URL says it
    ///
    /// Options stand in the query. The variable PURISTA_URL counts together with the variables of the adapter, such as
    /// PURISTA_NATS_CA, and shows no password in the list of processes.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// Writes JSON, a line for each result, be it a failure or not
    #[arg(long)]
    pub(crate) json: bool,
}

/// On whose behalf a message is sent.
#[derive(Args, Debug)]
pub(crate) struct Identity {
    /// The tenant that the message belongs to
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) tenant: Option<String>,

    /// The principal on whose behalf it is sent
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) principal: Option<String>,

    /// The trace id of the application
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) trace_id: Option<String>,
}

/// Invokes a command and prints its answer.
#[derive(Args, Debug)]
#[command(after_long_help = Outcome::table())]
pub(crate) struct CallArguments {
    /// The command: Service/version/command
    #[arg(value_parser = address)]
    pub(crate) command: ServiceAddress,

    /// The payload: JSON, @file, or - for standard input; none if it is left out
    #[arg(value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
    pub(crate) payload: Option<Text>,

    /// The parameter of the command, written as the payload is
    #[arg(long, value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
    pub(crate) parameter: Option<Text>,

    /// How long to wait for the answer: 500ms, 5s, 2m, 1h. How long to connect is the option connect_timeout of the URL
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time_limit)]
    pub(crate) timeout: Duration,

    /// The instance that is to answer, by its id
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) instance: Option<String>,

    #[command(flatten)]
    pub(crate) identity: Identity,

    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Emits an event, and returns when the broker has taken it over.
#[derive(Args, Debug)]
#[command(after_long_help = Outcome::table())]
pub(crate) struct EmitArguments {
    /// The name of the event
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) event: String,

    /// The payload: JSON, @file, or - for standard input; none if it is left out
    #[arg(value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
    pub(crate) payload: Option<Text>,

    /// How long to wait for the broker to take the event over: 500ms, 5s, 2m, 1h. How long to connect is the option
    /// connect_timeout of the URL
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time_limit)]
    pub(crate) timeout: Duration,

    /// Fails if nobody gets the event, where the broker can tell
    #[arg(long)]
    pub(crate) must_route: bool,

    #[command(flatten)]
    pub(crate) identity: Identity,

    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Prints messages as they come, a line for each; those of error responses too.
///
/// It misses what is sent before it watches, and leaves nothing at the broker. It ends at Ctrl-C, at SIGTERM, and when nobody
/// reads its output any more. Standard error tells what it watches, and whether messages were missed.
#[derive(Args, Debug)]
#[command(after_long_help = Outcome::table())]
pub(crate) struct TailArguments {
    #[command(flatten)]
    pub(crate) filter: FilterArguments,

    /// Ends after so many messages
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Checks a broker, and says ok, WARN or FAIL for each check, with the page that explains it.
///
/// It connects, calls itself, and emits the event puristaDoctor, which it awaits; subscribers of every event get it too. What
/// it cannot see is listed as not checked. It ends with 12 if a check failed.
#[derive(Args, Debug)]
#[command(after_long_help = Outcome::table())]
pub(crate) struct DoctorArguments {
    /// Where the broker is; without it, PURISTA_URL says it
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,

    /// Writes JSON, a line for each check
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints the completions of a shell.
///
/// For instance: purista completions bash > /etc/bash_completion.d/purista
#[derive(Args, Debug)]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub(crate) shell: Shell,
}

/// Prints the manual page, of the whole or of one command.
///
/// For instance: purista man call > purista-call.1
#[derive(Args, Debug)]
pub(crate) struct ManArguments {
    /// The command
    pub(crate) command: Option<String>,
}

fn address(text: &str) -> Result<ServiceAddress, String> {
    match text.split('/').collect::<Vec<_>>()[..] {
        [name, version, command] if ![name, version, command].contains(&"") => {
            Ok(ServiceAddress::new(name, version, command))
        }
        _ => Err("it is Service/version/command, such as User/1/signUp".to_owned()),
    }
}

fn time_limit(text: &str) -> Result<Duration, String> {
    let time = Duration::read(text).ok_or_else(|| format!("it is {}", Duration::EXPECTED))?;
    if time.is_zero() || time > MAX_TIMEOUT {
        return Err(format!("it is more than nothing and at most {}h", MAX_TIMEOUT.as_secs() / 3_600));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clap_checks_at_run_time_holds() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
