use std::fs;

use purista_core::Result;

use super::wire::unavailable;

/// Counts the TCP sockets of this machine that are connected from a port to a port. Linux tells.
pub(crate) fn connected(is_counted: impl Fn(u16, u16) -> bool) -> Result<usize> {
    let table = fs::read_to_string("/proc/net/tcp").map_err(unavailable)?;
    let is_it = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        let mut port = || u16::from_str_radix(columns.next()?.rsplit_once(':')?.1, 16).ok();
        let (Some(from), Some(to)) = (port(), port()) else { return false };
        // Established, or half closed by the other end.
        is_counted(from, to) && matches!(columns.next(), Some("01" | "08"))
    };
    Ok(table.lines().filter(is_it).count())
}
