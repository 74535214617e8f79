//! Three services on one bridge: a command, an event, and an audit of every error.
//!
//! ```text
//! cargo run --example quickstart -- Ada ada@example.com
//! cargo run --example quickstart -- Ada
//! cargo run --example quickstart -- --bridge nats://localhost:4222
//! cargo run --example quickstart -- --bridge amqp://localhost:5672
//! cargo run --example quickstart -- --bridge mqtt://localhost:1883
//! cargo run --example quickstart -- --bridge dapr://localhost:3500
//! ```
//!
//! Over a broker, the services can run in one process or several, and their callers in others:
//!
//! ```text
//! cargo run --example quickstart -- --bridge nats://localhost:4222 --serve
//! cargo run --example quickstart -- --bridge nats://localhost:4222 --call Ada ada@example.com
//! ```
//!
//! With Dapr, each process has a sidecar, whose URL is given. That of a process that serves has the app id `app-user-v1`, as
//! the command belongs to the service `User`, version 1.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::{error::Error, process::ExitCode, sync::Arc, time::Duration};

use purista_amqp::AmqpBridge;
use purista_core::{
    Context, ErrorPayload, EventBridge, EventBridgeExt as _, Filter, HandledError, HandlerError, InvokeError,
    MessageType, Service, adapter::ServerUrl,
};
use purista_dapr::DaprBridge;
use purista_default::DefaultEventBridge;
use purista_mqtt::MqttBridge;
use purista_nats::NatsBridge;
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

/// The one place that knows the broker.
fn open_bridge(url: &str) -> Result<Arc<dyn EventBridge>, Box<dyn Error>> {
    let scheme = ServerUrl::scheme_of(url);
    // NATS has servers without a scheme, and a host may be called `default`: here, that is the bridge of this process.
    match scheme.as_deref().unwrap_or(url) {
        "default" => Ok(Arc::new(DefaultEventBridge::builder().build()?)),
        "nats" | "tls" => Ok(Arc::new(NatsBridge::builder(url).build()?)),
        "amqp" | "amqps" => Ok(Arc::new(AmqpBridge::builder(url).build()?)),
        "mqtt" | "mqtts" | "ws" | "wss" => Ok(Arc::new(MqttBridge::builder(url).build()?)),
        // The audit names no event, and Dapr has no wildcards.
        "dapr" => Ok(Arc::new(DaprBridge::builder(url).all_messages_topic("purista-all-messages").build()?)),
        // It is not repeated, as it may hold a password.
        _ => Err("no adapter for this URL; there are: default, nats, amqp, mqtt, dapr".into()),
    }
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
        Ok(()) => ExitCode::SUCCESS,
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
async fn run(url: &str, serves: bool, call: Option<&SignUp>) -> Result<(), Box<dyn Error>> {
    let bridge = open_bridge(url)?;
    bridge.serve(if serves { services() } else { Vec::new() }).await?;

    if let Some(input) = call {
        match bridge.invoke::<User>(("User", "1", "signUp"), input).await {
            Ok(user) => println!("[You]   signed up: {user:?}"),
            Err(InvokeError::Handled(error)) => println!("[You]   handled error: {error}"),
            Err(error) => return Err(error.into()),
        }
    } else {
        println!("[You]   serving; Ctrl-C ends it");
        told_to_end().await?;
    }

    let report = bridge.shutdown(Duration::from_secs(10)).await;
    println!("[You]   shut down, everything finished: {}", report.is_clean());
    Ok(())
}

fn services() -> Vec<Service> {
    let users = Service::new("User", "1").command("signUp", sign_up);
    let mails =
        Service::new("Mail", "1").subscription("welcome", Filter::event("userRegistered"), send_welcome);
    let errors = Filter::message_type(MessageType::CommandErrorResponse);
    let audit = Service::new("Audit", "1").subscription("errors", errors, record_error);
    vec![users, mails, audit]
}

/// Waits for Ctrl-C or SIGTERM.
async fn told_to_end() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
