//! Converts names to the spelling PURISTA uses on the wire (wire format, case conversion).
//!
//! A name is cut into words, which are lower-cased and joined. Whatever is not an ASCII letter or digit separates
//! words and vanishes, so different names may convert to the same text. A name without any word stays as it is.

use std::borrow::Cow;

/// Converts a name to words joined by `_`, as in topics and subjects (wire format, case conversion).
///
/// Borrows the name if it needs no change.
///
/// ```
/// use purista_core::routing::case;
///
/// assert_eq!(case::snake("getHTTPResponse"), "get_http_response");
/// assert_eq!(case::snake("日本語"), "日本語");
/// ```
#[must_use]
pub fn snake(name: &str) -> Cow<'_, str> {
    convert(name, b'_')
}

/// Converts a name to words joined by `-`, as in HTTP paths (wire format, case conversion).
///
/// Borrows the name if it needs no change.
///
/// ```
/// use purista_core::routing::case;
///
/// assert_eq!(case::kebab("getHTTPResponse"), "get-http-response");
/// ```
#[must_use]
pub fn kebab(name: &str) -> Cow<'_, str> {
    convert(name, b'-')
}

fn convert(name: &str, joiner: u8) -> Cow<'_, str> {
    if is_converted(name, joiner) {
        return Cow::Borrowed(name);
    }
    let mut converted = String::new();
    if append_words(&mut converted, name, joiner) { Cow::Owned(converted) } else { Cow::Borrowed(name) }
}

/// Appends the words of a name in snake case and returns whether it had any.
pub(super) fn append_snake(out: &mut String, name: &str) -> bool {
    if is_converted(name, b'_') {
        out.push_str(name);
        return true;
    }
    append_words(out, name, b'_')
}

/// Returns whether the name has words and is spelled exactly as the conversion would spell them.
fn is_converted(name: &str, joiner: u8) -> bool {
    let mut previous = joiner;
    for byte in name.bytes() {
        let fits = match byte {
            b'a'..=b'z' => !previous.is_ascii_digit(),
            b'0'..=b'9' => true,
            _ => byte == joiner && previous != joiner,
        };
        if !fits {
            return false;
        }
        previous = byte;
    }
    previous != joiner
}

#[derive(Clone, Copy)]
enum Kind {
    Gap,
    Capital,
    Lowercase,
    Digit,
}

/// Appends the words of a name in lower case with a joiner between them, and returns whether it had any.
fn append_words(out: &mut String, name: &str, joiner: u8) -> bool {
    let mut words = Words { start: out.len(), out, max_len: max_converted_len(name), joiner };
    let mut previous = Kind::Gap;
    let mut rest = name.as_bytes();
    while let Some((&byte, mut after)) = rest.split_first() {
        previous = match byte {
            b'a'..=b'z' => {
                if matches!(previous, Kind::Gap | Kind::Digit) {
                    words.begin();
                }
                words.push(byte);
                Kind::Lowercase
            }
            b'0'..=b'9' => {
                if matches!(previous, Kind::Gap | Kind::Capital) {
                    words.begin();
                }
                words.push(byte);
                Kind::Digit
            }
            b'A'..=b'Z' => {
                let capitals;
                (capitals, after) = split_capitals(rest);
                words.append_capitals(capitals, after.first());
                Kind::Capital
            }
            _ => Kind::Gap,
        };
        rest = after;
    }
    !words.is_empty()
}

/// Bounds the length of a converted name: at worst every byte is a word of its own.
const fn max_converted_len(name: &str) -> usize {
    2 * name.len()
}

fn split_capitals(name: &[u8]) -> (&[u8], &[u8]) {
    name.split_at(name.iter().take_while(|byte| byte.is_ascii_uppercase()).count())
}

struct Words<'a> {
    out: &'a mut String,
    start: usize,
    max_len: usize,
    joiner: u8,
}

impl Words<'_> {
    fn is_empty(&self) -> bool {
        self.out.len() == self.start
    }

    fn begin(&mut self) {
        if self.is_empty() {
            self.out.reserve(self.max_len);
        } else {
            self.out.push(char::from(self.joiner));
        }
    }

    fn push(&mut self, byte: u8) {
        self.out.push(char::from(byte.to_ascii_lowercase()));
    }

    /// Appends a run of capitals. What follows them decides whether they are an acronym, an acronym and the start of
    /// a word, or words of one letter.
    fn append_capitals(&mut self, capitals: &[u8], next: Option<&u8>) {
        let last_starts_word = matches!(next, Some(b'a'..=b'z'));
        let each_is_a_word = matches!(next, Some(b'0'..=b'9' | b'_'));
        let last = capitals.len() - 1;
        for (index, &capital) in capitals.iter().enumerate() {
            if index == 0 || each_is_a_word || (last_starts_word && index == last) {
                self.begin();
            }
            self.push(capital);
        }
    }
}
