//! PURISTA services within one process, without a broker.
//!
//! ```
//! use purista_core::{Context, EventBridge as _, EventBridgeExt as _, Service};
//! use purista_default::DefaultEventBridge;
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let greeter = Service::new("Greeter", "1")
//!     .command("greet", |_ctx: Context, name: String| async move { Ok(format!("Hello, {name}!")) });
//!
//! let bridge = DefaultEventBridge::builder().build()?;
//! bridge.serve([greeter]).await?;
//! let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "Ada").await?;
//! assert_eq!(greeting, "Hello, Ada!");
//! assert!(bridge.shutdown(Duration::from_secs(10)).await.is_clean());
//! # Ok(())
//! # }
//! ```
//!
//! It keeps the whole contract of [`EventBridge`](purista_core::EventBridge) but for what outlives a process: durable
//! commands and subscriptions are refused. Messages are shared, never copied.
//!
//! Several bridges on one [`Hub`] are several instances of a deployment: they share commands and subscriptions as they
//! would on a broker. That makes it the test double for services that will run on one.

mod bridge;
mod builder;
mod group;
mod hub;
mod routes;
mod transport;

pub use bridge::DefaultEventBridge;
pub use builder::DefaultEventBridgeBuilder;
pub use hub::{Hub, HubConfig, HubReport};
