//! What probes and Prometheus see of a process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what does not answer as it should fails the test")]

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use purista::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};

/// Asks for a path, and returns the status and what comes with it.
async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Returns the value of the only line that begins with a name and has these labels.
fn value(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let is_it = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    let lines: Vec<_> = metrics.lines().filter(is_it).collect();
    let [line] = lines[..] else { panic!("{name} {labels:?}: {lines:?} of\n{metrics}") };
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Each metric that the board for Grafana shows is there.
fn the_board_asks_for_what_there_is(metrics: &str) {
    let board = include_str!("../../../docs/observe/purista.json");
    let board: serde_json::Value = serde_json::from_str(board).unwrap();
    let targets =
        board["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut names = BTreeSet::new();
    for target in targets {
        let query = target["expr"].as_str().unwrap();
        let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let known = ["messaging_destination_name", "messaging_operation_name"];
        let is_name = |word: &&str| word.starts_with("purista_") || word.starts_with("messaging_");
        names.extend(words.filter(is_name).filter(|word| !known.contains(word)));
    }
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let is_it = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        assert!(metrics.lines().any(is_it), "{name} is not in\n{metrics}");
    }
}

// One test: the recorder is the process's.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_seen_from_its_start_to_its_end() {
    let bridge = purista::connect("default").unwrap();
    let observer = purista::observe(&bridge, ([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = observer.address();
    assert_ne!(address.port(), 0);

    // Before the start it lives, and is not ready.
    assert_eq!(ask(address, "GET /livez").await.0, 200);
    let (status, body) = ask(address, "GET /readyz").await;
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &health["state"], &health["connected"]), (503, &"created".into(), &false.into()));

    let goes_on = Arc::new(Notify::new());
    let told = Arc::clone(&goes_on);
    let work = Service::new("Work", "1")
        .command("wait", move |_: Context, number: u32| {
            let told = Arc::clone(&told);
            async move {
                told.notified().await;
                Ok(number)
            }
        })
        .command("double", |_: Context, number: u32| async move {
            if number == 0 {
                return Err(HandledError::bad_request("nothing to double").into());
            }
            Ok(2 * number)
        })
        .subscription("read", Filter::event("happened"), |_: Context, _: u32| async { Ok(()) });
    bridge.serve([work]).await.unwrap();
    for number in 0..3 {
        let _answer = bridge.invoke::<u32>(("Work", "1", "double"), &number).await;
    }
    bridge.invoke::<u32>(("Work", "1", "other"), &1).await.unwrap_err();
    // Its caller waits no longer.
    assert!(bridge.invoke::<u32>(("Work", "1", "wait"), &1).now_or_never().is_none());
    goes_on.notify_one();
    bridge.emit("happened", &1).await.unwrap();
    let handled = async {
        while bridge.stats().handled == 0 || bridge.stats().in_hand > 0 {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(30), handled).await.unwrap();

    let (status, body) = ask(address, "GET /readyz").await;
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &health["state"], &health["notConsuming"]),
        (200, &"started".into(), &serde_json::json!([]))
    );
    let (status, metrics) = ask(address, "GET /metrics").await;
    assert_eq!(status, 200);
    let [invoke, emit] = ["messaging_operation_name=\"invoke\"", "messaging_operation_name=\"emit\""];
    let client = "messaging_client_operation_duration_seconds_count";
    let of_error = |error: &str| value(&metrics, client, &[invoke, &format!("error_type=\"{error}\"")]);
    let failed = ["handled_error", "no_handler", "cancelled"].map(of_error);
    assert_eq!(failed, [1.0; 3]);
    assert_eq!(value(&metrics, client, &[emit]), 1.0);
    let process = "messaging_process_duration_seconds_count";
    let double = "messaging_destination_name=\"Work v1 double\"";
    assert_eq!(value(&metrics, process, &[double, "outcome=\"success\""]), 2.0);
    assert_eq!(value(&metrics, process, &[double, "outcome=\"handled_error\""]), 1.0);
    assert_eq!(value(&metrics, process, &["messaging_destination_name=\"Work v1 read\""]), 1.0);
    let default = "bridge=\"default\"";
    assert_eq!(value(&metrics, "purista_invoked_total", &[default]), 5.0);
    // Nothing of it happened, and it is there.
    assert_eq!(value(&metrics, "purista_dead_lettered_total", &[default]), 0.0);
    assert_eq!(value(&metrics, "purista_in_hand", &[default]), 0.0);
    assert_eq!(value(&metrics, "purista_connected", &[default]), 1.0);

    the_board_asks_for_what_there_is(&metrics);

    assert_eq!(ask(address, "GET /other").await.0, 404);
    assert_eq!(ask(address, "POST /metrics").await.0, 405);

    // A second one shows the same; an address that is taken is told.
    let second = purista::observe(&bridge, ([127, 0, 0, 1], 0).into()).await.unwrap();
    assert_eq!(ask(second.address(), "GET /metrics").await.0, 200);
    let error = purista::observe(&bridge, address).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("cannot listen"), "{error}");
    second.close().await;

    assert!(bridge.shutdown(Duration::from_secs(10)).await.is_clean());
    for path in ["GET /livez", "GET /readyz"] {
        assert_eq!(ask(address, path).await.0, 503, "{path}");
    }
    observer.close().await;
    assert_eq!(Arc::strong_count(&bridge), 1);
}
