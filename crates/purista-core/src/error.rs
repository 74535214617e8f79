//! What can go wrong: with a bridge, and with a command.

use std::{error::Error as StdError, fmt, sync::Arc};

use crate::{
    capability::Capability,
    causes::{WithCauses, write_causes},
    message::Payload,
    status::StatusCode,
};

type Source = Arc<dyn StdError + Send + Sync>;

/// The result of a bridge's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation of a bridge failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The adapter, as it is configured, cannot do what was asked for. Nothing was created.
    Unsupported(Capability),
    /// The configuration or an option has an invalid value.
    InvalidConfig,
    /// A message is malformed, or a part of it is longer than the bridge allows.
    InvalidMessage,
    /// The payload is larger than the bridge or the broker accepts. Sizes in bytes.
    #[non_exhaustive]
    PayloadTooLarge {
        /// The size that was refused.
        size: usize,
        /// The largest size that is accepted.
        limit: usize,
    },
    /// The bridge was used before it was started.
    NotStarted,
    /// The bridge shut down before or while the operation ran.
    ShutDown,
    /// A registration with the same address exists.
    AlreadyRegistered,
    /// No service serves the command, or the addressed instance does not run or cannot be reached.
    NoHandler,
    /// The command was addressed to one instance, and another one executed and answered it. Bridges of the TypeScript
    /// original do that.
    OtherInstance,
    /// The message had to reach a subscriber, and there is none.
    Unroutable,
    /// There is no dead letter with this id, or another reader has it at the moment.
    NotFound,
    /// The dead letter was sent again as often as may be.
    RedriveLimit,
    /// The time limit passed. Whether the message took effect is not known.
    Timeout,
    /// A queue, buffer or table of calls is full, and no room came free in time.
    Backpressure,
    /// The broker cannot be reached.
    Unavailable,
    /// The broker refused the credentials, or the provider of the credentials returned none.
    Unauthenticated,
    /// The broker does not allow these credentials to do this.
    Forbidden,
    /// The connection could not be secured: certificate, host name or protocol version.
    Tls,
    /// A queue, stream or the like exists on the broker with other settings than the bridge needs.
    TopologyMismatch,
    /// Anything else; the source tells more.
    Unexpected,
}

impl ErrorKind {
    /// Creates [`PayloadTooLarge`](Self::PayloadTooLarge).
    #[must_use]
    pub const fn payload_too_large(size: usize, limit: usize) -> Self {
        Self::PayloadTooLarge { size, limit }
    }

    /// Returns its name, as the label `error.type` of metrics and spans has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsupported(_) => "unsupported",
            Self::InvalidConfig => "invalid_config",
            Self::InvalidMessage => "invalid_message",
            Self::PayloadTooLarge { .. } => "payload_too_large",
            Self::NotStarted => "not_started",
            Self::ShutDown => "shut_down",
            Self::AlreadyRegistered => "already_registered",
            Self::NoHandler => "no_handler",
            Self::OtherInstance => "other_instance",
            Self::Unroutable => "unroutable",
            Self::NotFound => "not_found",
            Self::RedriveLimit => "redrive_limit",
            Self::Timeout => "timeout",
            Self::Backpressure => "backpressure",
            Self::Unavailable => "unavailable",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Tls => "tls",
            Self::TopologyMismatch => "topology_mismatch",
            Self::Unexpected => "unexpected",
        }
    }

    /// Returns whether trying again later may help.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::NoHandler | Self::Unroutable | Self::Timeout | Self::Backpressure | Self::Unavailable
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(capability) => write!(f, "the bridge does not support {capability}"),
            Self::InvalidConfig => f.write_str("invalid configuration"),
            Self::InvalidMessage => f.write_str("invalid message"),
            Self::PayloadTooLarge { size, limit } => {
                write!(f, "payload of {size} bytes is over the limit of {limit}")
            }
            Self::NotStarted => f.write_str("the bridge is not started"),
            Self::ShutDown => f.write_str("the bridge shut down"),
            Self::AlreadyRegistered => f.write_str("already registered"),
            Self::NoHandler => f.write_str("no instance serves the command"),
            Self::OtherInstance => f.write_str("another instance answered than the one that was asked"),
            Self::Unroutable => f.write_str("no subscriber for the message"),
            Self::NotFound => f.write_str("it is not there"),
            Self::RedriveLimit => f.write_str("it was sent again as often as may be"),
            Self::Timeout => f.write_str("timed out"),
            Self::Backpressure => f.write_str("a limit was reached: try again later"),
            Self::Unavailable => f.write_str("the broker cannot be reached"),
            Self::Unauthenticated => f.write_str("credentials refused"),
            Self::Forbidden => f.write_str("not allowed"),
            Self::Tls => f.write_str("the connection could not be secured"),
            Self::TopologyMismatch => f.write_str("it exists on the broker with other settings"),
            Self::Unexpected => f.write_str("unexpected failure"),
        }
    }
}

