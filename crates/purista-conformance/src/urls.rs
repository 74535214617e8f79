//! Odd URLs, the same for all adapters: the bridge uses each exactly as it is written, or refuses it before it sends anything.
//!
//! Not a row of the catalogue, as it needs no broker: an adapter runs [`check`] against a listener that sees where it
//! connects and what it sends.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Result, bail};
use purista_core::ErrorKind;

/// What stands in these URLs and must not be repeated by an error.
const SECRET: &str = "s3cret";

/// What an adapter showed to the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters create it")]
pub struct Shown {
    /// The address that it connected to.
    pub address: IpAddr,
    /// The user, or the token.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
}

/// How the URLs of an adapter look.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "adapters create it")]
pub struct Dialect {
    /// A scheme without TLS.
    pub scheme: &'static str,
    /// The port of the listener, at `127.0.0.1` and at `::1`.
    pub port: u16,
    /// Who connects if a URL names nobody.
    pub nobody: (Option<&'static str>, Option<&'static str>),
    /// Whether URLs can say who connects.
    pub has_user_info: bool,
    /// Whether a URL can name several servers.
    pub is_list: bool,
}

/// What happens to a URL: `HERE` in it is the port of the listener.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// User and password are shown.
    Login(Option<&'static str>, Option<&'static str>),
    /// As above, or refused where the protocol has no such login.
    LoginOrRefused(Option<&'static str>, Option<&'static str>),
    /// The URL names nobody.
    Nobody,
    Refused,
}

use Outcome::{Login, LoginOrRefused, Nobody, Refused};

const HOSTS: &[&str] =
    &["127.0.0.1:HERE", "[::1]:HERE", "localhost:HERE", "LocalHost:HERE", "[0:0::0:1]:HERE", "[::1]:0HERE"];

const LOGINS: &[(&str, Outcome)] = &[
    ("", Nobody),
    ("ada:pw@", Login(Some("ada"), Some("pw"))),
    ("ada:s3cret%20p%40ss%3Aword%2F%25%3F%23@", Login(Some("ada"), Some("s3cret p@ss:word/%?#"))),
    ("ada:p:w@", Login(Some("ada"), Some("p:w"))),
    ("a%3Ab%40c:x@", Login(Some("a:b@c"), Some("x"))),
    ("secret&:p%40ss&word@", Login(Some("secret&"), Some("p@ss&word"))),
    ("a+b=c;d:e+f=g;h@", Login(Some("a+b=c;d"), Some("e+f=g;h"))),
    ("a%2Bb:c%2520%2C@", Login(Some("a+b"), Some("c%20,"))),
    ("%C3%BC:%F0%9F%9A%80@", Login(Some("\u{fc}"), Some("\u{1f680}"))),
    ("-._~!$'()*:!$'()*-._~@", Login(Some("-._~!$'()*"), Some("!$'()*-._~"))),
    ("ada:@", LoginOrRefused(Some("ada"), Some(""))),
    (":pw@", LoginOrRefused(Some(""), Some("pw"))),
    (":@", LoginOrRefused(Some(""), Some(""))),
    ("ada@", LoginOrRefused(Some("ada"), None)),
    ("@", LoginOrRefused(Some(""), None)),
    ("s3cret%FF:x@", Refused),
    ("ada:s3cret%FF@", Refused),
    ("ada:s3cret%C3@", Refused),
    ("ada:s3cret%@", Refused),
    ("ada:s3cret%zz@", Refused),
    ("ada:s3cret@@", Refused),
    ("ada:s3,cret@", Refused),
    ("ada:1,s3cret@", Refused),
    ("a,s3cret@", Refused),
    ("ada:1/s3cret@", Refused),
    ("ada:1?s3cret@", Refused),
    ("ada:1#s3cret@", Refused),
    ("ada:s3cret\\@", Refused),
    ("ada:s3 cret@", Refused),
    ("ada:s3\tcret@", Refused),
    ("ada:s3\ncret@", Refused),
    ("ada:s3cret\u{fc}@", Refused),
    ("ada:[s3cret]@", Refused),
    ("ada:s3cret\"@", Refused),
];

/// What stands behind the scheme, with `ada:s3cret@` before it where a URL can say who connects.
const REFUSED: &[&str] = &[
    "",
    ":HERE",
    "/",
    "/x",
    "?x",
    "#x",
    "127.0.0.1:",
    "[::1]:",
    "127.0.0.1:0",
    "127.0.0.1:65536",
    "127.0.0.1:-1",
    "127.0.0.1:+HERE",
    "127.0.0.1:HERE0",
    "127.0.0.1:x",
    "127.0.0.1: HERE",
    "127.0.0.1 :HERE",
    "127.0.0.1:HE\nRE",
    "local\thost:HERE",
    "local\nhost:HERE",
    "local host:HERE",
    "127.1:HERE",
    "2130706433:HERE",
    "0x7f.0.0.1:HERE",
    "0x7f000001:HERE",
    "0177.0.0.1:HERE",
    "127.0.0.01:HERE",
    "127.0.0.1.:HERE",
    "256.0.0.1:HERE",
    "::1:HERE",
    "[::1:HERE",
    "::1]:HERE",
    "[::1%25lo]:HERE",
    "[::1%lo]:HERE",
    "[v1.x]:HERE",
    "[127.0.0.1]:HERE",
    "[localhost]:HERE",
    "loc%61lhost:HERE",
    "localhost!:HERE",
    "local..host:HERE",
    "l\u{f6}calhost:HERE",
    "localhost\\x:HERE",
    "127.0.0.1:HERE#",
    "127.0.0.1:HERE/#s3cret",
    "127.0.0.1:HERE?no_such_parameter=s3cret",
    "127.0.0.1:HERE/a/s3cret",
    "127.0.0.1:HERE//",
    "127.0.0.1:HERE/%FF",
    "127.0.0.1:HERE/%zz",
    "127.0.0.1:HERE/a b",
    "127.0.0.1:HERE,",
    ",127.0.0.1:HERE",
    "127.0.0.1:HERE,,127.0.0.1:HERE",
    "127.0.0.1:HERE 127.0.0.1:HERE",
];

