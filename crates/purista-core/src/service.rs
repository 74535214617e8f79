use std::{fmt, future::Future, marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    bridge::{EventBridge, Registration},
    error::{HandledError, HandlerError, Result},
    handler::{CommandHandler, Context, SubscriptionHandler, decode_or_null, fit_or_null},
    matcher::Filter,
    message::{Name, Payload, ServiceAddress},
    options::{Command, CommandOptions, Subscription, SubscriptionOptions},
};

/// A service: commands and subscriptions under one name and version, independent of the bridge that will carry them.
///
/// A handler is an `async fn` or a closure that takes a [`Context`] and the decoded payload. Input that does not fit
/// the type is answered with a handled error of status 400 by a command, which names the field, and is a failure of a
/// subscription.
///
/// ```
/// use purista_core::{Context, Filter, HandledError, HandlerError, MessageType, Service, ErrorPayload};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct User {
///     email: String,
/// }
///
/// async fn record(_ctx: Context, error: ErrorPayload) -> Result<(), HandlerError> {
///     println!("{}", error.status);
///     Ok(())
/// }
///
/// let users = Service::new("User", "1").command("signUp", |ctx: Context, user: User| async move {
///     if user.email.is_empty() {
///         return Err(HandledError::bad_request("e-mail is missing").into());
///     }
///     ctx.emit("userRegistered", &user).await?;
///     Ok(user)
/// });
/// let audit = Service::new("Audit", "1")
///     .subscription("errors", Filter::message_type(MessageType::CommandErrorResponse), record);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a service does nothing until a bridge serves it"]
pub struct Service {
    name: Name,
    version: Name,
    endpoints: Vec<Endpoint>,
}

#[derive(Clone)]
enum Endpoint {
    Command(Command, Arc<dyn CommandHandler>),
    Subscription(Box<Subscription>, Arc<dyn SubscriptionHandler>),
}

impl Service {
    /// Creates a service that offers nothing yet.
    pub fn new(name: impl Into<Name>, version: impl Into<Name>) -> Self {
        Self { name: name.into(), version: version.into(), endpoints: Vec::new() }
    }

    /// Adds a command with default options.
    pub fn command<F, In, Out, Fut>(self, target: impl Into<Name>, handler: F) -> Self
    where
        F: Fn(Context, In) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Out, HandlerError>> + Send + 'static,
        In: DeserializeOwned + Send + 'static,
        Out: Serialize + Send + 'static,
    {
        self.command_with(target, CommandOptions::default(), handler)
    }

    /// Adds a command.
    pub fn command_with<F, In, Out, Fut>(
        mut self,
        target: impl Into<Name>,
        options: CommandOptions,
        handler: F,
    ) -> Self
    where
        F: Fn(Context, In) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Out, HandlerError>> + Send + 'static,
        In: DeserializeOwned + Send + 'static,
        Out: Serialize + Send + 'static,
    {
        let command = Command::new(self.address(target)).with_options(options);
        self.endpoints.push(Endpoint::Command(command, Arc::new(Typed::new(handler))));
        self
    }

    /// Adds a subscription with default options.
    pub fn subscription<F, In, Fut>(self, target: impl Into<Name>, filter: Filter, handler: F) -> Self
    where
        F: Fn(Context, In) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
        In: DeserializeOwned + Send + 'static,
    {
        self.subscription_with(target, filter, SubscriptionOptions::default(), handler)
    }

    /// Adds a subscription.
    pub fn subscription_with<F, In, Fut>(
        mut self,
        target: impl Into<Name>,
        filter: Filter,
        options: SubscriptionOptions,
        handler: F,
    ) -> Self
    where
        F: Fn(Context, In) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
        In: DeserializeOwned + Send + 'static,
    {
        let subscription = Subscription::new(self.address(target), filter).with_options(options);
        self.endpoints.push(Endpoint::Subscription(Box::new(subscription), Arc::new(Typed::new(handler))));
        self
    }

    fn address(&self, target: impl Into<Name>) -> ServiceAddress {
        ServiceAddress::new(self.name.clone(), self.version.clone(), target)
    }

    /// Registers everything with a bridge, and adds the registrations as they come about.
    pub(crate) async fn register<B: EventBridge + ?Sized>(
        self,
        bridge: &B,
        registrations: &mut Vec<Registration>,
    ) -> Result<()> {
        for endpoint in self.endpoints {
            registrations.push(match endpoint {
                Endpoint::Command(command, handler) => bridge.register_command(command, handler).await?,
                Endpoint::Subscription(subscription, handler) => {
                    bridge.register_subscription(*subscription, handler).await?
                }
            });
        }
        Ok(())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command, _) => command.fmt(f),
            Self::Subscription(subscription, _) => subscription.fmt(f),
        }
    }
}

/// A function of a typed payload, as a handler of messages.
struct Typed<F, In> {
    function: F,
    input: PhantomData<fn(In)>,
}

impl<F, In> Typed<F, In> {
    const fn new(function: F) -> Self {
        Self { function, input: PhantomData }
    }
}

#[async_trait]
impl<F, In, Out, Fut> CommandHandler for Typed<F, In>
where
    F: Fn(Context, In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, HandlerError>> + Send + 'static,
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + Send + 'static,
{
    async fn handle(&self, context: Context) -> Result<Option<Payload>, HandlerError> {
        let input = fit_or_null(context.message().payload()).map_err(|misfit| {
            tracing::debug!(address = %context.address(), %misfit, "a payload does not fit");
            HandledError::bad_request(format!("the payload does not fit what the command expects: {misfit}"))
        })?;
        let output = (self.function)(context, input).await?;
        Ok(Some(Payload::json(&output)?))
    }
}

#[async_trait]
impl<F, In, Fut> SubscriptionHandler for Typed<F, In>
where
    F: Fn(Context, In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    In: DeserializeOwned + Send + 'static,
{
    async fn handle(&self, context: Context) -> Result<(), HandlerError> {
        let input = decode_or_null(context.message().payload())?;
        (self.function)(context, input).await
    }
}
