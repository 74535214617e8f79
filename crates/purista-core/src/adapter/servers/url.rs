use std::fmt;

use fluent_uri::{
    Uri,
    pct_enc::{EStr, Encoder},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::{COMMA, Parameters, host, malformed::malformed, refused};
use crate::error::Result;

/// The longest URL that is read, in bytes. HTTP libraries take no longer one.
const MAX_URL: usize = 32 * 1_024;

/// A scheme that the URLs of an adapter have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlScheme {
    name: &'static str,
    full_name: Option<&'static str>,
    default_port: u16,
    is_encrypted: bool,
    has_own_query: bool,
}

impl UrlScheme {
    /// Creates the scheme of connections without TLS. The name is in lower case.
    #[must_use]
    pub const fn plain(name: &'static str, default_port: u16) -> Self {
        Self { name, full_name: None, default_port, is_encrypted: false, has_own_query: false }
    }

    /// Creates the scheme of connections with TLS. The name is in lower case.
    #[must_use]
    pub const fn encrypted(name: &'static str, default_port: u16) -> Self {
        Self { name, full_name: None, default_port, is_encrypted: true, has_own_query: false }
    }

    /// Adds the name that no other system has, such as `nats+tls`, for a scheme that others may have as well. It is in lower
    /// case.
    #[must_use]
    pub const fn or(mut self, full_name: &'static str) -> Self {
        self.full_name = Some(full_name);
        self
    }

    /// Leaves the query of its URLs to the broker: [options](super::UrlOptions) are behind `#` then.
    #[must_use]
    pub const fn with_own_query(mut self) -> Self {
        self.has_own_query = true;
        self
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Returns whether a URL that begins so has this scheme.
    #[must_use]
    pub fn is_named(self, name: &str) -> bool {
        self.name == name || self.full_name == Some(name)
    }

    /// Returns whether the query of its URLs is the broker's alone.
    #[must_use]
    pub const fn has_own_query(self) -> bool {
        self.has_own_query
    }

    /// Returns whether connections are encrypted.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        self.is_encrypted
    }
}

/// User and password of a URL, before the `@`. A missing part differs from an empty one.
#[derive(Clone)]
#[non_exhaustive]
pub struct UserInfo {
    /// What stands before the first colon. Some brokers take a token there.
    pub user: String,
    /// What stands behind it.
    pub password: Option<SecretString>,
}

impl UserInfo {
    /// Creates those of somebody who has a password.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: Some(password.into().into()) }
    }

    fn read<E: Encoder>(written: &EStr<E>) -> Result<Self> {
        if written.as_str().contains(',') {
            return Err(refused(COMMA));
        }
        let (user, password) = match written.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (written, None),
        };
        let decoded = |part| decoded(part, "user or password");
        Ok(Self { user: decoded(user)?, password: password.map(decoded).transpose()?.map(Into::into) })
    }

    fn password(&self) -> Option<&str> {
        self.password.as_ref().map(SecretString::expose_secret)
    }
}

impl PartialEq for UserInfo {
    fn eq(&self, other: &Self) -> bool {
        (&self.user, self.password()) == (&other.user, other.password())
    }
}

impl Eq for UserInfo {}

impl fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserInfo").finish_non_exhaustive()
    }
}

/// The URL of a server. It is displayed without user, password, path and query.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    scheme: UrlScheme,
    user_info: Option<UserInfo>,
    host: String,
    port: Option<u16>,
    path: String,
    query: Option<String>,
}

impl ServerUrl {
    /// Reads a URL that has one of these schemes. Blanks and line breaks around it are left out.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if it is malformed, or has a part that the bridge cannot use, such
    /// as a fragment.
    pub fn parse(text: &str, schemes: &[UrlScheme]) -> Result<Self> {
        let text = trimmed(text);
        if text.len() > MAX_URL {
            return Err(refused(format!("a server's URL has up to {MAX_URL} bytes")));
        }
        let name = Self::scheme_of(text);
        let scheme = schemes.iter().find(|scheme| name.as_deref().is_some_and(|name| scheme.is_named(name)));
        let scheme = scheme.copied().ok_or_else(|| refused(beginning_with(schemes)))?;
        let uri = Uri::parse(text).map_err(|cause| malformed(text, cause.index()))?;
        let authority = uri.authority().ok_or_else(|| refused("a server's URL has no host"))?;
        let user_info = authority.userinfo().map(UserInfo::read).transpose()?;
        let host = host::read(authority.host_parsed())?;
        let port = authority.port().map(|port| host::port(port.as_str())).transpose()?;
        let (path, query) = (uri.path().as_str(), uri.query().map(EStr::as_str));
        if uri.fragment().is_some() {
            return Err(refused("a server's URL has no fragment; # is written %23"));
        }
        // A slash or question mark in a password ends the host before it. It must not go to who is named there.
        if user_info.is_none() && [Some(path), query].into_iter().flatten().any(|part| part.contains('@')) {
            return Err(refused("/ and ? in user or password are written %2F and %3F; elsewhere @ is %40"));
        }
        Ok(Self { scheme, user_info, host, port, path: path.to_owned(), query: query.map(str::to_owned) })
    }