/// Lists, where a URL can name several servers.
const REFUSED_LISTS: &[&str] = &[
    "SCHEME://127.0.0.1:HERE,SCHEME://ada:s3cret@127.0.0.1:HERE",
    "SCHEME://ada:s3cret@127.0.0.1:HERE,SCHEME://bob:s3cret@127.0.0.1:HERE",
    "SCHEME://ada:s3cret@127.0.0.1:HERE,SCHEME://ada:other@127.0.0.1:HERE",
    "SCHEME://ada:s3cret@127.0.0.1:HERE,SCHEME://ada@127.0.0.1:HERE",
    "SCHEME://ada:s3cret@127.0.0.1:HERE,SCHEME://127.0.0.1:0",
    "SCHEME://ada:s3cret@127.0.0.1:HERE,http://127.0.0.1:HERE",
    "SCHEME://ada:s3cret@127.0.0.1:HERE,SCHEME://127.0.0.1:HERE#",
    "SCHEME://ada:s3cret@127.0.0.1:HERE;SCHEME://127.0.0.1:HERE",
];

/// Refused whatever the scheme is.
const REFUSED_WHOLE: &[&str] = &[
    "",
    " ",
    ",",
    "://",
    "SCHEME:",
    "SCHEME:/127.0.0.1:HERE",
    "SCHEME//127.0.0.1:HERE",
    "SCHEME ://127.0.0.1:HERE",
    "no-such-scheme://s3cret@127.0.0.1:HERE",
    "SCHEMEx://s3cret@127.0.0.1:HERE",
    "1SCHEME://s3cret@127.0.0.1:HERE",
    "SCHEME://SCHEME://s3cret@127.0.0.1:HERE",
    "\u{a0}SCHEME://127.0.0.1:HERE",
];

/// Checks what an adapter does with each of these URLs. `connect` builds a bridge, starts it, and returns what the listener
/// saw, or the error of the build.
///
/// # Errors
///
/// If the bridge neither uses a URL as it is written nor refuses it with [`InvalidConfig`](ErrorKind::InvalidConfig), or if
/// an error repeats a part of it. The error names all of these URLs.
pub async fn check(
    dialect: Dialect,
    connect: impl AsyncFn(String) -> purista_core::Result<Shown>,
) -> Result<()> {
    let mut wrong = String::new();
    for (url, outcome, addresses) in cases(dialect) {
        let url = url.replace("SCHEME", dialect.scheme).replace("HERE", &dialect.port.to_string());
        let shown = connect(url.clone()).await;
        if !is_right(dialect, outcome, &addresses, &shown) {
            _ = writeln!(wrong, "{url:?}: {outcome:?} expected, {shown:?}");
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("URLs that are neither met nor refused:\n{wrong}") }
}

fn cases(dialect: Dialect) -> Vec<(String, Outcome, Vec<IpAddr>)> {
    let mut cases = Vec::new();
    for host in HOSTS {
        for scheme in ["SCHEME", &dialect.scheme.to_uppercase()] {
            cases.push((format!("{scheme}://{host}"), Nobody, addresses(host)));
            cases.push((format!(" {scheme}://{host}\n"), Nobody, addresses(host)));
        }
    }
    for (login, outcome) in LOGINS {
        let has_use = dialect.has_user_info || login.is_empty();
        let outcome = if has_use { *outcome } else { Refused };
        for host in &HOSTS[..2] {
            cases.push((format!("SCHEME://{login}{host}"), outcome, addresses(host)));
        }
    }
    let login = if dialect.has_user_info { "ada:s3cret@" } else { "" };
    let refused = REFUSED.iter().map(|rest| format!("SCHEME://{login}{rest}"));
    let lists = REFUSED_LISTS.iter().filter(|_| dialect.is_list).map(|&list| list.to_owned());
    let whole = REFUSED_WHOLE.iter().map(|&whole| whole.to_owned());
    cases.extend(refused.chain(lists).chain(whole).map(|url| (url, Refused, Vec::new())));
    cases
}

fn addresses(host: &str) -> Vec<IpAddr> {
    match host.starts_with('[') {
        true => vec![Ipv6Addr::LOCALHOST.into()],
        false if host.starts_with("127") => vec![Ipv4Addr::LOCALHOST.into()],
        false => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    }
}

fn is_right(
    dialect: Dialect,
    outcome: Outcome,
    addresses: &[IpAddr],
    shown: &purista_core::Result<Shown>,
) -> bool {
    let shows = |user: Option<&str>, password: Option<&str>| {
        shown.as_ref().is_ok_and(|shown| {
            addresses.contains(&shown.address)
                && (shown.user.as_deref(), shown.password.as_deref()) == (user, password)
        })
    };
    let is_refused = shown.as_ref().is_err_and(|error| {
        let told = format!("{error:?} {error}");
        error.kind() == ErrorKind::InvalidConfig && !told.contains(SECRET) && !told.contains("cret")
    });
    match outcome {
        Login(user, password) => shows(user, password),
        LoginOrRefused(user, password) => shows(user, password) || is_refused,
        Nobody => shows(dialect.nobody.0, dialect.nobody.1),
        Refused => is_refused,
    }
}
