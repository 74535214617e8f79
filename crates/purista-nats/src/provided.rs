//! Credentials that the client asks for each time that it connects.

use std::sync::Arc;

use async_nats::{Auth, AuthError, ConnectOptions};
use parking_lot::Mutex;
use purista_core::{
    Credentials, Error, Result,
    adapter::{CredentialsProvider, Link, Throttle},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{config::Config, transport::NAME};

/// Why there were no credentials the last time that the client asked for them. It keeps none of their causes itself.
#[derive(Debug, Default)]
pub(crate) struct Provided {
    failure: Mutex<Option<Error>>,
    throttle: Throttle,
}

impl Provided {
    /// Returns options that ask the provider, if there is one.
    pub(crate) fn options(self: &Arc<Self>, config: &Config, link: &Link) -> ConnectOptions {
        let Some(provider) = &config.connection.credentials_provider else { return ConnectOptions::new() };
        let (provided, link) = (Arc::clone(self), link.clone());
        let (provider, connection) = (provider.clone(), config.connection.clone());
        ConnectOptions::with_auth_callback(move |_nonce| {
            let (provided, link, provider) = (Arc::clone(&provided), link.clone(), provider.clone());
            let until = connection.connects_until();
            async move {
                // The client has less time left, and drops this when it is over.
                *provided.failure.lock() = Some(CredentialsProvider::late().with_bridge(NAME));
                let asked = provider.ask(until).await;
                provided.note(&asked, &link);
                asked.map(auth).map_err(|error| AuthError::new(error.to_string()))
            }
        })
    }

    fn note(&self, asked: &Result<Credentials>, link: &Link) {
        let failure = asked.as_ref().err().map(|error| error.clone().with_bridge(NAME));
        if let Some(error) = &failure {
            link.not_connected_again(error);
            self.throttle.log(|suppressed| tracing::warn!(%error, suppressed, "not connected"));
        }
        *self.failure.lock() = failure;
    }

    /// Forgets it, before another server is tried.
    pub(crate) fn forget(&self) {
        *self.failure.lock() = None;
    }

    /// Returns why there were none the last time.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }
}

fn auth(credentials: Credentials) -> Auth {
    let mut auth = Auth::new();
    match credentials {
        Credentials::Login(login) => {
            let password = login.password.as_ref().map_or("", SecretString::expose_secret);
            auth.password = Some(password.to_owned());
            auth.username = Some(login.user);
        }
        Credentials::Token(token) => auth.token = Some(token.expose_secret().to_owned()),
        // Nothing is shown in the place of what is not known here.
        _ => {}
    }
    auth
}
