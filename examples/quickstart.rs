//! Three services on one bridge: a command, an event, and an audit of every error.
//!
//! ```text
//! cargo run --example quickstart -- Ada ada@example.com
//! cargo run --example quickstart -- Ada
//! cargo run --example quickstart --features nats -- --bridge nats://localhost:4222
//! cargo run --example quickstart --features amqp -- --bridge amqp://localhost:5672
//! cargo run --example quickstart --features mqtt -- --bridge mqtt://localhost:1883
//! cargo run --example quickstart --features dapr -- --bridge 'dapr://localhost:3500?all_messages_topic=all'
//! ```
//!
//! Over a broker, the services can run in one process or several, and their callers in others:
//!
//! ```text
//! cargo run --example quickstart --features nats -- --bridge nats://localhost:4222 --serve
//! cargo run --example quickstart --features nats -- --bridge nats://localhost:4222 --call Ada ada@example.com
//! ```
//!
//! With Dapr, each process has a sidecar, whose URL is given. That of a process that serves has the app id `app-user-v1`, as
//! the command belongs to the service `User`, version 1. The topic for all messages is for the audit, which names no event:
//! Dapr has no wildcards.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::{error::Error, future::ready, process::ExitCode};

use purista::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct SignUp {
    name: String,
    email: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    user_id: String,
    name: String,
    email: String,
}

/// A command: checks its input, does its work, announces an event, answers.
async fn sign_up(context: Context, input: SignUp) -> Result<User, HandlerError> {
    let Some(email) = input.email else {
        return Err(HandledError::bad_request("e-mail is missing").into());
    };
    let user = User { user_id: context.message().id.to_string(), name: input.name, email };
    println!("[User]  signUp: {} gets id {}", user.name, user.user_id);
    context.emit("userRegistered", &user).await?;
    Ok(user)
}

/// A subscription to an event, by its name.
async fn send_welcome(_context: Context, user: User) -> Result<(), HandlerError> {
    println!("[Mail]  userRegistered: a welcome mail goes to {}", user.email);
    Ok(())
}

/// A subscription to all error responses, of whatever service.
async fn record_error(context: Context, error: ErrorPayload) -> Result<(), HandlerError> {
    let sender = &context.message().sender.address;
    println!("[Audit] {sender} answered {}: {}", error.status, error.message);
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut url = "default".to_owned();
    if let Some(flag) = arguments.iter().position(|argument| argument == "--bridge") {
        let value = (flag + 1 < arguments.len()).then(|| arguments.remove(flag + 1));
        arguments.remove(flag);
        url = value.unwrap_or_default();
    }
    // Both, unless it is said which.
    let (serves, calls) = match (take(&mut arguments, "--serve"), take(&mut arguments, "--call")) {
        (false, false) => (true, true),
        said => said,
    };
    let mut arguments = arguments.into_iter();
    let input = match (arguments.next(), arguments.next(), arguments.next()) {
        (None, ..) => SignUp { name: "Ada".to_owned(), email: Some("ada@example.com".to_owned()) },
        (Some(name), email, None) if !name.starts_with("--") => SignUp { name, email },
        _ => {
            eprintln!("usage: quickstart [NAME [E-MAIL]] [--bridge URL] [--serve] [--call]");
            return ExitCode::from(2);
        }
    };
    match run(&url, serves, calls.then_some(&input)).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn take(arguments: &mut Vec<String>, flag: &str) -> bool {
    let before = arguments.len();
    arguments.retain(|argument| argument != flag);
    arguments.len() < before
}

/// Serves, calls, or both. A process that only serves does so until it is told to end.
async fn run(url: &str, serves: bool, call: Option<&SignUp>) -> Result<ExitCode, Box<dyn Error>> {
    let told_to_end = purista::end_signal()?;
    let bridge = purista::connect(url)?; // the one line that knows the broker
    bridge.serve(if serves { services() } else { Vec::new() }).await?;

    let report = if let Some(input) = call {
        match bridge.invoke::<User>(("User", "1", "signUp"), input).await {
            Ok(user) => println!("[You]   signed up: {user:?}"),
            Err(InvokeError::Handled(error)) => println!("[You]   handled error: {error}"),
            Err(error) => return Err(error.into()),
        }
        purista::run_until(bridge, [], ready(()), purista::DRAIN_TIME).await?
    } else {
        println!("[You]   serving; Ctrl-C ends it");
        purista::run_until(bridge, [], told_to_end, purista::DRAIN_TIME).await?
    };
    println!("[You]   shut down, everything finished: {}", report.is_clean());
    Ok(report.exit_code())
}

fn services() -> Vec<Service> {
    let users = Service::new("User", "1").command("signUp", sign_up);
    let mails =
        Service::new("Mail", "1").subscription("welcome", Filter::event("userRegistered"), send_welcome);
    let errors = Filter::message_type(MessageType::CommandErrorResponse);
    let audit = Service::new("Audit", "1").subscription("errors", errors, record_error);
    vec![users, mails, audit]
}
