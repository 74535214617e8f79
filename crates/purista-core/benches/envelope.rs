//! Decoding and encoding of messages with a payload of 256 bytes, beside a `serde_json::Value` tree and a copy.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has to stop")]

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use purista_core::{Body, CommandDraft, EventDraft, Id, Message, Payload, TraceContext};
use serde_json::{Value, json};

/// A user with a note that fills it up to 256 bytes.
fn payload() -> Payload {
    let user = |note: &str| {
        let user = json!({
            "userId": "0af7651916cd43dd8448eb211c80319c", "name": "Ada Lovelace", "email": "ada@example.com",
            "age": 36, "balance": 1234.56, "active": true, "roles": ["admin", "author"], "note": note,
        });
        Payload::json(&user).unwrap()
    };
    let filled = user(&"x".repeat(256 - user("").len()));
    assert_eq!(filled.len(), 256);
    filled
}

/// A bare event, and one message of each kind with all that can be sent along.
fn messages() -> [(&'static str, Message); 4] {
    let instance_id = Id::random();
    let bare = EventDraft::event(("User", "1", "signUp"), "userRegistered").with_payload(payload());
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = TraceContext::from_traceparent(traceparent).unwrap();
    let event = EventDraft::event(("User", "1", "signUp"), "userRegistered")
        .with_payload(payload())
        .with_tenant_id("acme")
        .with_principal_id("ada")
        .with_trace_id(Id::random())
        .with_trace_context(trace.clone())
        .stamp(&instance_id);
    let command = CommandDraft::new(("Shop", "1", "checkout"), ("User", "1", "signUp"))
        .with_payload(payload())
        .with_parameter(Payload::json(&json!({ "dryRun": false })).unwrap())
        .with_tenant_id("acme")
        .with_principal_id("ada")
        .with_trace_id(Id::random())
        .with_trace_context(trace)
        .stamp(&instance_id);
    let mut response = command.clone();
    response.body = Body::CommandSuccessResponse(Some(payload()));
    [("bare event", bare.stamp(&instance_id)), ("event", event), ("command", command), ("response", response)]
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope/decode");
    for (name, message) in messages() {
        let bytes = message.encode();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| Message::decode(black_box(&bytes).clone()).unwrap())
        });
        group.bench_function(format!("{name} as Value"), |bencher| {
            bencher.iter(|| serde_json::from_slice::<Value>(black_box(&bytes)).unwrap());
        });
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope/encode");
    for (name, message) in messages() {
        let bytes = message.encode();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&message).encode()));
        group.bench_function(format!("{name} as copy"), |bencher| {
            bencher.iter(|| Bytes::copy_from_slice(black_box(&bytes)));
        });
    }
}

/// What a payload that is full of numbers costs in the typed API, beside bare `serde_json`.
fn numbers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope/numbers");
    let measured: Vec<f64> = (1..=64_u32).map(|number| f64::from(number).sqrt() * 1e3).collect();
    let prices: Vec<f64> = (1..=64_u32).map(|number| f64::from(number * 1_999) / 100.0).collect();
    for (name, values) in [("64 measured values", measured), ("64 prices", prices)] {
        let payload = Payload::json(&values).unwrap();
        group.bench_function(format!("{name}, encode"), |bencher| {
            bencher.iter(|| Payload::json(black_box(&values)).unwrap());
        });
        group.bench_function(format!("{name}, encode by serde_json"), |bencher| {
            bencher.iter(|| serde_json::to_string(black_box(&values)).unwrap());
        });
        group.bench_function(format!("{name}, decode"), |bencher| {
            bencher.iter(|| black_box(&payload).deserialize::<Vec<f64>>().unwrap());
        });
    }
    let payload = payload();
    let user: Value = payload.deserialize().unwrap();
    group.bench_function("user, encode", |bencher| bencher.iter(|| Payload::json(black_box(&user)).unwrap()));
    group.bench_function("user, encode by serde_json", |bencher| {
        bencher.iter(|| serde_json::to_string(black_box(&user)).unwrap());
    });
    group.bench_function("user, decode", |bencher| {
        bencher.iter(|| black_box(&payload).deserialize::<Value>().unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = decode, encode, numbers
}
criterion_main!(benches);
