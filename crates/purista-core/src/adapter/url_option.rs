use std::{fmt, net::SocketAddr, time::Duration};

use crate::{
    capability::Capability,
    error::{Error, Result},
};

/// An option that the URL of a bridge can set, by the setter of its builder `B`.
pub struct UrlOption<B> {
    name: &'static str,
    set: fn(B, &OptionText) -> Result<B>,
}

impl<B> UrlOption<B> {
    /// Creates an option that is set like this. [`url_options!`](crate::url_options) does it for setters.
    #[must_use]
    pub const fn new(name: &'static str, set: fn(B, &OptionText) -> Result<B>) -> Self {
        Self { name, set }
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the names of several tables of options.
    #[must_use]
    pub fn names(tables: &[&[Self]]) -> Vec<&'static str> {
        tables.iter().flat_map(|table| table.iter()).map(Self::name).collect()
    }

    pub(super) fn set(&self, builder: B, text: &OptionText) -> Result<B> {
        (self.set)(builder, text)
    }
}

impl<B> fmt::Debug for UrlOption<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UrlOption").field(&self.name).finish()
    }
}

/// What a URL says for an option: one text, or several between commas.
#[derive(Clone)]
pub struct OptionText {
    name: String,
    parts: Vec<String>,
}

impl OptionText {
    pub(super) fn new(name: &str, parts: Vec<String>) -> Self {
        Self { name: name.to_owned(), parts }
    }

    /// Reads it as one value.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if it is none.
    pub fn read<T: UrlValue>(&self) -> Result<T> {
        match &self.parts[..] {
            [text] => T::read(text).ok_or_else(|| self.refused(T::EXPECTED)),
            _ => Err(self
                .refused("one value, in which a comma is written %2C; options stand behind the last server")),
        }
    }

    /// Reads it as two values with a comma between them.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if these are not two of them.
    pub fn pair<A: UrlValue, B: UrlValue>(&self) -> Result<(A, B)> {
        match &self.parts[..] {
            [one, other] => Ok((
                A::read(one).ok_or_else(|| self.refused(A::EXPECTED))?,
                B::read(other).ok_or_else(|| self.refused(B::EXPECTED))?,
            )),
            _ => Err(self.refused("two values with a comma between them")),
        }
    }

    /// Reads it as one value or more, with commas between them.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if one is none.
    pub fn list<T: UrlValue>(&self) -> Result<Vec<T>> {
        self.parts.iter().map(|text| T::read(text).ok_or_else(|| self.refused(T::EXPECTED))).collect()
    }

    fn refused(&self, expected: &str) -> Error {
        Error::invalid_config(format!("the option {} of the URL is {expected}", self.name))
    }
}

/// Shows no value, as it may be a secret.
impl fmt::Debug for OptionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptionText").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A value that an option of a URL can have.
pub trait UrlValue: Sized {
    /// What is expected, for errors: `the option keep_alive of the URL is` this.
    const EXPECTED: &'static str;

    /// Reads it; `None` if the text is none.
    fn read(text: &str) -> Option<Self>;
}

impl UrlValue for String {
    const EXPECTED: &'static str = "a text that is not empty";

    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned()).filter(|text| !text.is_empty())
    }
}

impl UrlValue for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl UrlValue for SocketAddr {
    const EXPECTED: &'static str = "an IP address and a port, such as 127.0.0.1:3000 or [::1]:3000";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// By the name of its variant.
impl UrlValue for Capability {
    const EXPECTED: &'static str = "one or more names of `Capability`, such as DurableSubscriptions";

    fn read(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|capability| format!("{capability:?}") == text)
    }
}

macro_rules! numbers {
    ($($number:ty)+) => {$(
        impl UrlValue for $number {
            const EXPECTED: &'static str = "a number of digits, within its limits";

            fn read(text: &str) -> Option<Self> {
                // A sign would be one to `parse`.
                text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
            }
        }
    )+};
}

numbers!(u16 u32 u64 usize);

/// A number of digits and its unit. Without one, some would read seconds and some milliseconds.
impl UrlValue for Duration {
    const EXPECTED: &'static str = "a number and its unit: 500ms, 5s, 2m or 1h";

    fn read(text: &str) -> Option<Self> {
        let (number, unit) = text.split_at(text.find(|character: char| !character.is_ascii_digit())?);
        let number = u64::read(number)?;
        let time = match unit {
            "ms" => Some(Self::from_millis(number)),
            "s" => Some(Self::from_secs(number)),
            "m" => number.checked_mul(60).map(Self::from_secs),
            "h" => number.checked_mul(3_600).map(Self::from_secs),
            _ => None,
        };
        // More than 136 years is a slip, and more than clocks can tell.
        time.filter(|time| time.as_secs() <= u64::from(u32::MAX))
    }
}

