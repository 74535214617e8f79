//! What most files of a service need: `use purista::prelude::*;`
//!
//! ```
//! use purista::prelude::*;
//!
//! async fn greet(_context: Context, name: String) -> Result<String, HandlerError> {
//!     if name.is_empty() {
//!         return Err(HandledError::bad_request("a name is missing").into());
//!     }
//!     Ok(format!("Hello, {name}!"))
//! }
//! let _service = Service::new("Greeter", "1").command("greet", greet);
//! ```

#[doc(no_inline)]
pub use crate::{
    CommandOptions, Context, EmitOptions, ErrorKind, ErrorPayload, EventBridge, EventBridgeExt, Filter,
    HandledError, HandlerError, InvokeError, InvokeOptions, MessageType, RetryPolicy, Service,
    ServiceAddress, Sharing, SubscriptionOptions,
};
