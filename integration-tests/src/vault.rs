//! Credentials that are replaced while a bridge runs, as a vault gives them out.

use std::{error::Error, future::Ready, future::ready, sync::Arc};

use parking_lot::Mutex;
use purista_core::Credentials;

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
    pub fn provider(
        &self,
    ) -> impl Fn() -> Ready<Result<Credentials, Box<dyn Error + Send + Sync>>> + Send + Sync + use<> {
        let (user, password) = (self.user.clone(), Arc::clone(&self.password));
        move || {
            let password = password.lock().clone();
            ready(
                password.map(|password| Credentials::user_and_password(&user, password)).map_err(Into::into),
            )
        }
    }
}
