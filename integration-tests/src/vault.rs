//! Credentials that are replaced while a bridge runs, as a vault gives them out.

use std::{
    error::Error,
    future::{pending, ready},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use futures_util::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use purista_core::{Credentials, ErrorKind, EventBridge};

/// What a provider returns.
type Provided = Result<Credentials, Box<dyn Error + Send + Sync>>;

/// What a bridge asks for its credentials.
pub type Provider = Box<dyn Fn() -> BoxFuture<'static, Provided> + Send + Sync>;

/// Knows the password of one user, or refuses to tell it.
#[derive(Debug)]
pub struct Vault {
    user: String,
    password: Arc<Mutex<Result<String, String>>>,
}

impl Vault {
    /// Creates one that knows a password.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: Arc::new(Mutex::new(Ok(password.into()))) }
    }

    /// Replaces the password.
    pub fn replace(&self, password: impl Into<String>) {
        *self.password.lock() = Ok(password.into());
    }

    /// Fails for this reason from now on.
    pub fn seal(&self, why: impl Into<String>) {
        *self.password.lock() = Err(why.into());
    }

    /// Returns what a bridge asks.
    #[must_use]
    pub fn provider(&self) -> Provider {
        let (user, password) = (self.user.clone(), Arc::clone(&self.password));
        Box::new(move || {
            let password = password.lock().clone();
            let password = password.map(|password| Credentials::user_and_password(&user, password));
            ready(password.map_err(Into::into)).boxed()
        })
    }
}

/// Starts bridges whose provider fails, hangs, or gives a user another password than the broker knows: each fails, says why,
/// and shows no password. `bridge` builds one with a provider and a time to connect.
///
/// # Errors
///
/// What was different.
pub async fn what_gives_nothing_is_a_failed_connect<B: EventBridge>(
    user: &str,
    bridge: impl Fn(Provider, Duration) -> B,
) -> anyhow::Result<()> {
    let user = user.to_owned();
    let wrong = move || ready(Ok(Credentials::user_and_password(&user, "s3cret of another"))).boxed();
    let providers: [(Provider, &str); 3] = [
        (
            Box::new(|| ready(Err("the vault is sealed".into())).boxed()),
            "provider failed): the vault is sealed",
        ),
        (Box::new(|| pending().boxed()), "the credentials provider returned nothing in time"),
        (Box::new(wrong), ""),
    ];
    for (provider, why) in providers {
        let bridge = bridge(provider, Duration::from_secs(5));
        let error = bridge.start().await.err().context("it started")?;
        ensure!(error.kind() == ErrorKind::Unauthenticated, "{error:?}");
        ensure!(error.to_string().contains(why), "{error} does not say {why:?}");
        ensure!(!format!("{error:?} {bridge:?}").contains("s3cret"), "{error:?}");
    }
    Ok(())
}
