//! URLs of servers: each part is met as it is written, or refused without a word of it.

use proptest::{collection::vec, prelude::*, sample::select};
use purista_core::{
    Error, ErrorKind,
    adapter::{ServerList, ServerUrl, UrlScheme},
};
use secrecy::ExposeSecret as _;

const SCHEMES: &[UrlScheme] = &[UrlScheme::plain("amqp", 5_672), UrlScheme::encrypted("amqps", 5_671)];

/// What no error and nothing that is displayed may repeat.
const SECRET: &str = "s3cret";

fn parse(text: &str) -> Result<ServerUrl, Error> {
    let parsed = ServerUrl::parse(text, SCHEMES);
    match &parsed {
        Ok(url) => assert!(!format!("{url:?} {url}").contains(SECRET), "{url:?}"),
        Err(error) => assert_refusal(error, text),
    }
    parsed
}

fn list(text: &str) -> Result<Vec<String>, Error> {
    shown(ServerList::parse(text, SCHEMES), text)
}

fn bare(text: &str) -> Result<Vec<String>, Error> {
    shown(ServerList::parse_bare(text, SCHEMES), text)
}

fn shown(list: Result<ServerList, Error>, text: &str) -> Result<Vec<String>, Error> {
    match list {
        Ok(list) => {
            assert!(!format!("{list:?}").contains(SECRET), "{list:?}");
            Ok(list.iter().map(ToString::to_string).collect())
        }
        Err(error) => {
            assert_refusal(&error, text);
            Err(error)
        }
    }
}

fn assert_refusal(error: &Error, text: &str) {
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}");
    assert!(!format!("{error:?} {error}").contains(SECRET), "{text}: {error:?}");
}

#[test]
fn host_and_port_are_those_that_are_written() {
    let long = "a".repeat(63);
    let table = [
        ("amqp://localhost", "localhost", 5_672),
        ("amqps://localhost", "localhost", 5_671),
        ("AMQPS://Host.Example.", "Host.Example.", 5_671),
        ("amqp://my_host-1.xn--bcher-kva.example:1", "my_host-1.xn--bcher-kva.example", 1),
        ("amqp://127.0.0.1:65535", "127.0.0.1", 65_535),
        ("amqp://h:05672", "h", 5_672),
        ("amqp://1a.b2:7/", "1a.b2", 7),
        ("amqp://[::1]", "::1", 5_672),
        ("amqp://[2001:DB8:0:0::1]:7/", "2001:db8::1", 7),
        ("amqp://[::ffff:127.0.0.1]:7?", "::ffff:127.0.0.1", 7),
        ("amqp://ada:p@[::]:7", "::", 7),
        (&format!("amqp://{long}.{long}"), &format!("{long}.{long}"), 5_672),
    ];
    for (text, host, port) in table {
        let url = parse(text).expect(text);
        assert_eq!((url.host(), url.port()), (host, port), "{text}");
    }
    assert_eq!(parse("amqp://[::1]").unwrap().authority(), "[::1]");
    assert_eq!(parse("amqp://[::1]:7").unwrap().authority(), "[::1]:7");
    assert_eq!(parse("amqps://[::1]").unwrap().to_string(), "amqps://[::1]:5671");
}

#[test]
fn user_and_password_are_decoded_once() {
    let table = [
        ("", None),
        ("@", Some(("", None))),
        (":@", Some(("", Some("")))),
        ("ada@", Some(("ada", None))),
        ("ada:@", Some(("ada", Some("")))),
        (":pw@", Some(("", Some("pw")))),
        ("ada:p%40ss%3Aw%2Frd%25@", Some(("ada", Some("p@ss:w/rd%")))),
        ("ada:p:w@", Some(("ada", Some("p:w")))),
        ("a%3Ab:c@", Some(("a:b", Some("c")))),
        ("a+b:c+d%2B%20@", Some(("a+b", Some("c+d+ ")))),
        ("secret&:%26=;!$'()*@", Some(("secret&", Some("&=;!$'()*")))),
        ("%2540:%252C%2C@", Some(("%40", Some("%2C,")))),
        ("%C3%BC:%f0%9f%9a%80@", Some(("\u{fc}", Some("\u{1f680}")))),
        ("a%00b:%0a@", Some(("a\0b", Some("\n")))),
        ("-._~:~_.-@", Some(("-._~", Some("~_.-")))),
    ];
    for (written, expected) in table {
        for host in ["host", "[::1]:7"] {
            let url = parse(&format!("amqp://{written}{host}/")).expect(written);
            let read = url.user_info().map(|who| (who.user.as_str(), who.password.as_ref()));
            let read = read.map(|(user, password)| (user, password.map(|password| password.expose_secret())));
            assert_eq!(read, expected, "{written}");
            assert_eq!(url.to_string(), parse(&format!("amqp://{host}")).unwrap().to_string());
        }
    }
}

