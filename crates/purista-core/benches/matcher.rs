//! One filter, a scan over many of them, and the look-up in a [`FilterIndex`].

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use purista_core::{CommandDraft, Filter, FilterIndex, Id, Message, MessageType};

const SIZES: [usize; 3] = [100, 1_000, 10_000];

/// Makes filters of one field set. Number 0 matches the [`message`], no other number does.
type MakeFilter = fn(usize) -> Filter;

const FIELD_SETS: [(&str, MakeFilter); 4] = [
    ("event", |number| Filter::event(format!("event{number}"))),
    ("tenant and event", |number| Filter::event("event0").with_tenant_id(format!("tenant{number}"))),
    ("receiver", |number| Filter::any().with_receiver(("Shop", "1", format!("target{number}")))),
    ("type", |number| match number {
        0 => Filter::message_type(MessageType::Command),
        _ => Filter::message_type(MessageType::CommandErrorResponse),
    }),
];

/// All field sets in turn.
fn mixed(number: usize) -> Filter {
    FIELD_SETS[number % FIELD_SETS.len()].1(number)
}

/// A message that has a value for each field of the filters.
fn message() -> Message {
    CommandDraft::new(("User", "1", "signUp"), ("Shop", "1", "target0"))
        .with_event_name("event0")
        .with_tenant_id("tenant0")
        .with_principal_id("ada")
        .stamp(&Id::random())
}

fn one_filter(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matcher/one filter");
    let message = message();
    for (name, filter) in FIELD_SETS {
        for (verdict, filter) in [("matches", filter(0)), ("does not match", filter(1))] {
            group.bench_function(format!("{name} {verdict}"), |bencher| {
                bencher.iter(|| black_box(&filter).matches(black_box(&message)));
            });
        }
    }
}

fn one_matches(criterion: &mut Criterion) {
    for (name, filter) in FIELD_SETS.into_iter().chain([("mixed", mixed as MakeFilter)]) {
        scan_and_look_up(criterion, &format!("matcher/one matches/{name}"), filter);
    }
}

fn all_match(criterion: &mut Criterion) {
    scan_and_look_up(criterion, "matcher/all match/event", |_| Filter::event("event0"));
}

/// Counts the matching filters among many, by a scan and by a look-up.
fn scan_and_look_up(criterion: &mut Criterion, name: &str, filter: MakeFilter) {
    let mut group = criterion.benchmark_group(name);
    let message = message();
    for size in SIZES {
        let filters: Vec<Filter> = (0..size).map(filter).collect();
        let mut index = FilterIndex::default();
        filters.iter().for_each(|filter| index.insert(filter.clone(), ()));

        group.bench_function(BenchmarkId::new("scan", size), |bencher| {
            bencher.iter(|| filters.iter().filter(|filter| filter.matches(black_box(&message))).count());
        });
        group.bench_function(BenchmarkId::new("look-up", size), |bencher| {
            bencher.iter(|| {
                let mut count = 0;
                index.for_each_match(black_box(&message), |()| count += 1);
                count
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500));
    targets = one_filter, one_matches, all_match
}
criterion_main!(benches);
