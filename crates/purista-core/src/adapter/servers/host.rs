//! Host and port, which must mean the same to everybody who reads them: to the resolver, to who checks a certificate,
//! and to each client library.

use fluent_uri::component::Host;

use super::{COMMA, refused};
use crate::error::{Error, Result};

/// The longest name of a host, and of one label of it (RFC 1035).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Reads a host: a name as it is written, or an address without brackets.
pub(super) fn read(host: Host<'_>) -> Result<String> {
    match host {
        Host::Ipv4(address) => Ok(address.to_string()),
        Host::Ipv6(address) => Ok(address.to_string()),
        Host::RegName(name) if name.is_empty() => Err(refused("a server's URL has no host")),
        Host::RegName(name) => name_of(name.as_str()).map(str::to_owned),
        Host::IpvFuture { .. } => Err(not_a_host()),
    }
}

fn name_of(name: &str) -> Result<&str> {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.contains(',') {
        return Err(refused(format!("{COMMA}, and each server of a list begins with its scheme")));
    }
    // One dot at the end says that the name is complete.
    let labels = name.strip_suffix('.').unwrap_or(name);
    if labels.len() > MAX_NAME || !labels.split('.').all(is_label) {
        return Err(not_a_host());
    }
    // Resolvers read `127.1`, `0x7f.1` or `2130706433` as an address, and who checks a certificate does not.
    let last = labels.rsplit('.').next().unwrap_or_default();
    let digits = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_number {
        Err(refused("an IPv4 address has four numbers up to 255, without leading zeros"))
    } else {
        Ok(name)
    }
}

pub(super) fn not_a_host() -> Error {
    refused(
        "the host of a server's URL is a name of letters, digits, dashes, underscores and dots, an IPv4 address, or an \
         IPv6 address in brackets and without a zone",
    )
}

/// Reads a port.
pub(super) fn port(text: &str) -> Result<u16> {
    if text.is_empty() {
        return Err(refused(
            "the port of a server's URL is empty; without its colon it is that of the scheme",
        ));
    }
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(refused("the port of a server's URL is a number from 1 to 65,535")),
    }
}
