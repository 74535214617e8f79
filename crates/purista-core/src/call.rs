use std::{future::Future, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    bridge::EventBridge,
    capability::Capability,
    error::{InvokeError, Result},
    handler::decode_or_null,
    message::{CommandDraft, Payload},
    options::InvokeOptions,
};

/// Defines the setters that each builder around a draft has for whom a message is sent.
macro_rules! identity_setters {
    () => {
        /// Sets to which tenant it belongs.
        pub fn tenant(mut self, tenant_id: impl Into<$crate::Name>) -> Self {
            self.draft = self.draft.with_tenant_id(tenant_id);
            self
        }

        /// Sets on whose behalf it is sent.
        pub fn principal(mut self, principal_id: impl Into<$crate::Name>) -> Self {
            self.draft = self.draft.with_principal_id(principal_id);
            self
        }

        /// Sets the application's trace id.
        pub fn trace_id(mut self, trace_id: impl Into<$crate::Id>) -> Self {
            self.draft = self.draft.with_trace_id(trace_id);
            self
        }
    };
}

pub(crate) use identity_setters;

/// A call of a command that is not sent yet: what [`EventBridgeExt::call`](crate::EventBridgeExt::call) and
/// [`Context::call`](crate::Context::call) return.
///
/// ```
/// # use purista_core::{Context, EventBridge as _, EventBridgeExt as _, Service};
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let greeter = Service::new("Greeter", "1").command("greet", |context: Context, name: String| async move {
///     let loud: Option<bool> = context.parameter()?;
///     Ok(if loud == Some(true) { name.to_uppercase() } else { name })
/// });
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// bridge.serve([greeter]).await?;
///
/// let call = bridge.call(("Greeter", "1", "greet")).parameter(&true).timeout(Duration::from_secs(1));
/// let name: String = call.tenant("acme").invoke("Ada").await?;
/// assert_eq!(name, "ADA");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a call does nothing until `invoke`"]
pub struct Call<'a, B: EventBridge + ?Sized> {
    bridge: &'a B,
    draft: CommandDraft,
    parameter: Option<Result<Payload>>,
    options: InvokeOptions,
}

impl<'a, B: EventBridge + ?Sized> Call<'a, B> {
    pub(crate) fn new(bridge: &'a B, draft: CommandDraft, options: InvokeOptions) -> Self {
        Self { bridge, draft, parameter: None, options }
    }

    /// Sets the second input, which the command reads with [`Context::parameter`](crate::Context::parameter).
    ///
    /// If none is set, a bridge that is compatible with the wire of the TypeScript original sends an empty object, as
    /// the original's clients do: its commands refuse a call without one if they have a schema for it. Where it is
    /// read, an empty object and no parameter are the same.
    pub fn parameter(mut self, parameter: &(impl Serialize + ?Sized)) -> Self {
        self.parameter = Some(Payload::json(parameter));
        self
    }

    /// Sets how long to wait for the answer, up to [`MAX_TIMEOUT`](crate::MAX_TIMEOUT); 30 s by default.
    ///
    /// A call of [`Context::call`](crate::Context::call) ends earlier if the caller of the handler stops waiting
    /// earlier.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.with_timeout(timeout);
        self
    }

    identity_setters!();

    /// Sends the command and decodes its result.
    ///
    /// # Errors
    ///
    /// As [`EventBridge::invoke_command`]; an input that has no form in JSON and a result that does not fit the type are
    /// an [`InvalidMessage`](crate::ErrorKind::InvalidMessage).
    ///
    /// # Cancel safety
    ///
    /// As [`EventBridge::invoke_command`].
    pub fn invoke<O: DeserializeOwned>(
        self,
        input: &(impl Serialize + Sync + ?Sized),
    ) -> impl Future<Output = Result<O, InvokeError>> + Send {
        let input = Payload::json(input);
        async move {
            let Self { bridge, draft, parameter, options } = self;
            let parameter = match parameter {
                Some(parameter) => Some(parameter?),
                None if bridge.capabilities().has(Capability::WireCompatible) => {
                    Some(Payload::empty_object())
                }
                None => None,
            };
            let draft = match parameter {
                Some(parameter) => draft.with_parameter(parameter),
                None => draft,
            };
            let response = bridge.invoke_command(draft.with_payload(input?), &options).await?;
            Ok(decode_or_null(response.payload())?)
        }
    }
}
