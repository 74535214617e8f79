//! PAY-7: numbers arrive bit for bit, and what JSON cannot say is refused.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use purista_core::{ErrorKind, HandledError, Payload};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

fn again<T: Serialize + DeserializeOwned>(value: &T) -> T {
    Payload::json(value).unwrap().deserialize().unwrap()
}

#[derive(Debug, Serialize, Deserialize)]
struct Reading {
    value: f64,
    rough: Option<f32>,
    by_name: BTreeMap<String, f64>,
    #[serde(flatten)]
    more: HashMap<String, f64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    One { value: f64 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    One((f64, f64)),
}

#[expect(clippy::excessive_precision, reason = "digits of subnormal numbers decide which one is meant")]
const HARD: [f64; 14] = [
    f64::from_bits(6_985_261_104_385_521_511),
    2.225_073_858_507_201_1e-308,
    2.225_073_858_507_201_4e-308,
    5e-324,
    -5e-324,
    f64::MAX,
    f64::MIN,
    f64::EPSILON,
    0.1 + 0.2,
    9_007_199_254_740_993.0,
    1e23,
    8.442_911_973_260_991e-309,
    9_214_843_084_008_499.0,
    6.631_236_846_766_476e-316,
];

#[test]
fn hard_numbers_keep_their_bits() {
    for number in HARD.into_iter().chain([0.0, -0.0, 1.0, -1.0]) {
        assert_eq!(again(&number).to_bits(), number.to_bits(), "{number:e}");
        let Tagged::One { value } = again(&Tagged::One { value: number });
        assert_eq!(value.to_bits(), number.to_bits(), "{number:e} in a tagged enum");
        let Untagged::One((_, value)) = again(&Untagged::One((number, number)));
        assert_eq!(value.to_bits(), number.to_bits(), "{number:e} in an untagged enum");
        let value: serde_json::Value = Payload::json(&number).unwrap().deserialize().unwrap();
        assert_eq!(value.as_f64().map(f64::to_bits), Some(number.to_bits()), "{number:e} as a value");
    }
    for number in [u64::MAX, u64::MAX - 1, 1 << 53, (1 << 53) + 1] {
        assert_eq!(again(&number), number);
        assert_eq!(again(&Some(number)), Some(number));
    }
    assert_eq!(again(&i64::MIN), i64::MIN);
    assert_eq!((again(&i128::MIN), again(&u128::MAX)), (i128::MIN, u128::MAX));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn any_double_keeps_its_bits(bits: u64) {
        let number = f64::from_bits(bits);
        prop_assume!(number.is_finite());
        prop_assert_eq!(again(&number).to_bits(), bits);
        let reading = Reading {
            value: number,
            rough: None,
            by_name: BTreeMap::from([("a".to_owned(), number)]),
            more: HashMap::from([("b".to_owned(), number)]),
        };
        let came = again(&reading);
        prop_assert_eq!([came.value, came.by_name["a"], came.more["b"]].map(f64::to_bits), [bits; 3]);
    }

    #[test]
    fn any_single_keeps_its_bits(bits: u32) {
        let number = f32::from_bits(bits);
        prop_assume!(number.is_finite());
        prop_assert_eq!(again(&number).to_bits(), bits);
        prop_assert_eq!(again(&Some((number, [number]))).map(|(one, [two])| [one.to_bits(), two.to_bits()]), Some([bits; 2]));
    }

    #[test]
    fn any_integer_is_kept(signed: i128, unsigned: u128, long: i64, natural: u64) {
        prop_assert_eq!(again(&(signed, unsigned, long, natural)), (signed, unsigned, long, natural));
    }
}

#[test]
fn what_is_too_large_for_its_type_is_refused() {
    for (text, what) in [("1e400", "f64"), ("-1e400", "f64"), ("1e39", "f32"), ("3.5e38", "f32")] {
        let payload = Payload::from_json_text(text).unwrap();
        let error = match what {
            "f64" => payload.deserialize::<f64>().unwrap_err(),
            _ => payload.deserialize::<f32>().unwrap_err(),
        };
        assert_eq!(error.kind(), ErrorKind::InvalidMessage, "{text}");
    }
}

/// Every way to hold a value that the data model of serde has.
#[derive(Serialize)]
enum Every {
    Unit,
    Newtype(f64),
    Tuple(u8, f64),
    Struct { a: u8, b: f64 },
}

#[derive(Serialize)]
struct Newtype(f32);

#[derive(Serialize)]
struct Pair(u8, f64);

#[derive(Serialize)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    more: HashMap<&'static str, f64>,
}

fn refused(value: &impl Serialize, what: &str) {
    for error in [
        Payload::json(value).expect_err(what),
        HandledError::bad_request("no").with_data(value).expect_err(what),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidMessage, "{what}: {error:?}");
        assert!(format!("{error:?}").contains("infinities"), "{what}: {error:?}");
    }
}

#[test]
fn what_json_cannot_say_is_refused_wherever_it_is() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(&number, "bare");
        #[expect(clippy::cast_possible_truncation, reason = "it is not finite as a single either")]
        let single = number as f32;
        refused(&single, "single");
        refused(&Newtype(single), "newtype");
        refused(&Some(number), "option");
        refused(&Some(Some(single)), "option of option");
        refused(&vec![1.0, number], "sequence");
        refused(&[[1.0, 2.0], [3.0, number]], "array");
        refused(&(1, "a", number), "tuple");
        refused(&Pair(1, number), "tuple struct");
        refused(&BTreeMap::from([("a", 1.0), ("b", number)]), "map");
        refused(&Flat { a: 1, more: HashMap::from([("b", number)]) }, "flattened map");
        refused(&Every::Newtype(number), "newtype variant");
        refused(&Every::Tuple(1, number), "tuple variant");
        refused(&Every::Struct { a: 1, b: number }, "struct variant");
        refused(&Tagged::One { value: number }, "tagged enum");
        refused(&Untagged::One((1.0, number)), "untagged enum");
        refused(&Ok::<_, ()>(vec![Some(BTreeMap::from([("deep", [number])]))]), "deep");
    }
}

#[test]
fn what_json_can_say_is_written_as_ever() {
    let every = (
        Every::Unit,
        Every::Newtype(1.5),
        Every::Tuple(1, 2.0),
        Every::Struct { a: 1, b: -0.0 },
        Pair(1, 1e300),
    );
    let more = (
        Some("text"),
        None::<u8>,
        (),
        'c',
        true,
        i128::MIN,
        BTreeMap::from([(1_u8, b"bytes")]),
        Newtype(0.1),
    );
    let raw = Payload::from_json_text("[1e400 , 0.10]").unwrap();
    let flat = Flat { a: 1, more: HashMap::from([("b", 2.0)]) };
    assert_eq!(Payload::json(&every).unwrap().as_str(), serde_json::to_string(&every).unwrap());
    assert_eq!(Payload::json(&more).unwrap().as_str(), serde_json::to_string(&more).unwrap());
    assert_eq!(Payload::json(&flat).unwrap().as_str(), serde_json::to_string(&flat).unwrap());
    assert_eq!(Payload::json(&raw).unwrap().as_str(), "[1e400 , 0.10]");
    let value = serde_json::json!({ "a": [1, 2.5, null, "x"], "b": {} });
    assert_eq!(Payload::json(&value).unwrap().as_str(), value.to_string());
}