    /// Returns the scheme of a URL, in lower case.
    #[must_use]
    pub fn scheme_of(text: &str) -> Option<String> {
        let end =
            text.find(|character: char| !character.is_ascii_alphanumeric() && !"+-.".contains(character))?;
        let (scheme, rest) = text.split_at(end);
        let is_scheme =
            scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && rest.starts_with("://");
        is_scheme.then(|| scheme.to_ascii_lowercase())
    }

    /// Returns the scheme.
    #[must_use]
    pub const fn scheme(&self) -> UrlScheme {
        self.scheme
    }

    /// Returns user and password.
    #[must_use]
    pub const fn user_info(&self) -> Option<&UserInfo> {
        self.user_info.as_ref()
    }

    /// Returns the host: a name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, that of the scheme if none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(self.scheme.default_port)
    }

    /// Returns host and port, with brackets where the host needs them. The port is there if it is written.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", Bracketed(&self.host)),
            None => Bracketed(&self.host).to_string(),
        }
    }

    /// Returns host and port, with brackets where the host needs them.
    #[must_use]
    pub fn authority_with_port(&self) -> String {
        format!("{}:{}", Bracketed(&self.host), self.port())
    }

    /// Returns the path, as it is written.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the query, as it is written. It may hold a secret.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Returns the path without its first slash, which must be its only one, decoded; `None` if there is no path.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if there are more slashes, or if it is not UTF-8.
    pub fn path_segment(&self) -> Result<Option<String>> {
        let Some(segment) = self.path.strip_prefix('/') else { return Ok(None) };
        if segment.contains('/') {
            return Err(refused("a slash in the path of a server's URL is written %2F"));
        }
        let segment = EStr::<fluent_uri::pct_enc::encoder::Path>::new(segment);
        segment.map(|segment| decoded(segment, "path")).transpose()
    }

    /// Returns the parameters of the query, of which only these are known.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if there is another, or one twice.
    pub fn parameters(&self, known: &[&str]) -> Result<Parameters> {
        Parameters::read(self.query().unwrap_or_default(), known)
    }

    /// Refuses a path, for those who have no use for one.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if there is one.
    pub fn without_path(&self) -> Result<()> {
        match self.path.as_str() {
            "" | "/" => Ok(()),
            _ => Err(refused(format!(
                "{}:// has no path; / in user or password is written %2F",
                self.scheme.name
            ))),
        }
    }

    /// Refuses a query, for those who have no use for one.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if there is one.
    pub fn without_query(&self) -> Result<()> {
        match self.query {
            None => Ok(()),
            Some(_) => Err(refused(format!(
                "{}:// has no query and no parameters; ? in user or password is written %3F",
                self.scheme.name
            ))),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name, self.authority_with_port())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A host as it stands in a URL.
struct Bracketed<'h>(&'h str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

/// Leaves out what separates a URL from others, or ends the file that it stands in.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_ascii_whitespace())
}

/// Tells how a URL begins.
pub(super) fn beginning_with(schemes: &[UrlScheme]) -> String {
    let names: Vec<_> = schemes.iter().map(|scheme| format!("{}://", scheme.name)).collect();
    format!("a server's URL begins with {}", names.join(" or "))
}

/// Decodes what is percent-encoded, and nothing else: a plus stays one.
pub(super) fn decoded<E: Encoder>(written: &EStr<E>, part: &str) -> Result<String> {
    let text = written.decode().to_string();
    text.map(Into::into).map_err(|_| refused(format!("{part} in a server's URL is not UTF-8")))
}
