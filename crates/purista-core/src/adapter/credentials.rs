use std::{error::Error as StdError, fmt, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use secrecy::SecretString;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::UserInfo;
use crate::error::{Error, ErrorKind, Result};

/// By what a bridge authenticates with its broker: what the provider of a builder's `credentials_provider` returns.
///
/// ```
/// use purista_core::Credentials;
///
/// let ada = Credentials::user_and_password("ada", "s3cret");
/// assert!(!format!("{ada:?}").contains("s3cret"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credentials {
    /// A user and its password.
    Login(UserInfo),
    /// A token alone, for brokers that take one.
    Token(SecretString),
}

impl Credentials {
    /// Creates those of a user who has a password.
    pub fn user_and_password(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Login(UserInfo::new(user, password))
    }

    /// Creates a token. Brokers that take no token alone, such as RabbitMQ and those of MQTT, take it as a password.
    pub fn token(token: impl Into<String>) -> Self {
        Self::Token(token.into().into())
    }

    /// Returns user and password.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for a token.
    pub fn into_login(self) -> Result<UserInfo> {
        match self {
            Self::Login(login) => Ok(login),
            Self::Token(_) => {
                Err(Error::invalid_config("the broker takes a token as the password of a user, not alone"))
            }
        }
    }
}

/// What a provider returns: its own errors, whatever they are.
type Provided = Result<Credentials, Box<dyn StdError + Send + Sync>>;

/// Asks somebody for the credentials of a connection, each time that one is made.
#[derive(Clone)]
pub struct CredentialsProvider(Arc<dyn Fn() -> BoxFuture<'static, Provided> + Send + Sync>);

impl CredentialsProvider {
    /// Creates a provider.
    pub fn new<F, C>(provider: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Provided> + Send + 'static,
    {
        Self(Arc::new(move || provider().boxed()))
    }

    /// Asks for the credentials of a connection that has to be made until then.
    ///
    /// # Errors
    ///
    /// [`Unauthenticated`](ErrorKind::Unauthenticated) if the provider fails, panics, or returns nothing in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops that of the provider.
    pub async fn ask(&self, until: Instant) -> Result<Credentials> {
        let provider = Arc::clone(&self.0);
        // On a task of its own, so that a panic ends nothing else.
        let asked = AbortOnDropHandle::new(tokio::spawn(async move { provider().await }));
        match timeout_at(until, asked).await {
            Ok(Ok(Ok(credentials))) => Ok(credentials),
            Ok(Ok(Err(cause))) => Err(Self::failed("the credentials provider failed").with_source(cause)),
            Ok(Err(_panicked)) => Err(Self::failed("the credentials provider panicked")),
            Err(_) => Err(Self::late()),
        }
    }

    /// Says that it returned nothing in time.
    #[must_use]
    pub fn late() -> Error {
        Self::failed("the credentials provider returned nothing in time")
    }

    fn failed(context: &str) -> Error {
        Error::new(ErrorKind::Unauthenticated, "start").with_context(context)
    }
}

impl fmt::Debug for CredentialsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsProvider").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        time::Duration,
    };

    use super::*;

    async fn failing<C: Future<Output = Provided> + Send + 'static>(
        provider: impl Fn() -> C + Send + Sync + 'static,
    ) -> Error {
        let asked = CredentialsProvider::new(provider).ask(Instant::now() + Duration::from_secs(1)).await;
        asked.expect_err("it fails")
    }

    #[tokio::test(start_paused = true)]
    async fn each_time_anew() {
        let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let provider = CredentialsProvider::new(move || {
            let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            ready(Ok(Credentials::user_and_password(format!("ada {call}"), "s3cret")))
        });
        for call in 0..2 {
            let asked = provider.ask(Instant::now() + Duration::from_secs(1)).await.unwrap();
            assert!(!format!("{asked:?} {provider:?}").contains("s3cret"));
            assert_eq!(asked.into_login().unwrap().user, format!("ada {call}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_fails_panics_or_hangs_is_a_failure_with_its_cause() {
        let sealed = failing(|| ready(Err("the vault is sealed".into()))).await;
        assert_eq!(sealed.kind(), ErrorKind::Unauthenticated);
        assert!(
            sealed.to_string().ends_with("(the credentials provider failed): the vault is sealed"),
            "{sealed}"
        );
        let panics = failing(|| async { panic!("no vault") }).await;
        assert_eq!(panics.context(), Some("the credentials provider panicked"));
        let panics_at_once = failing(|| -> std::future::Ready<Provided> { unreachable!("no vault") }).await;
        assert_eq!(panics_at_once.context(), Some("the credentials provider panicked"));
        let hangs = failing(pending).await;
        assert_eq!(hangs.to_string(), CredentialsProvider::late().to_string());
    }

    #[test]
    fn a_token_is_no_login() {
        let token = Credentials::token("s3cret");
        assert!(!format!("{token:?}").contains("s3cret"));
        assert_eq!(token.into_login().unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
}
