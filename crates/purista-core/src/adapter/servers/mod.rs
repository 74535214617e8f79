//! The URLs of a broker's servers.
//!
//! One parser for all adapters, by RFC 3986: it keeps each part of a URL exactly as it is written, or refuses it. Errors
//! name the part, but do not repeat its text, which may be a secret.

mod attempts;
mod host;
mod list;
mod malformed;
mod options;
mod query;
mod url;

pub use attempts::Attempts;
pub use list::ServerList;
pub use options::UrlOptions;
pub use query::Parameters;
pub use url::{ServerUrl, UrlScheme, UserInfo};

use crate::error::Error;

/// What to do about a comma that is taken for the end of a server.
const COMMA: &str = "a comma in user or password is written %2C";

fn refused(context: impl Into<String>) -> Error {
    Error::invalid_config(context)
}
