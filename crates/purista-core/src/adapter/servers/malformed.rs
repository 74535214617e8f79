use super::{COMMA, host::not_a_host, refused};
use crate::error::Error;

/// Tells which part of a URL is malformed, by where its parser stopped.
pub(super) fn malformed(text: &str, index: usize) -> Error {
    let start = text.find("://").map_or(0, |end| end + "://".len());
    let authority = text[start..].find(['/', '?', '#']).map_or(text.len(), |end| start + end);
    let host = text[start..authority].rfind('@').map_or(start, |end| start + end + 1);
    // What stands before the last @ was meant as user and password.
    if index < host {
        return refused(
            "a character in user or password is not one of a URL: @ is written %40, % is %25, and so on",
        );
    }
    let host_and_port = &text[host..authority];
    if index > authority {
        return refused("a character behind host and port is not one of a URL: it is percent-encoded");
    }
    if host_and_port.contains(',') {
        return refused(format!("{COMMA}, and each server of a list begins with its scheme"));
    }
    match host_and_port.rfind(':') {
        // The colons of an address that has no brackets, or of one with something behind its brackets.
        Some(colon)
            if !host_and_port[..colon].contains([':', '[']) || host_and_port[..colon].ends_with(']') =>
        {
            refused(
                "the port of a server's URL is a number from 1 to 65,535; / ? and # in user or password are written \
                 %2F, %3F and %23",
            )
        }
        _ => not_a_host(),
    }
}
