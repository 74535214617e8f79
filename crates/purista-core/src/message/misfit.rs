//! Where a payload does not fit a type, without a word of what it says.

use std::fmt;

use serde::de::DeserializeOwned;

/// Decodes JSON text, or tells where it does not fit.
pub(crate) fn fit<T: DeserializeOwned>(json: &str) -> Result<T, Misfit> {
    serde_json::from_str(json).map_err(|error| Misfit::find::<T>(json, &error))
}

/// How much is told of where it is, in bytes: names in a map are the sender's.
const MAX_PATH: usize = 200;

/// The field that does not fit, and why.
#[derive(Debug)]
pub(crate) struct Misfit {
    path: String,
    reason: String,
}

impl Misfit {
    /// Looks for the field; the payload is read once more for that, as it costs nothing where everything fits.
    fn find<T: DeserializeOwned>(json: &str, error: &serde_json::Error) -> Self {
        let mut reader = serde_json::Deserializer::from_str(json);
        let path = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            Ok(_) => String::new(),
            Err(error) => error.path().to_string(),
        };
        Self { path, reason: without_values(&error.to_string()) }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, reason } = self;
        match path.as_str() {
            "" | "." => f.write_str(reason),
            path => write!(f, "{}: {reason}", &path[..path.floor_char_boundary(MAX_PATH)]),
        }
    }
}

/// Keeps what serde says about the type and leaves out what it says about the value.
fn without_values(error: &str) -> String {
    let error = error.rsplit_once(" at line ").map_or(error, |(reason, _)| reason);
    let expected = error.rfind(", expected ").map_or("", |start| &error[start..]);
    for reason in ["invalid type", "invalid value", "invalid length", "unknown variant", "unknown field"] {
        if error.starts_with(reason) {
            return format!("{reason}{expected}");
        }
    }
    for reason in ["missing field", "duplicate field", "number out of range"] {
        if error.starts_with(reason) {
            return error.to_owned();
        }
    }
    // Whatever a type says about its value.
    "invalid value".to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use crate::message::Payload;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is decoded only")]
    struct User {
        name: String,
        orders: Vec<Order>,
        kind: Option<Kind>,
        by_name: Option<BTreeMap<String, u8>>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it is decoded only")]
    struct Order {
        amount: u32,
    }

    #[derive(Debug, Deserialize)]
    enum Kind {
        New,
    }

    #[test]
    fn the_field_is_named_and_no_value_is_told() {
        let cases = [
            (r#"{"name":"Ada"}"#, "missing field `orders`"),
            (r#"{"name":["secret"],"orders":[]}"#, "name: invalid type, expected a string"),
            (
                r#"{"name":"a","orders":[{"amount":1},{"amount":"secret, expected secret"}]}"#,
                "orders[1].amount: invalid type, expected u32",
            ),
            (r#"{"name":"a","orders":[{"amount":-98765}]}"#, "orders[0].amount: invalid value, expected u32"),
            (r#"{"name":"a","orders":[{}]}"#, "orders[0]: missing field `amount`"),
            (r#"{"name":"a","orders":[],"kind":"secret"}"#, "kind: unknown variant, expected `New`"),
            (r#"{"name":"a","orders":[],"by_name":{"b":300}}"#, "by_name.b: invalid value, expected u8"),
            (r#""secret""#, "invalid type, expected struct User"),
        ];
        for (json, expected) in cases {
            let misfit =
                Payload::from_json_text(json).unwrap().deserialize::<User>().unwrap_err().to_string();
            assert!(misfit.contains(&format!(": {expected})")), "{json}: {misfit}");
            assert!(!misfit.contains("secret") && !misfit.contains("98765"), "{misfit}");
        }
        let unknown = r#"{"secret":1}"#;
        let misfit = Payload::from_json_text(unknown).unwrap().deserialize::<User>().unwrap_err();
        assert!(misfit.to_string().contains("unknown field, expected one of `name`"), "{misfit}");
    }
}