/// The failure of a bridge's operation.
///
/// Displays as one line with its causes, which [`std::error::Error::source`] returns too.
///
/// ```
/// use purista_core::{Error, ErrorKind};
/// use std::error::Error as _;
///
/// let refused = std::io::Error::other("connection refused");
/// let error = Error::new(ErrorKind::Unavailable, "emit").with_context("2 servers").with_source(refused);
/// assert_eq!(error.to_string(), "emit: the broker cannot be reached (2 servers): connection refused");
/// assert_eq!((error.kind(), error.operation()), (ErrorKind::Unavailable, "emit"));
/// assert_eq!((error.bridge(), error.context()), (None, Some("2 servers")));
/// assert!(error.kind().is_temporary());
/// assert!(error.source().is_some_and(|cause| cause.is::<std::io::Error>()));
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    bridge: Option<&'static str>,
    context: Option<String>,
    source: Option<Source>,
}

impl Error {
    /// Creates an error of an operation such as `emit`.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str) -> Self {
        Self(Box::new(Inner { kind, operation, bridge: None, context: None, source: None }))
    }

    pub(crate) fn invalid_message(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidMessage, "message").with_context(context)
    }

    /// Creates an error of an invalid configuration.
    #[must_use]
    pub fn invalid_config(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidConfig, "configure").with_context(context)
    }

    /// Names the bridge it happened on.
    #[must_use]
    pub fn with_bridge(mut self, name: &'static str) -> Self {
        self.0.bridge = Some(name);
        self
    }

    /// Adds what the reader needs to know. Never put secrets here: it is logged.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<String>) -> Self {
        self.0.context = Some(context.into());
        self
    }

    /// Adds to what the reader needs to know.
    pub(crate) fn and_context(self, more: String) -> Self {
        let context = match &self.0.context {
            Some(context) => format!("{context}; {more}"),
            None => more,
        };
        self.with_context(context)
    }

    /// Keeps the cause: an error, or a text.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    fn without_causes(&self) -> String {
        let Inner { kind, operation, bridge, context, .. } = &*self.0;
        let bridge = bridge.map(|bridge| format!(" on the {bridge} bridge")).unwrap_or_default();
        let context = context.as_ref().map(|context| format!(" ({context})")).unwrap_or_default();
        format!("{operation}{bridge}: {kind}{context}")
    }

    /// Returns why it failed.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the operation that failed.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// Returns the bridge it happened on.
    #[must_use]
    pub const fn bridge(&self) -> Option<&'static str> {
        self.0.bridge
    }

    /// Returns what the reader needs to know beside the kind.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        self.0.context.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.without_causes();
        f.write_str(&told)?;
        write_causes(f, told, self.source())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_causes())?;
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, "\n  caused by: {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// An error that a command returns to its caller on purpose: status, message and data travel as they are.
///
/// ```
/// use purista_core::{HandledError, StatusCode};
///
/// let error = HandledError::bad_request("e-mail is missing").with_data(&["email"])?;
/// assert_eq!(error.status(), StatusCode::BAD_REQUEST);
/// # Ok::<(), purista_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandledError {
    status: StatusCode,
    message: String,
    data: Option<Payload>,
}

impl HandledError {
    /// Creates an error.
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), data: None }
    }

    /// Creates an error of status 400.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Creates an error of status 404.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Adds data.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidMessage`] if the data has no form in JSON.
    pub fn with_data(self, data: &(impl serde::Serialize + ?Sized)) -> Result<Self> {
        Ok(self.with_payload(Some(Payload::json(data)?)))
    }

    pub(crate) fn with_payload(mut self, data: Option<Payload>) -> Self {
        self.data = data;
        self
    }

    /// Returns the status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the data.
    #[must_use]
    pub const fn data(&self) -> Option<&Payload> {
        self.data.as_ref()
    }
}

impl fmt::Display for HandledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status.as_u16(), self.message)
    }
}

impl StdError for HandledError {}

/// Why an invoked command gave no result.
///
/// In a handler, `?` makes a failure of this handler of it, whose cause its own caller does not learn: also of another
/// service's [`HandledError`], which is meant for the handler alone. [`pass_on`](Self::pass_on) passes such an answer on.
///
/// ```
/// # use purista_core::{Context, EventBridge as _, EventBridgeExt as _, HandledError, InvokeError, Service, StatusCode};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let stock = Service::new("Stock", "1").command("take", |_: Context, item: String| async move {
/// #     Err::<(), _>(HandledError::not_found(format!("no {item}")).into())
/// # });
/// let shop = Service::new("Shop", "1")
///     .command("order", |context: Context, item: String| async move {
///         context.invoke::<()>(("Stock", "1", "take"), &item).await?;
///         Ok(item)
///     })
///     .command("ask", |context: Context, item: String| async move {
///         context.invoke::<()>(("Stock", "1", "take"), &item).await.map_err(InvokeError::pass_on)?;
///         Ok(item)
///     });
/// # let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// # bridge.serve([stock, shop]).await?;
///
/// let ordered = bridge.invoke::<String>(("Shop", "1", "order"), "tea").await;
/// assert!(matches!(ordered, Err(InvokeError::Unhandled(StatusCode::INTERNAL_SERVER_ERROR))));
/// let asked = bridge.invoke::<String>(("Shop", "1", "ask"), "tea").await;
/// assert!(asked.is_err_and(|error| error.handled() == Some(&HandledError::not_found("no tea"))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum InvokeError {
    /// The service answered with an error it means the caller to see.
    Handled(HandledError),
    /// The service failed. It tells its status and nothing of the cause.
    Unhandled(StatusCode),
    /// The bridge could not get an answer.
    Bridge(Error),
}

