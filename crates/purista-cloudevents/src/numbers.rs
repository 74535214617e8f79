/// Returns whether readers with 64-bit floating-point numbers can read the numbers in this JSON: a sidecar of Dapr gives a
/// message with a larger one back for ever.
#[must_use]
pub fn are_readable(json: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let mut rest = json;
    while let [first, after @ ..] = rest {
        rest = match first {
            b'"' => after_string(after),
            first if is_part(first) => {
                let length = rest.iter().take_while(|byte| is_part(byte)).count();
                let (number, after) = rest.split_at(length);
                let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
                if number.is_some_and(f64::is_infinite) {
                    return false;
                }
                after
            }
            _ => after,
        };
    }
    true
}

/// Returns what comes after the end of a string of JSON.
fn after_string(mut json: &[u8]) -> &[u8] {
    loop {
        json = match json {
            [b'\\', _, after @ ..] => after,
            [b'"', after @ ..] => return after,
            [_, after @ ..] => after,
            [] => return json,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_can_be_too_large() {
        for readable in [
            "1e10",
            "12345678901234567890123",
            r#""1e400""#,
            r#"{"\\\"1e400":["true",true,-1.5E-400]}"#,
            "\"",
        ] {
            assert!(are_readable(readable.as_bytes()), "{readable}");
        }
        for large in ["1e400", "[-1E+400]", r#"{"\\":1e400}"#, &"9".repeat(400)] {
            assert!(!are_readable(large.as_bytes()), "{large}");
        }
    }
}
