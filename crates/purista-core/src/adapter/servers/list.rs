use std::slice;

use super::{
    Attempts, COMMA, ServerUrl, UrlScheme, UserInfo, refused,
    url::{beginning_with, trimmed},
};
use crate::error::Result;

/// The longest list that is read, in bytes.
const MAX_LIST: usize = 256 * 1_024;

/// One or more servers of the same broker. Credentials and encryption are the same for all of them.
#[derive(Clone, Debug)]
pub struct ServerList {
    servers: Vec<ServerUrl>,
    schemes: &'static [UrlScheme],
}

impl ServerList {
    /// Reads one or more URLs, separated by commas. User and password are those of the first one; the others may repeat
    /// them.
    ///
    /// A comma separates where a URL begins behind it; in user, password and host it must be percent-encoded. Blanks
    /// around a URL are left out.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if there is none, if one is
    /// [malformed](ServerUrl::parse), or if they contradict each other: other users or passwords, some with TLS and some
    /// without.
    pub fn parse(text: &str, schemes: &'static [UrlScheme]) -> Result<Self> {
        let entries = separated(text)?;
        let servers = entries.into_iter().map(|entry| ServerUrl::parse(entry, schemes));
        Self::of(servers.collect::<Result<_>>()?, schemes)
    }

    /// Reads one or more URLs like [`parse`](Self::parse), of which each may lack its scheme: the first one has the first
    /// of these schemes then, and a later one that of the first one.
    ///
    /// Every comma separates two servers.
    ///
    /// # Errors
    ///
    /// As with [`parse`](Self::parse).
    pub fn parse_bare(text: &str, schemes: &'static [UrlScheme]) -> Result<Self> {
        let entries: Vec<_> = bounded(text)?.split(',').map(trimmed).collect();
        let is_cut =
            |pair: &[&str]| !pair[1].contains("://") && pair[1].contains('@') && !pair[0].contains('@');
        if entries.windows(2).any(is_cut) {
            return Err(refused(COMMA));
        }
        let mut servers = Vec::<ServerUrl>::new();
        for entry in entries {
            let scheme = servers.first().map(ServerUrl::scheme).or_else(|| schemes.first().copied());
            servers.push(match scheme {
                Some(scheme) if !entry.contains("://") => {
                    ServerUrl::parse(&format!("{}://{entry}", scheme.name()), schemes)?
                }
                _ => ServerUrl::parse(entry, schemes)?,
            });
        }
        Self::of(servers, schemes)
    }

    fn of(servers: Vec<ServerUrl>, schemes: &'static [UrlScheme]) -> Result<Self> {
        let Some((first, later)) = servers.split_first() else {
            return Err(refused(beginning_with(schemes)));
        };
        let differs =
            |server: &&ServerUrl| server.user_info().is_some() && server.user_info() != first.user_info();
        if later.iter().any(|server| differs(&server)) {
            return Err(refused(format!(
                "user and password are those of the first server: a later one has others; {COMMA}"
            )));
        }
        if later.iter().any(|server| server.scheme().is_encrypted() != first.scheme().is_encrypted()) {
            return Err(refused("some servers of the list are with TLS and some without"));
        }
        Ok(Self { servers, schemes })
    }

    /// Returns the servers, in their order; there is at least one.
    pub fn iter(&self) -> slice::Iter<'_, ServerUrl> {
        self.servers.iter()
    }

    /// Connects to one server after the other until one takes the connection.
    ///
    /// # Errors
    ///
    /// That of the attempt that came furthest, as [`Attempts`] returns it.
    ///
    /// # Cancel safety
    ///
    /// As cancel safe as an attempt is.
    pub async fn first_that_takes<'s, T, F: Future<Output = Result<T>>>(
        &'s self,
        connect: impl Fn(&'s ServerUrl) -> F,
    ) -> Result<T> {
        let mut attempts = Attempts::default();
        for server in self {
            match connect(server).await {
                Ok(connected) => return Ok(connected),
                Err(error) => attempts.failed(server, error),
            }
        }
        Err(attempts.into_error())
    }

    /// Returns user and password.
    #[must_use]
    pub fn user_info(&self) -> Option<&UserInfo> {
        self.servers.first().and_then(ServerUrl::user_info)
    }

    /// Returns whether all connections are encrypted; otherwise none is.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.servers.iter().all(|server| server.scheme().is_encrypted())
    }

    /// Returns what all servers have in common, of which a later one may say nothing.
    ///
    /// # Errors
    ///
    /// What `part` returns, and [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if a later server says something else
    /// than the first one.
    pub fn common<T: PartialEq>(
        &self,
        name: &str,
        part: impl Fn(&ServerUrl) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut parts = self.servers.iter().map(part);
        let first = parts.next().transpose()?.flatten();
        for later in parts {
            if later?.is_some_and(|later| Some(&later) != first.as_ref()) {
                return Err(refused(format!("{name} is that of the first server: a later one has another")));
            }
        }
        Ok(first)
    }

    /// Checks that connections are encrypted if there are settings of TLS: credentials that were meant for an encrypted
    /// connection must not go over another one.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if servers are without TLS.
    pub fn check_tls_settings(&self, are_there: bool) -> Result<()> {
        if !are_there || self.is_encrypted() {
            return Ok(());
        }
        let encrypted = self.schemes.iter().filter(|scheme| scheme.is_encrypted());
        let names: Vec<_> = encrypted.map(|scheme| format!("{}://", scheme.name())).collect();
        Err(refused(format!("certificates are for connections with TLS: {}", names.join(" or "))))
    }
}

impl<'l> IntoIterator for &'l ServerList {
    type Item = &'l ServerUrl;
    type IntoIter = slice::Iter<'l, ServerUrl>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Returns what stands between commas, if a URL begins behind them.
pub(super) fn separated(text: &str) -> Result<Vec<&str>> {
    let mut entries = Vec::new();
    let mut rest = bounded(text)?;
    let mut from = 0;
    while let Some(comma) = rest[from..].find(',').map(|comma| from + comma) {
        let (entry, next) = (&rest[..comma], &rest[comma + 1..]);
        if ServerUrl::scheme_of(trimmed(next)).is_some() {
            entries.push(entry);
            (rest, from) = (next, 0);
        } else {
            from = comma + 1;
        }
    }
    entries.push(rest);
    Ok(entries)
}

pub(super) fn bounded(text: &str) -> Result<&str> {
    if text.len() > MAX_LIST {
        Err(refused(format!("a list of servers has up to {MAX_LIST} bytes")))
    } else {
        Ok(text)
    }
}
