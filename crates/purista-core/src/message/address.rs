use std::fmt;

use serde::Serialize;

use super::{Id, Name};

/// What a command, a subscriber or a sender is called: service, version and target.
///
/// The target is the name of the command, the subscription or the function that sends.
///
/// ```
/// use purista_core::ServiceAddress;
///
/// let sign_up = ServiceAddress::new("User", "1", "signUp");
/// assert_eq!(sign_up, ("User", "1", "signUp").into());
/// assert_eq!(sign_up.to_string(), "User v1 signUp");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ServiceAddress {
    /// Name of the service.
    pub service_name: Name,
    /// Version of the service.
    pub service_version: Name,
    /// Name of the command, subscription or function within the service.
    pub service_target: Name,
}

impl ServiceAddress {
    /// Creates an address.
    #[must_use]
    pub fn new(
        service_name: impl Into<Name>,
        service_version: impl Into<Name>,
        service_target: impl Into<Name>,
    ) -> Self {
        Self {
            service_name: service_name.into(),
            service_version: service_version.into(),
            service_target: service_target.into(),
        }
    }

    /// Returns the sender address of code outside of any service: `Client`, version `1`, target `main`.
    #[must_use]
    pub const fn client() -> Self {
        Self {
            service_name: Name::from_static("Client"),
            service_version: Name::from_static("1"),
            service_target: Name::from_static("main"),
        }
    }
}

impl<N: Into<Name>, V: Into<Name>, T: Into<Name>> From<(N, V, T)> for ServiceAddress {
    fn from((name, version, target): (N, V, T)) -> Self {
        Self::new(name, version, target)
    }
}

impl From<&Self> for ServiceAddress {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{} {}", self.service_name, self.service_version, self.service_target)
    }
}

/// Who sent a message: an address, and the bridge instance that put it on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sender {
    /// The address that sent.
    pub address: ServiceAddress,
    /// The instance id of the sender's bridge, stamped by that bridge.
    pub instance_id: Id,
}

impl Sender {
    /// Creates a sender.
    #[must_use]
    pub const fn new(address: ServiceAddress, instance_id: Id) -> Self {
        Self { address, instance_id }
    }
}

/// Whom a message is for: an address, and one of its instances if that matters.
///
/// ```
/// use purista_core::Receiver;
///
/// let any = Receiver::from(("User", "1", "signUp"));
/// assert_eq!(any.instance_id, None);
/// let one = any.with_instance_id("web-1");
/// assert_eq!(one.instance_id.as_deref(), Some("web-1"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receiver {
    /// The address it is for.
    pub address: ServiceAddress,
    /// The one bridge instance it is for; any instance where it is `None`.
    pub instance_id: Option<Id>,
}

impl Receiver {
    /// Creates a receiver that any instance of the address may be.
    #[must_use]
    pub fn new(address: impl Into<ServiceAddress>) -> Self {
        Self { address: address.into(), instance_id: None }
    }

    /// Narrows the receiver to one instance.
    #[must_use]
    pub fn with_instance_id(mut self, instance_id: impl Into<Id>) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }
}

impl<A: Into<ServiceAddress>> From<A> for Receiver {
    fn from(address: A) -> Self {
        Self::new(address)
    }
}
