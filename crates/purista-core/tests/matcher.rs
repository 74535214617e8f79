//! The matcher against an oracle that knows nothing but the JSON of a message, and the index against the matcher.

use std::collections::BTreeSet;

use allocation_counter::measure;
use proptest::{collection::vec, option, prelude::*, sample::select};
use purista_core::{
    CommandDraft, ErrorKind, EventDraft, Filter, FilterIndex, Id, Message, MessageType, Name, PartyFilter,
};
use serde_json::Value;

const FIELDS: usize = 12;

/// Where a message's JSON has the value of each field of a filter.
const POINTERS: [&str; FIELDS] = [
    "/messageType",
    "/eventName",
    "/principalId",
    "/tenantId",
    "/sender/serviceName",
    "/sender/serviceVersion",
    "/sender/serviceTarget",
    "/sender/instanceId",
    "/receiver/serviceName",
    "/receiver/serviceVersion",
    "/receiver/serviceTarget",
    "/receiver/instanceId",
];

/// What the messages of these tests have there; the type differs by class.
const VALUES: [&str; FIELDS] = [
    "",
    "stockLow",
    "clerk-9",
    "north branch",
    "Warehouse",
    "3",
    "watch",
    "0af7651916cd43dd8448eb211c80319c",
    "Counter",
    "2",
    "ask",
    "desk-1",
];

/// Values that differ from those only a little.
const NEAR_MISSES: [&str; FIELDS] = [
    "infoServiceDrain",
    "StockLow",
    "clerk_9",
    "north  branch",
    "Warehouse ",
    "3.0",
    "watc",
    "0AF7651916CD43DD8448EB211C80319C",
    "counter",
    "",
    "ask\0",
    "desk-11",
];

/// One type of each kind of message.
const CLASSES: [MessageType; 5] = [
    MessageType::Command,
    MessageType::CommandSuccessResponse,
    MessageType::CommandErrorResponse,
    MessageType::CustomMessage,
    MessageType::InfoServiceReady,
];

