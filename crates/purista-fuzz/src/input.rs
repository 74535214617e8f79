//! From bytes to what a target needs.
//!
//! Three bytes that no UTF-8 text has structure an input: `FF` separates fields, `FE n c` stands for `n` times the byte
//! `c`, and `FD n c` for 256 times that. So a short input, which is fuzzed fast, can nest deep and be long.

/// The longest input after repetitions.
const MAX_LEN: usize = 1 << 17;

/// The longest field: none of the limits on them is higher, and longer ones only take longer.
const MAX_FIELD: usize = 1 << 12;

pub(crate) const SEPARATOR: u8 = 0xff;
const REPEAT: u8 = 0xfe;
const REPEAT_LONG: u8 = 0xfd;

/// Writes out the repetitions in an input.
#[must_use]
pub fn expand(data: &[u8]) -> Vec<u8> {
    expand_to(data, MAX_LEN)
}

fn expand_to(mut data: &[u8], max_len: usize) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(data.len());
    while let Some((&byte, after)) = data.split_first() {
        data = match (byte, after) {
            (REPEAT | REPEAT_LONG, [count, repeated, after @ ..]) => {
                let unit = if byte == REPEAT { 1 } else { 256 };
                let room = max_len.saturating_sub(expanded.len());
                expanded.extend(std::iter::repeat_n(*repeated, (usize::from(*count) * unit).min(room)));
                after
            }
            _ => {
                expanded.push(byte);
                after
            }
        };
    }
    expanded
}

/// Writes out an input that is text; `None` if it is not.
#[must_use]
pub fn text(data: &[u8]) -> Option<String> {
    String::from_utf8(expand(data)).ok()
}

/// Splits an input into fields, and writes each of them out.
pub fn fields(data: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    data.split(|byte| *byte == SEPARATOR).map(|field| expand_to(field, MAX_FIELD))
}

/// Splits an input into fields of text. What is no UTF-8 in one of them is replaced.
pub fn texts(data: &[u8]) -> impl Iterator<Item = String> {
    fields(data).map(|field| match String::from_utf8(field) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_written_out() {
        assert_eq!(expand(b"a\xfe\x03bc\xfe\x01"), b"abbbc\xfe\x01");
        assert_eq!(expand(b"\xfd\x02x").len(), 512);
        assert!(expand(&b"\xfd\xffx".repeat(9)).len() <= MAX_LEN);
        assert_eq!(texts(b"\xfd\x20x").map(|text| text.len()).collect::<Vec<_>>(), [MAX_FIELD]);
        assert_eq!(texts(b"a\xff\xff\xfe\x02b").collect::<Vec<_>>(), ["a", "", "bb"]);
        assert_eq!((text(b"\xfe\x02a"), text(b"\xc0")), (Some("aa".to_owned()), None));
    }
}