/// Makes setters of a builder the options that its URL can set, in `from_url`.
///
/// It names the configuration, which has the schemes of URLs as `SCHEMES` and what their query can say by itself as
/// `PARAMETERS`; the variable with the URL, if there is one; the tables that [`server_setters!`](crate::server_setters) and
/// [`engine_setters!`](crate::engine_setters) define; and groups of options that say the same, of which a URL can say one, as
/// [`at_most_one`](crate::adapter::UrlOptions::at_most_one) takes them. Then come the setters of this builder alone:
///
/// | written | calls |
/// |---|---|
/// | `check_interval;` | `check_interval(value)`, whose type is a [`UrlValue`](crate::adapter::UrlValue) |
/// | `prefix: text;` | `prefix(text)` |
/// | `require_tls: flag;` | `require_tls()`, if the value is `true` |
/// | `pending_limits: pair;`, `client_certificate: text pair;` | the setter with two values or texts |
/// | `name = function;` | a function of the builder and the [`OptionText`](crate::adapter::OptionText) |
///
/// Options are set in the order of the tables, whatever their order in the URL.
#[macro_export]
macro_rules! url_options {
    (
        $config:ty $(, $variable:literal)?;
        tables [$($table:ident),+];
        $(at_most_one [$($way:literal),+];)*
        options { $($options:tt)* }
    ) => {
        const URL_OPTIONS: &'static [$crate::adapter::UrlOption<Self>] = $crate::url_options!(@list $($options)*);

        const URL_TABLES: &'static [&'static [$crate::adapter::UrlOption<Self>]] =
            &[Self::URL_OPTIONS, $(Self::$table),+];

        /// Starts with a URL, or a list of URLs, that can set options as well: behind the last server, `name=value` with `&`
        /// between them. The names are those of the setters of this builder, the values are percent-encoded.
        ///
        /// A time is a number with its unit, such as `500ms`, `5s`, `2m` or `1h`; what is on or off is `true` or `false`; two
        /// values have a comma between them. What a query says for the broker stays as it is; the query of a WebSocket is the
        /// broker's alone, and options are behind `#` there.
        ///
        /// # Errors
        ///
        /// [`InvalidConfig`]($crate::ErrorKind::InvalidConfig) if an option is not known, with the list of those that are, if
        /// its value is none, if it is there twice, or if the URL says the same in two ways. Whether the URL itself is
        /// right, and the values can be, is for [`build`](Self::build) to say.
        pub fn from_url(url: impl AsRef<str>) -> $crate::Result<Self> {
            Self::by_url(url.as_ref(), |servers| Ok(Self::new(servers)))
        }

        /// Starts with a URL as [`from_url`](Self::from_url) does, and with the settings of the environment as
        /// [`from_env`](Self::from_env) does. An option of the URL wins over a variable; a variable wins over user, password
        /// and path of the URL, as setters do.
        ///
        /// # Errors
        ///
        /// Those of both, and [`InvalidConfig`]($crate::ErrorKind::InvalidConfig) if the environment names servers as well.
        pub fn from_url_and_variables(
            url: impl AsRef<str>,
            variables: &$crate::adapter::Variables,
        ) -> $crate::Result<Self> {
            $(if variables.get($variable)?.is_some() {
                return Err($crate::Error::invalid_config(concat!("beside a URL, ", $variable, " cannot be set")));
            })?
            Self::by_url(url.as_ref(), |servers| Self::new(servers).with_all_variables(variables))
        }

        fn by_url(url: &str, start: impl FnOnce(&str) -> $crate::Result<Self>) -> $crate::Result<Self> {
            let known = $crate::adapter::UrlOption::names(Self::URL_TABLES);
            let split = $crate::adapter::UrlOptions::split(
                url,
                <$config>::SCHEMES,
                <$config>::PARAMETERS,
                &known,
            );
            let (servers, options) = split.map_err(Self::named)?;
            $(options.at_most_one(&[$($way),+]).map_err(Self::named)?;)*
            options.apply(start(&servers)?, Self::URL_TABLES).map_err(Self::named)
        }
    };
    (@list $($name:ident $(: $kind:ident $($pair:ident)?)? $(= $set:expr)?;)*) => {
        &[$($crate::adapter::UrlOption::new(
            stringify!($name),
            $crate::url_options!(@set $name $(: $kind $($pair)?)? $(= $set)?),
        )),*]
    };
    (@set $name:ident = $set:expr) => { $set };
    (@set $name:ident) => {
        |builder: Self, value: &$crate::adapter::OptionText| Ok(builder.$name(value.read()?))
    };
    (@set $name:ident: text) => {
        |builder: Self, value: &$crate::adapter::OptionText| Ok(builder.$name(value.read::<String>()?))
    };
    (@set $name:ident: flag) => {
        |builder: Self, value: &$crate::adapter::OptionText| {
            Ok(if value.read()? { builder.$name() } else { builder })
        }
    };
    (@set $name:ident: pair) => {
        |builder: Self, value: &$crate::adapter::OptionText| {
            let (one, other) = value.pair()?;
            Ok(builder.$name(one, other))
        }
    };
    (@set $name:ident: text pair) => {
        |builder: Self, value: &$crate::adapter::OptionText| {
            let (one, other) = value.pair::<String, String>()?;
            Ok(builder.$name(one, other))
        }
    };
}
