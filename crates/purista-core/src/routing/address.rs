//! Renders the thirteen tokens that all routed brokers share.

use super::token::{AddressStyle, max_token_len};

/// Names one side of a message, or what a subscription asks of that side.
///
/// ```
/// use purista_core::routing::Endpoint;
///
/// let mut any_sign_up = Endpoint::default();
/// any_sign_up.target = Some("signUp");
/// assert_ne!(any_sign_up, Endpoint::new("User", "1", "signUp"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Endpoint<'a> {
    /// Identifies one instance of the bridge.
    pub instance_id: Option<&'a str>,
    /// Names the service.
    pub name: Option<&'a str>,
    /// Names the version of the service.
    pub version: Option<&'a str>,
    /// Names the command, subscription or function.
    pub target: Option<&'a str>,
}

impl<'a> Endpoint<'a> {
    const NONE: Self = Self { instance_id: None, name: None, version: None, target: None };

    /// Creates an endpoint without an instance.
    #[must_use]
    pub const fn new(name: &'a str, version: &'a str, target: &'a str) -> Self {
        Self { instance_id: None, name: Some(name), version: Some(version), target: Some(target) }
    }

    /// Sets the instance.
    #[must_use]
    pub const fn with_instance_id(mut self, instance_id: &'a str) -> Self {
        self.instance_id = Some(instance_id);
        self
    }
}

/// Says where one message goes (wire format, MQTT topics and NATS subjects).
///
/// A `None` is a value the message does not have; it renders to the style's empty marker.
///
/// ```
/// use purista_core::routing::{Address, AddressStyle, Endpoint};
///
/// const MQTT: AddressStyle = AddressStyle::new('/', '+', "none", "#$");
///
/// let mut address = Address::new("purista", "customMessage");
/// address.sender = Endpoint::new("User", "1", "signUp").with_instance_id("web");
/// address.event_name = Some("userCreated");
/// assert_eq!(
///     address.render(&MQTT),
///     "purista/custom_message/none/none/web/user/1/sign_up/user_created/none/none/none/none",
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Address<'a> {
    /// Separates systems that share a broker. It is configured, hence not converted, but escaped if it is unsafe.
    pub prefix: &'a str,
    /// Names the message type as in the envelope, such as `customMessage`.
    pub message_type: &'a str,
    /// Identifies on whose behalf the message is sent.
    pub principal_id: Option<&'a str>,
    /// Identifies the tenant.
    pub tenant_id: Option<&'a str>,
    /// Names who sends.
    pub sender: Endpoint<'a>,
    /// Names the event.
    pub event_name: Option<&'a str>,
    /// Names whom the message is for.
    pub receiver: Endpoint<'a>,
}

impl<'a> Address<'a> {
    /// Creates an address with nothing but a prefix and a message type.
    #[must_use]
    pub const fn new(prefix: &'a str, message_type: &'a str) -> Self {
        Self {
            prefix,
            message_type,
            principal_id: None,
            tenant_id: None,
            sender: Endpoint::NONE,
            event_name: None,
            receiver: Endpoint::NONE,
        }
    }

    /// Renders the address in thirteen tokens.
    #[must_use]
    pub fn render(&self, style: &AddressStyle) -> String {
        let mut address = String::new();
        self.append_to(&mut address, style);
        address
    }

    /// Appends what [`render`](Self::render) returns, to reuse a buffer.
    pub fn append_to(&self, out: &mut String, style: &AddressStyle) {
        let exact = Pattern {
            prefix: self.prefix,
            message_type: Some(self.message_type),
            principal_id: self.principal_id,
            tenant_id: self.tenant_id,
            sender: self.sender,
            event_name: self.event_name,
            receiver: self.receiver,
        };
        exact.append_tokens(out, style, style.empty_marker.as_str());
    }
}

/// Says which addresses a subscription wants (wire format, MQTT topics and NATS subjects).
///
/// A `None` asks for nothing; it renders to the style's wildcard.
///
/// ```
/// use purista_core::routing::{AddressStyle, Endpoint, Pattern};
///
/// const NATS: AddressStyle = AddressStyle::new('.', '*', "empty", ">$");
///
/// let mut commands = Pattern::new("purista");
/// commands.message_type = Some("command");
/// commands.receiver = Endpoint::new("User", "1", "signUp");
/// assert_eq!(commands.render(&NATS), "purista.command.*.*.*.*.*.*.*.*.user.1.sign_up");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Pattern<'a> {
    /// Separates systems that share a broker. It is configured, hence not converted, but escaped if it is unsafe.
    pub prefix: &'a str,
    /// Asks for a message type, spelled as in the envelope.
    pub message_type: Option<&'a str>,
    /// Asks for a principal.
    pub principal_id: Option<&'a str>,
    /// Asks for a tenant.
    pub tenant_id: Option<&'a str>,
    /// Asks who sends.
    pub sender: Endpoint<'a>,
    /// Asks for an event.
    pub event_name: Option<&'a str>,
    /// Asks whom the message is for.
    pub receiver: Endpoint<'a>,
}

impl<'a> Pattern<'a> {
    /// Creates a pattern for every address with a prefix.
    #[must_use]
    pub const fn new(prefix: &'a str) -> Self {
        Self {
            prefix,
            message_type: None,
            principal_id: None,
            tenant_id: None,
            sender: Endpoint::NONE,
            event_name: None,
            receiver: Endpoint::NONE,
        }
    }

    /// Renders the pattern in thirteen tokens.
    #[must_use]
    pub fn render(&self, style: &AddressStyle) -> String {
        let mut pattern = String::new();
        self.append_to(&mut pattern, style);
        pattern
    }

    /// Appends what [`render`](Self::render) returns, to reuse a buffer.
    pub fn append_to(&self, out: &mut String, style: &AddressStyle) {
        self.append_tokens(out, style, style.wildcard.encode_utf8(&mut [0; 4]));
    }

    fn append_tokens(&self, out: &mut String, style: &AddressStyle, absent: &str) {
        let Self { sender, receiver, .. } = self;
        let tokens = [
            self.message_type,
            self.principal_id,
            self.tenant_id,
            sender.instance_id,
            sender.name,
            sender.version,
            sender.target,
            self.event_name,
            receiver.instance_id,
            receiver.name,
            receiver.version,
            receiver.target,
        ];
        let max_len =
            |token: Option<&str>| style.separator.len_utf8() + token.map_or(absent.len(), max_token_len);
        out.reserve(max_token_len(self.prefix) + tokens.iter().copied().map(max_len).sum::<usize>());

        style.append_verbatim(out, self.prefix);
        for token in tokens {
            out.push(style.separator);
            match token {
                Some(value) => style.append_value(out, value),
                None => out.push_str(absent),
            }
        }
    }
}