#[test]
fn path_and_query_stay_as_they_are_written() {
    for (path, query) in [
        ("", None),
        ("/", None),
        ("/", Some("")),
        ("//a//b/", None),
        ("/%2F%2f/../.", Some("a=%2B+&b=c,d;e?/:")),
        ("", Some("x")),
    ] {
        let query_part = query.map(|query| format!("?{query}")).unwrap_or_default();
        let url = parse(&format!("amqp://host{path}{query_part}")).unwrap();
        assert_eq!((url.path(), url.query()), (path, query));
    }
    let segment = |path: &str| parse(&format!("amqp://host{path}")).unwrap().path_segment();
    assert_eq!(segment("").unwrap(), None);
    assert_eq!(segment("/").unwrap(), Some(String::new()));
    assert_eq!(segment("/a%2Fb%20+").unwrap(), Some("a/b +".to_owned()));
    for path in ["//", "/a/", "/a/b", "/%FF"] {
        assert_refusal(&segment(path).unwrap_err(), path);
    }
}

#[test]
fn parameters_are_known_or_refused() {
    let read = |query: &str| {
        let parameters = parse(&format!("amqp://host?{query}")).unwrap().parameters(&["a", "b c"])?;
        let text = |name: &str| parameters.get(name).map(str::to_owned);
        Ok::<_, Error>((text("a"), text("b c")))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(read("").unwrap(), (None, None));
    assert_eq!(read("a=1+%26&b%20c=x=y").unwrap(), (some("1+&"), some("x=y")));
    assert_eq!(read("a=").unwrap(), (some(""), None));
    for query in ["a", "A=1", "c=1", "a=1&a=2", "b+c=1", "a=%FF", "a=1;b=2&c", "=1", "s3cret=s3cret"] {
        assert_refusal(&read(query).unwrap_err(), query);
    }
    let number =
        |query: &str| parse(&format!("amqp://host?{query}")).unwrap().parameters(&["a"])?.number::<u8>("a");
    assert_eq!(number("").unwrap(), None);
    assert_eq!(number("a=255").unwrap(), Some(255));
    for query in ["a=256", "a=", "a=-1", "a=%2B1", "a=1.0", "a=s3cret"] {
        assert_refusal(&number(query).unwrap_err(), query);
    }
}

#[test]
fn what_cannot_be_met_is_refused_by_the_name_of_its_part() {
    let long = format!("amqp://{}", "a".repeat(64));
    let longer = format!("amqp://{}.com", ["a".repeat(63).as_str(); 4].join("."));
    let longest = format!("amqp://host/{}", "a".repeat(1 << 16));
    #[rustfmt::skip]
    let table = [
        ("begins with amqp:// or amqps://", &["", "s3cret", "host:5672", "http://s3cret@h", "amqp:/h", "amqp:h",
            "://h", "1amqp://h", "amqpx://h", "ämqp://h", "amqp ://h", "amqp//h", "s3cret@x://h",
            ][..]),
        ("no host", &["amqp://", "amqp:///v", "amqp://:5672", "amqp://ada:s3cret@", "amqp://ada:s3cret@:1",
            "amqp://?x"]),
        ("the host of", &["amqp://h%61st", "amqp://h!", "amqp://a..b", "amqp://.a", "amqp://a b",
            "amqp://h\u{fc}", "amqp://::1", "amqp://2001:db8::1", "amqp://[::1", "amqp://::1]",
            "amqp://[::1%25lo]", "amqp://[fe80::1%lo]", "amqp://[v1.x]", "amqp://[127.0.0.1]", "amqp://[host]",
            "amqp://[::1]x", "amqp://h\\x", "amqp://h\tx", "amqp://h\nx", "amqp://..", &long, &longer]),
        ("IPv4", &["amqp://127.1", "amqp://2130706433", "amqp://0x7f.0.0.1", "amqp://0x7f000001",
            "amqp://256.0.0.1", "amqp://127.0.0.01", "amqp://127.0.0.1.", "amqp://1.2.3.4.5", "amqp://a.0X",
            "amqp://0"]),
        ("port", &["amqp://h:", "amqp://[::1]:", "amqp://h:0", "amqp://h:65536",
            "amqp://h:99999999999999999999", "amqp://h:-1", "amqp://h:+1", "amqp://h:x", "amqp://h: 1",
            "amqp://ada:s3cret", "amqp://ada:s3c/ret@h", "amqp://ada:s3cret?@h",
            "amqp://ada:s3cret#@h", "amqp://[::1]:x", "amqp://h:%31"]),
        ("user or password", &["amqp://ada:s3cret@@h", "amqp://a@b:s3cret@h", "amqp://ada:s3cret%@h",
            "amqp://%zz:s@h", "amqp://%FF@h", "amqp://ada:%ff@h", "amqp://ada:%C3@h", "amqp://a da:s3cret@h",
            "amqp://\u{fc}:s3cret@h", "amqp://ada:s3cret\n@h", "amqp://ada:s3cret\"@h", "amqp://a\\b:s@h",
            "amqp://ada:[s3cret]@h", "amqp://ada:12/s3cret@h", "amqp://ada:12?s3cret@h", "amqp://host/a@b"],
            ),
        ("%2C", &["amqp://ada:s3c,ret@h", "amqp://a,b@h", "amqp://h,s3cret@h", "amqp://a,b", "amqp://a:1,b:2",
            "amqp://a:1,"]),
        ("fragment", &["amqp://h#", "amqp://h/#s3cret", "amqp://ada:12#s3cret@h"]),
        ("behind host and port",
            &["amqp://h/\u{fc}", "amqp://h/a b", "amqp://h/%zz", "amqp://h/\\", "amqp://h?[]"],
            ),
        ("bytes", &[&longest]),
    ];
    for (part, urls) in table {
        for url in urls {
            let error = parse(url).map(|url| url.to_string()).expect_err(url);
            assert!(error.to_string().contains(part), "{url:.60}: {error}");
        }
    }
}

#[test]
fn lists_are_separated_where_a_url_begins() {
    let table = [
        ("amqp://one", vec!["amqp://one:5672"]),
        (" amqp://one\t,\n AMQP://[::1]:7 \r\n", vec!["amqp://one:5672", "amqp://[::1]:7"]),
        ("amqp://one/a,b?c,d,amqp://two", vec!["amqp://one:5672", "amqp://two:5672"]),
        (
            "amqps://ada:s3cret@one,amqps://two,amqps://ada:s3cret@three",
            vec!["amqps://one:5671", "amqps://two:5671", "amqps://three:5671"],
        ),
        ("amqp://a%2Cb:s3%2Ccret@one", vec!["amqp://one:5672"]),
    ];
    for (text, servers) in table {
        assert_eq!(list(text).expect(text), servers, "{text}");
    }
    #[rustfmt::skip]
    let broken = [
        "", " ", ",", " , ", "amqp://one,", ",amqp://one", "amqp://one,,amqp://two", "amqp://one, ,amqp://two",
        "amqp://one two", "amqp://one,two", "amqp://one;amqp://two", "amqp://one amqp://two",
            "amqp://one\u{a0}", "amqp://ada:s3cret,amqp://x@two", "amqp://ada:12,amqp://s3cret@two",
            "amqp://ada:s3,cret@one", "amqp://ada:s3cret@one,amqp://bob:s3cret@two",
            "amqp://ada:s3cret@one,amqp://ada@two", "amqp://ada:s3cret@one,amqp://ada:@two",
            "amqp://one,amqp://ada:s3cret@two", "amqp://one,amqp://@two", "amqp://one,amqps://two",
            "amqps://one,amqp://two", "amqp://one,http://two",
    ];
    for text in broken {
        list(text).map(|servers| panic!("{text}: {servers:?}")).unwrap_err();
    }
    list(&",amqp://one".repeat(100_000)).unwrap_err();
}

#[test]
fn where_schemes_may_lack_every_comma_separates() {
    let table = [
        ("one", vec!["amqp://one:5672"]),
        ("one:7, [::1],amqp://two", vec!["amqp://one:7", "amqp://[::1]:5672", "amqp://two:5672"]),
        ("amqps://ada:s3cret@one,two", vec!["amqps://one:5671", "amqps://two:5671"]),
        ("s3cret@one,s3cret@two", vec!["amqp://one:5672", "amqp://two:5672"]),
    ];
    for (text, servers) in table {
        assert_eq!(bare(text).expect(text), servers, "{text}");
    }
    for text in [
        "",
        ",",
        "one,",
        ",one",
        "one,,two",
        "one,amqps://two",
        "amqps://one,amqp://two",
        "http://one",
        "one?x=a://b",
        "amqp:one:1",
        "::1",
        "one two",
    ] {
        bare(text).map(|servers| panic!("{text}: {servers:?}")).unwrap_err();
    }
    // Half a password is never taken for a server, or for a token.
    for text in [
        "amqp://ada:s3,cret@one",
        "amqp://ada:12,s3cret@one",
        "amqp://ada:12,34,s3cret@one",
        "ada:12,s3cret@one",
        "amqp://s3,cret@one",
        "amqp://ada:s3cret@one,34@two",
        "amqp://ada:s3cret@one,two,x@three",
    ] {
        let error = bare(text).map(|servers| panic!("{text}: {servers:?}")).unwrap_err();
        assert!(error.to_string().contains("%2C"), "{text}: {error}");
    }
}

#[test]
fn settings_of_tls_need_it() {
    let check =
        |text: &str, are_there| ServerList::parse(text, SCHEMES).unwrap().check_tls_settings(are_there);
    check("amqp://one", false).unwrap();
    check("amqps://one,amqps://two", true).unwrap();
    let error = check("amqp://one", true).unwrap_err();
    assert_refusal(&error, "");
    assert!(error.to_string().contains("amqps://"), "{error}");
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn every_text_can_be_written(user in ".{0,20}", password in ".{0,20}", segment in ".{0,20}") {
        let encoded = [&user, &password, &segment].map(|text| percent_encoded(text));
        let [encoded_user, encoded_password, encoded_segment] = &encoded;
        let text = format!("amqp://{encoded_user}:{encoded_password}@host/{encoded_segment}?a={encoded_segment}");
        let url = parse(&text).unwrap();
        let who = url.user_info().unwrap();
        prop_assert_eq!(&who.user, &user);
        prop_assert_eq!(who.password.as_ref().unwrap().expose_secret(), &password);
        prop_assert_eq!(url.path_segment().unwrap().unwrap(), segment.clone());
        let parameters = url.parameters(&["a"]).unwrap();
        prop_assert_eq!(parameters.get("a"), Some(segment.as_str()));
    }

    #[test]
    fn no_text_is_half_read(parts in vec(select(vec![
        "amqp://", "amqps://", "nats://", "host", "[::1]", "127.0.0.1", "s3cret", "@", ":", ":7", "/", "?", "#", ",", " ",
        "%2C", "%40", "%", "&", "=", "+", ".", "\n", "\u{fc}", "a",
    ]), 0..12)) {
        let text = parts.concat();
        for read in [ServerList::parse(&text, SCHEMES), ServerList::parse_bare(&text, SCHEMES)] {
            match read {
                // Where it connects stands in the text, letter by letter.
                Ok(servers) => prop_assert!(servers.iter().all(|server| text.contains(server.host()))),
                Err(error) => assert_refusal(&error, &text),
            }
        }
    }
}