/// What a filter wants, by field.
type Wanted = [Option<&'static str>; FIELDS];

/// What a message has, by field.
type Has = [Option<String>; FIELDS];

fn oracle(wanted: &Wanted, has: &Has) -> bool {
    wanted.iter().zip(has).all(|(wanted, has)| wanted.is_none() || *wanted == has.as_deref())
}

fn filter(wanted: &Wanted) -> Filter {
    let name = |field: usize| wanted[field].map(Name::from);
    let party = |first: usize| {
        let mut party = PartyFilter::any();
        party.service_name = name(first);
        party.service_version = name(first + 1);
        party.service_target = name(first + 2);
        party.instance_id = wanted[first + 3].map(Id::from);
        party
    };
    let mut filter = Filter::any().with_sender(party(4)).with_receiver(party(8));
    filter.message_type =
        wanted[0].and_then(|wire| MessageType::ALL.iter().copied().find(|t| t.as_str() == wire));
    filter.event_name = name(1);
    filter.principal_id = name(2);
    filter.tenant_id = name(3);
    filter
}

/// Returns a message of this class: with all fields, or with only those that it cannot do without.
#[expect(clippy::panic, reason = "a test fails by panicking")]
fn message(class: MessageType, full: bool) -> (Message, Has) {
    let mut json = serde_json::json!({ "messageType": class.as_str(), "correlationId": "c-1" });
    for (field, pointer) in POINTERS.iter().enumerate().skip(1) {
        let needs_receiver = class.is_response() || class == MessageType::Command;
        let needed = matches!(field, 4..=7) || needs_receiver && matches!(field, 8..=10);
        if full || needed {
            match pointer[1..].split_once('/') {
                Some((party, key)) => json[party][key] = VALUES[field].into(),
                None => json[&pointer[1..]] = VALUES[field].into(),
            }
        }
    }
    let has = POINTERS.map(|pointer| json.pointer(pointer).and_then(Value::as_str).map(str::to_owned));
    (Message::decode(json.to_string()).unwrap_or_else(|error| panic!("{error:?}: {json}")), has)
}

fn messages() -> impl Iterator<Item = (Message, Has)> {
    CLASSES.into_iter().flat_map(|class| [true, false].map(|full| message(class, full)))
}

/// Every set of fields of a filter, each with all values equal to those of this class of message, and with each
/// single one almost equal.
fn every_wanted(class: MessageType) -> impl Iterator<Item = Wanted> {
    (0..1_u32 << FIELDS).flat_map(move |set| {
        (0..=FIELDS).map(move |variant| {
            std::array::from_fn(|field| {
                let equal = if field == 0 { class.as_str() } else { VALUES[field] };
                let value = if field + 1 == variant { NEAR_MISSES[field] } else { equal };
                (set & 1 << field != 0).then_some(value)
            })
        })
    })
}

#[test]
fn every_set_of_fields_matches_as_the_oracle_says() {
    let mut cases = 0;
    let mut matches = 0;
    for (message, has) in messages() {
        for wanted in every_wanted(message.message_type()) {
            let expected = oracle(&wanted, &has);
            assert_eq!(filter(&wanted).matches(&message), expected, "{wanted:?} on {has:?}");
            cases += 1;
            matches += u32::from(expected);
        }
    }
    assert_eq!(cases, 2 * 266_240);
    // A full message matches a set of n fields in the equal variant and in the 12 - n that change nothing.
    let of_full_message: u32 = (0..1_u32 << FIELDS).map(|set| 1 + FIELDS as u32 - set.count_ones()).sum();
    assert!(matches > 5 * of_full_message, "{matches}");
}

#[test]
fn the_index_finds_what_matches_among_all_sets_of_fields() {
    let wanted: Vec<Wanted> = every_wanted(MessageType::Command).collect();
    let mut index = FilterIndex::default();
    for (number, wanted) in wanted.iter().enumerate() {
        index.insert(filter(wanted), number);
    }
    assert_eq!(index.len(), wanted.len());
    for (message, has) in messages() {
        let mut found = Vec::new();
        index.for_each_match(&message, |number| found.push(*number));
        found.sort_unstable();
        let expected: Vec<usize> =
            (0..wanted.len()).filter(|number| oracle(&wanted[*number], &has)).collect();
        assert_eq!(found, expected, "{has:?}");
    }
}

#[test]
fn values_are_compared_byte_by_byte() {
    let pairs = [
        ("acme-1", "acme_1"),
        ("acme-1", "Acme-1"),
        ("acme", "acme "),
        ("acme", "acme\0"),
        ("é", "e\u{301}"),
        ("ﬁ", "fi"),
        ("ß", "ss"),
        ("1", "1.0"),
        ("K", "\u{212a}"),
        ("none", "None"),
        ("*", "acme"),
        ("+", "acme"),
        ("#", "acme"),
        (">", "acme"),
        ("日本", "日本語"),
        ("0AF7651916CD43DD8448EB211C80319C", "0af7651916cd43dd8448eb211c80319c"),
    ];
    for (wanted, value) in pairs {
        let draft = |value: &str| {
            EventDraft::event((value, value, value), value)
                .with_principal_id(value)
                .with_tenant_id(value)
                .with_receiver((value, value, value))
                .stamp(&Id::from(value))
        };
        let filters = [
            Filter::event(wanted),
            Filter::any().with_principal_id(wanted),
            Filter::any().with_tenant_id(wanted),
            Filter::any().with_sender(PartyFilter::any().with_service_name(wanted)),
            Filter::any().with_sender(PartyFilter::any().with_service_version(wanted)),
            Filter::any().with_sender(PartyFilter::any().with_service_target(wanted)),
            Filter::any().with_sender(PartyFilter::any().with_instance_id(wanted)),
            Filter::any().with_receiver(PartyFilter::any().with_service_name(wanted)),
            Filter::any().with_receiver(PartyFilter::any().with_service_version(wanted)),
            Filter::any().with_receiver(PartyFilter::any().with_service_target(wanted)),
        ];
        for filter in filters {
            assert!(filter.matches(&draft(wanted)), "{filter:?}");
            assert!(!filter.matches(&draft(value)), "{filter:?} takes {value}");
        }
    }
}

#[test]
fn a_whole_address_is_a_filter_of_its_parts() {
    let filter = Filter::message_type(MessageType::Command).with_receiver(("Warehouse", "3", "reserve"));
    let to = |target: &str| {
        CommandDraft::new(("Counter", "2", "order"), ("Warehouse", "3", target)).stamp(&Id::random())
    };
    assert!(filter.matches(&to("reserve")));
    assert!(!filter.matches(&to("count")));
    let event = EventDraft::event(("Counter", "2", "order"), "ordered").stamp(&Id::random());
    assert!(!filter.matches(&event));
    assert!(Filter::any().matches(&event));
}

#[test]
fn values_that_no_message_can_have_are_refused() {
    const MAX: usize = 8;
    for field in 1..FIELDS {
        for (value, refused) in
            [("", true), ("12345678", false), ("123456789", true), ("äöüß", false), ("äöüß1", true)]
        {
            let mut wanted: Wanted = [None; FIELDS];
            wanted[field] = Some(value);
            let verdict = filter(&wanted).validate(MAX).map_err(|error| error.kind());
            let expected = if refused { Err(ErrorKind::InvalidMessage) } else { Ok(()) };
            assert_eq!(verdict, expected, "{} = {value:?}", POINTERS[field]);
        }
    }
    assert!(Filter::any().validate(MAX).is_ok());
    assert!(Filter::message_type(MessageType::Command).validate(MAX).is_ok());
}

/// A change of an index.
#[derive(Clone, Debug)]
enum Change {
    Insert(Wanted),
    /// Removes the filter at this position of those that are there, or one that is not.
    Remove(usize),
}

fn wanted() -> impl Strategy<Value = Wanted> {
    // Few values and few fields, so that filters often share their values or just their set of fields.
    let fields: [_; FIELDS] = std::array::from_fn(|field| {
        let values = if field == 0 {
            vec!["customMessage", "command"]
        } else {
            vec![VALUES[field], NEAR_MISSES[field]]
        };
        option::weighted(0.2, select(values))
    });
    fields
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![3 => wanted().prop_map(Change::Insert), 2 => (0..40_usize).prop_map(Change::Remove)]
}

proptest! {
    #[test]
    fn the_index_follows_every_change(changes in vec(change(), 1..60)) {
        let messages: Vec<(Message, Has)> = messages().collect();
        let mut index = FilterIndex::default();
        let mut reference: Vec<(Wanted, usize)> = Vec::new();
        for (number, change) in changes.into_iter().enumerate() {
            match change {
                Change::Insert(wanted) => {
                    index.insert(filter(&wanted), number);
                    reference.push((wanted, number));
                }
                Change::Remove(position) if position < reference.len() => {
                    let (wanted, number) = reference.swap_remove(position);
                    prop_assert_eq!(index.remove(&filter(&wanted), |known| *known == number), Some(number));
                    prop_assert_eq!(index.remove(&filter(&wanted), |known| *known == number), None);
                }
                Change::Remove(_) => prop_assert_eq!(index.remove(&Filter::event("never inserted"), |_| true), None),
            }
            prop_assert_eq!((index.len(), index.is_empty()), (reference.len(), reference.is_empty()));
            for (message, has) in &messages {
                let mut found = BTreeSet::new();
                let mut twice = false;
                index.for_each_match(message, |number| twice |= !found.insert(*number));
                prop_assert!(!twice);
                let matching = reference.iter().filter(|(wanted, _)| filter(wanted).matches(message));
                prop_assert_eq!(found, matching.map(|(_, number)| *number).collect::<BTreeSet<_>>(), "{:?}", has);
            }
        }
    }
}

#[test]
fn looking_up_among_10_000_filters_does_not_allocate() {
    let (message, _) = message(MessageType::CustomMessage, true);
    let mut index = FilterIndex::default();
    for number in 0..10_000 {
        let name = format!("an event with a name that is not stored in place {number}");
        let filter = match number % 5 {
            0 => Filter::event(name),
            1 => Filter::event("stockLow").with_tenant_id(name),
            2 => Filter::any().with_sender((name, "3", "watch")),
            3 => Filter::any().with_receiver(PartyFilter::any().with_instance_id(name)),
            _ => Filter::event("stockLow").with_principal_id("clerk-9").with_sender(("Warehouse", "3", name)),
        };
        index.insert(filter, number);
    }
    let mut found = Vec::with_capacity(2);
    let allocations = measure(|| index.for_each_match(&message, |number| found.push(*number)));
    assert_eq!((allocations.count_total, found.as_slice()), (0, &[][..]));

    index.insert(Filter::event("stockLow").with_tenant_id("north branch"), 10_000);
    index.insert(Filter::any(), 10_001);
    let allocations = measure(|| index.for_each_match(&message, |number| found.push(*number)));
    found.sort_unstable();
    assert_eq!((allocations.count_total, found.as_slice()), (0, &[10_000, 10_001][..]));
    // The counter counts.
    assert_ne!(measure(|| drop(std::hint::black_box(vec![1]))).count_total, 0);
}
