//! What operators see of a process: probes and metrics over HTTP.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    thread,
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
    routing::get,
};
use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use purista_cloudevents::{Server, json};
use purista_core::{BridgeState, Error, ErrorKind, EventBridge, Health, Result};
use tokio::{runtime::Handle, time::timeout};

/// How often what was recorded is summed up, if nobody asks for it: each sample is kept until then.
const UPKEEP: Duration = Duration::from_secs(1);

/// How long an observer that closes waits for who is asking.
const CLOSING: Duration = Duration::from_secs(1);

/// How long who asks may take for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The upper bounds of what histograms count, in seconds: from a call within a process to the default time limit of one.
const BUCKETS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// What is observed: each observer shows all of it.
static BRIDGES: Mutex<Vec<Weak<dyn EventBridge>>> = Mutex::new(Vec::new());

/// The recorder of this process; `None` if somebody else has installed another one.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// What answers probes and shows metrics, as long as it lives.
#[derive(Debug)]
#[must_use = "nothing answers after it is dropped"]
pub struct Observer(Server);

/// Answers the probes of Kubernetes and the like, and shows metrics to Prometheus, over HTTP on this address.
///
/// | path | answers |
/// |---|---|
/// | `/livez` | 200 until the bridge has shut down, then 503: restart the process |
/// | `/readyz` | 200 while the bridge is started, connected, and everything that is registered consumes, otherwise 503; the JSON names what does not consume, and why there is no connection |
/// | `/metrics` | the text format of Prometheus: all that the process records through the `metrics` facade, and what the bridge does now |
///
/// The first observer of a process installs the recorder. Call it before the bridge starts, as a bridge records with what is
/// installed then. Where another recorder is installed already, it has the metrics, and `/metrics` answers 501.
///
/// Whoever reaches the address can read it: listen to one that only operators reach. It needs a runtime with `enable_io`.
///
/// ```
/// use purista::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bridge = purista::connect("default")?;
/// let observer = purista::observe(&bridge, ([127, 0, 0, 1], 0).into()).await?;
/// println!("metrics at http://{}/metrics", observer.address());
/// let end = async { /* what the process waits for */ };
/// let report = purista::run_until(bridge, [], end, purista::DRAIN_TIME).await?;
/// observer.close().await;
/// # assert!(report.is_clean());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Unavailable`](ErrorKind::Unavailable) if the address cannot be listened to, [`Unexpected`](ErrorKind::Unexpected) if the
/// recorder cannot be set up, and outside of a runtime.
///
/// # Cancel safety
///
/// Cancel safe.
pub async fn observe(bridge: &Arc<dyn EventBridge>, address: SocketAddr) -> Result<Observer> {
    // Without a runtime, tokio panics.
    let _runtime = Handle::try_current().map_err(unexpected)?;
    let recorder = recorder()?;
    bridges().push(Arc::downgrade(bridge));
    let [live, ready] = [(); 2].map(|()| Arc::clone(bridge));
    let router = Router::new()
        .route(
            "/livez",
            get(async move || probed(&live.health(), |health| health.state != BridgeState::ShutDown)),
        )
        .route(
            "/readyz",
            get(async move || probed(&ready.health(), |health| health.is_ready() && health.is_healthy())),
        )
        .route("/metrics", get(async move || metrics(recorder)));
    Server::open(address, router, HEADER_TIMEOUT).await.map(Observer)
}

impl Observer {
    /// Returns where it listens: the port that the system chose if it was to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Answers who is asking, for 1 s at the most, and nobody any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts off who is asking.
    pub async fn close(self) {
        let _cut_off = timeout(CLOSING, self.0.close()).await;
    }
}

fn bridges() -> MutexGuard<'static, Vec<Weak<dyn EventBridge>>> {
    BRIDGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Installs the recorder of this process, once.
fn recorder() -> Result<Option<&'static PrometheusHandle>> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if RECORDER.get().is_none() {
        let installed = install()?;
        RECORDER.get_or_init(|| installed);
    }
    Ok(RECORDER.get().and_then(Option::as_ref))
}

fn install() -> Result<Option<PrometheusHandle>> {
    let builder = PrometheusBuilder::new().with_recommended_naming(true);
    let durations = Matcher::Prefix("messaging.".to_owned());
    let recorder = builder.set_buckets_for_metric(durations, &BUCKETS).map_err(unexpected)?.build_recorder();
    let (handle, summed_up) = (recorder.handle(), recorder.handle());
    if metrics::set_global_recorder(recorder).is_err() {
        return Ok(None);
    }
    describe_gauge!("purista_in_hand", "Messages that are being handled or wait for their next attempt");
    describe_gauge!("purista_pending_calls", "Calls that wait for their answer");
    describe_gauge!("purista_not_consuming", "Registrations that should be consuming and are not");
    describe_gauge!("purista_connected", "1 while the bridge is connected to its broker, otherwise 0");
    // As long as the process: others may record when no observer and no runtime is left.
    let upkeep = move || loop {
        thread::sleep(UPKEEP);
        summed_up.run_upkeep();
    };
    if let Err(error) = thread::Builder::new().name("purista-metrics".to_owned()).spawn(upkeep) {
        tracing::warn!(%error, "metrics are summed up only when somebody asks for them");
    }
    Ok(Some(handle))
}

fn unexpected(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unexpected, "observe").with_source(cause)
}

fn probed(health: &Health, is_well: impl FnOnce(&Health) -> bool) -> Response {
    let state = match health.state {
        BridgeState::Created => "created",
        BridgeState::Starting => "starting",
        BridgeState::Started => "started",
        BridgeState::Draining => "draining",
        _ => "shutDown",
    };
    let not_consuming: Vec<_> = health.not_consuming.iter().map(ToString::to_string).collect();
    let body = serde_json::json!({
        "state": state,
        "connected": health.connected,
        "notConsuming": not_consuming,
        "reason": health.reason,
    });
    let status = if is_well(health) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, body.to_string())
}

fn metrics(recorder: Option<&PrometheusHandle>) -> Response {
    let (status, text) = match recorder {
        Some(recorder) => {
            // Those that are gone were shown as they were after their end.
            bridges().retain(|bridge| bridge.upgrade().inspect(|bridge| show(&**bridge)).is_some());
            (StatusCode::OK, recorder.render())
        }
        None => {
            (StatusCode::NOT_IMPLEMENTED, "another recorder of this process has the metrics\n".to_owned())
        }
    };
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}

/// Records what the bridge does now.
fn show(bridge: &dyn EventBridge) {
    let (stats, health) = (bridge.stats(), bridge.health());
    let record = |name: &'static str, value: usize| {
        let labels =
            [("bridge", bridge.name().to_owned()), ("instance_id", bridge.instance_id().to_string())];
        #[expect(clippy::cast_precision_loss, reason = "no process has so many")]
        gauge!(name, &labels).set(value as f64);
    };
    record("purista_in_hand", stats.in_hand);
    record("purista_pending_calls", stats.pending_calls);
    record("purista_not_consuming", health.not_consuming.len());
    record("purista_connected", health.connected.into());
}
