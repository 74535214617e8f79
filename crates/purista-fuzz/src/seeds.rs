//! Seeds, one a line: printable ASCII as it is, `\\` for a backslash, `\n`, `\r`, `\t`, and `\xNN` for all else. Lines
//! that begin with `#` say where those below come from.

use std::{fs, io, path::PathBuf};

/// Returns the folder that holds the seeds.
#[must_use]
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds")
}

/// Reads the seeds of a target, and what was found with it.
///
/// # Errors
///
/// If there is no such file, or a line in it is no seed.
pub fn read(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let text = fs::read_to_string(folder().join(format!("{target}.txt")))?;
    let seeds = text.lines().filter(|line| !line.starts_with('#'));
    let malformed = |line: &str| io::Error::other(format!("{target}: no seed: {line}"));
    seeds.map(|line| parse(line).ok_or_else(|| malformed(line))).collect()
}

/// Reads one line.
#[must_use]
pub fn parse(line: &str) -> Option<Vec<u8>> {
    let (mut seed, mut rest) = (Vec::with_capacity(line.len()), line.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            seed.push(byte);
            continue;
        }
        let (&escaped, after) = rest.split_first()?;
        rest = after;
        seed.push(match escaped {
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' | b'\'' | b'"' => escaped,
            _ => return None,
        });
    }
    Some(seed)
}

/// Writes one line.
#[must_use]
pub fn line(seed: &[u8]) -> String {
    let line = seed.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'");
    // A line that begins like a comment is none.
    line.strip_prefix('#').map_or_else(|| line.clone(), |rest| format!("\\x23{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let all: Vec<u8> = (0..=255).collect();
        for seed in [&all[..], b"", b"# no comment", b"\\\"\\'\\\\n", b"\\x41"] {
            let line = line(seed);
            assert!(!line.starts_with('#') && !line.contains('\n'), "{line}");
            assert_eq!(parse(&line).as_deref(), Some(seed), "{line}");
        }
        for malformed in ["\\", "\\x", "\\x4", "\\xg0", "\\q"] {
            assert_eq!(parse(malformed), None, "{malformed}");
        }
    }
}
