use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{ConnectOptions, Event};
use purista_core::{
    ErrorKind, Result,
    adapter::{Backoff, Link},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Credentials},
    error::{Violation, error, violation},
    provided::Provided,
    replies::Replies,
    supervisor::text,
};

/// How many messages the client keeps for each of its subscriptions.
const SUBSCRIPTION_CAPACITY: usize = 65_536;

/// Converts the configuration into the options of the client.
pub(crate) async fn options(
    config: &Config,
    link: &Link,
    events: mpsc::Sender<Event>,
    replies: Arc<Replies>,
    provided: &Arc<Provided>,
) -> Result<ConnectOptions> {
    let name = link.instance_id().to_string();
    let mut options = provided
        .options(config, link)
        // A name with control characters would break the handshake's log lines at the server.
        .name(name.escape_debug().to_string())
        .connection_timeout(config.connection.connect_timeout)
        .ping_interval(config.connection.keep_alive)
        // Beyond it the client drops messages unseen; what comes is taken over at once.
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .request_timeout(Some(config.connection.connect_timeout))
        .custom_inbox_prefix(&config.inbox_prefix)
        // All our subjects are escaped.
        .skip_subject_validation(true)
        .require_tls(config.connection.is_encrypted())
        .event_callback(move |event| {
            // At once: who published counts on it after a round trip, which comes another way.
            if let Event::ServerError(error) = &event
                && let Some(Violation::Publish(subject)) = violation(&text(error))
            {
                replies.forbid(&subject);
            }
            let events = events.clone();
            async move {
                // Nobody listens any more once the connection is closing.
                let _closing = events.send(event).await;
            }
        });
    if let Some(path) = &config.connection.tls.root_certificates {
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &config.connection.tls.client_certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(match &config.credentials {
        Credentials::None => options,
        Credentials::Login(login) => {
            let password = login.password.as_ref().map_or("", SecretString::expose_secret);
            options.user_and_password(login.user.clone(), password.to_owned())
        }
        Credentials::Token(token) => options.token(token.expose_secret().to_owned()),
        Credentials::NKey(seed) => options.nkey(seed.expose_secret().to_owned()),
        Credentials::File(path) => options.credentials_file(path).await.map_err(|cause| {
            error(ErrorKind::InvalidConfig, "start")
                .with_context("the credentials file cannot be read")
                .with_source(cause)
        })?,
    })
}

/// Returns how long to wait before the next attempt to connect.
pub(crate) fn reconnect_delay(
    config: &Config,
    was_connected: Arc<AtomicBool>,
    closing: CancellationToken,
) -> impl Fn(usize) -> Duration + use<> {
    let backoff = Backoff::new(Duration::from_millis(100), config.connection.max_reconnect_delay);
    move |attempt| {
        if closing.is_cancelled() {
            stop_client();
        }
        // At the start, each server is tried once without a pause.
        if was_connected.load(Ordering::Acquire) { backoff.delay_after(attempt) } else { Duration::ZERO }
    }
}

/// Ends the client's task, which tries to connect for ever and cannot be told to stop while it does.
fn stop_client() {
    if cfg!(panic = "unwind") {
        // Unwinds the task without a word to the panic hook.
        std::panic::resume_unwind(Box::new("the bridge shut down"));
    }
}