impl InvokeError {
    /// Returns what kind of failure it is, as the label `error.type` of metrics and spans has it: `handled_error`,
    /// `unhandled_error`, or the name of the bridge's [`ErrorKind`].
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Handled(_) => "handled_error",
            Self::Unhandled(_) => "unhandled_error",
            Self::Bridge(error) => error.kind().as_str(),
        }
    }

    /// Returns the kind of a bridge's failure, `None` for a service's.
    #[must_use]
    pub const fn bridge_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Bridge(error) => Some(error.kind()),
            Self::Handled(_) | Self::Unhandled(_) => None,
        }
    }

    /// Returns the error that the service means its caller to see, `None` for any other failure.
    #[must_use]
    pub const fn handled(&self) -> Option<&HandledError> {
        match self {
            Self::Handled(error) => Some(error),
            Self::Unhandled(_) | Self::Bridge(_) => None,
        }
    }

    /// Makes the answer of the other service the one of this handler, if it is handled: its status, message and data are
    /// for this handler's caller then. Any other failure stays one that the caller learns nothing of.
    #[must_use]
    pub fn pass_on(self) -> HandlerError {
        match self {
            Self::Handled(error) => HandlerError::Handled(error),
            other => HandlerError::Unhandled(Box::new(other)),
        }
    }
}

impl From<Error> for InvokeError {
    fn from(error: Error) -> Self {
        Self::Bridge(error)
    }
}

impl fmt::Display for InvokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handled(error) => write!(f, "the command answered {error}"),
            Self::Unhandled(status) => write!(f, "the command failed with {status}"),
            Self::Bridge(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl StdError for InvokeError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Handled(error) => Some(error),
            Self::Unhandled(_) => None,
            Self::Bridge(error) => error.source(),
        }
    }
}

/// Why a handler failed.
///
/// Any error converts into it, so `?` works in handlers. A [`HandledError`] stays handled; of every other error the
/// caller of a command learns only a status, and the log the cause. That holds for the failure of a call that the handler
/// makes, too: what another service says to this one is passed on by [`InvokeError::pass_on`] alone.
///
/// ```
/// use purista_core::{HandledError, HandlerError};
///
/// fn age(text: &str) -> Result<u8, HandlerError> {
///     if text.is_empty() {
///         return Err(HandledError::bad_request("the age is missing").into());
///     }
///     Ok(text.parse()?)
/// }
///
/// assert!(matches!(age(""), Err(HandlerError::Handled(error)) if error.message() == "the age is missing"));
/// assert!(matches!(age("x"), Err(HandlerError::Unhandled(_))));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum HandlerError {
    /// The caller is meant to see it.
    Handled(HandledError),
    /// The caller learns only that the command failed.
    Unhandled(Box<dyn StdError + Send + Sync>),
}

impl HandlerError {
    /// Creates an unhandled error from a text for the log.
    #[must_use]
    pub fn unhandled(message: impl Into<String>) -> Self {
        Self::Unhandled(message.into().into())
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let error: Box<dyn StdError + Send + Sync> = Box::new(error);
        match error.downcast::<HandledError>() {
            Ok(handled) => Self::Handled(*handled),
            Err(other) => Self::Unhandled(other),
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handled(error) => fmt::Display::fmt(error, f),
            Self::Unhandled(error) => fmt::Display::fmt(&WithCauses(&**error), f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handled_answer_is_passed_on_explicitly() {
        let of_another = || InvokeError::Handled(HandledError::not_found("no such user"));
        assert!(matches!(HandlerError::from(of_another()), HandlerError::Unhandled(_)));
        assert!(
            matches!(of_another().pass_on(), HandlerError::Handled(error) if error.message() == "no such user")
        );
        assert!(matches!(HandlerError::from(HandledError::not_found("mine")), HandlerError::Handled(_)));
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        assert!(matches!(InvokeError::Unhandled(status).pass_on(), HandlerError::Unhandled(_)));
        assert!(matches!(HandlerError::from(fmt::Error), HandlerError::Unhandled(_)));
    }
}
