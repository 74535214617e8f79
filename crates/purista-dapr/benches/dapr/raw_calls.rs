//! Requests and replies of the raw side.

use std::sync::Arc;

use axum::{Router, routing::post};
use bytes::Bytes;
use purista_integration_tests::bench::{Contender, Stage};
use reqwest::header::HeaderMap;

use crate::{
    client::{self, Caller, until_ready},
    place::{Beside, RAW},
    server,
};

/// What a raw contender sends and gets.
#[derive(Clone, Debug)]
pub(crate) struct RawCall {
    pub(crate) name: &'static str,
    /// The path at the app, with a leading slash.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) request: Bytes,
    pub(crate) reply: Bytes,
}

impl RawCall {
    /// Sends just these bytes, on a short path.
    pub(crate) fn bare(name: &'static str, payload: &Bytes) -> Self {
        let (request, reply) = (payload.clone(), payload.clone());
        Self { name, path: "/echo".to_owned(), headers: client::json(), request, reply }
    }
}

/// Adds callers beside one sidecar, and the app of all of them beside another one: many calls in flight, or one by one.
pub(crate) async fn add(
    stage: &mut Stage,
    caller: &str,
    app: Beside,
    in_flight: usize,
    calls: Vec<RawCall>,
) -> anyhow::Result<()> {
    let router = calls.iter().fold(Router::new(), |router, RawCall { path, reply, .. }| {
        let reply = reply.clone();
        router.route(path, post(async move |_request: Bytes| server::json(reply)))
    });
    stage.keep_task(server::serve(app.app_port, router).await?);
    until_ready(&app.url).await?;
    for RawCall { name, path, headers, request, .. } in calls {
        let url = format!("{caller}/v1.0/invoke/{RAW}/method{path}");
        let caller = Arc::new(Caller::new(&url, headers, request)?);
        stage.add(Contender::of_calls(name, in_flight, move || {
            let caller = Arc::clone(&caller);
            async move { caller.call().await }
        }));
    }
    Ok(())
}
