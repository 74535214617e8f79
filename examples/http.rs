//! A web server whose handlers invoke commands, and answer with what they say.
//!
//! ```text
//! cargo run --example http --features http
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, sync::Arc};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use purista::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

async fn greet(_context: Context, name: String) -> Result<String, HandlerError> {
    if name == "nobody" {
        return Err(HandledError::not_found("nobody is not here").into());
    }
    Ok(format!("Hello, {name}!"))
}

/// The status of a handled error is one of HTTP.
async fn greeting(
    State(bridge): State<Arc<dyn EventBridge>>,
    Path(name): Path<String>,
) -> (StatusCode, String) {
    match bridge.invoke::<String>(("Greeter", "1", "greet"), &name).await {
        Ok(text) => (StatusCode::OK, text),
        Err(InvokeError::Handled(error)) => {
            let status = StatusCode::from_u16(error.status().as_u16());
            (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error.message().to_owned())
        }
        Err(_) => (StatusCode::BAD_GATEWAY, "try again later".to_owned()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bridge = purista::connect("default")?;
    bridge.serve([Service::new("Greeter", "1").command("greet", greet)]).await?;

    let app = Router::new().route("/greet/{name}", get(greeting)).with_state(Arc::clone(&bridge));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (end, ended) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(ended.await) });
    let server = tokio::spawn(server.into_future());

    // A browser, in short.
    for name in ["Ada", "nobody"] {
        let mut connection = TcpStream::connect(address).await?;
        let request = format!("GET /greet/{name} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        connection.read_to_string(&mut response).await?;
        let (first, last) = (response.lines().next(), response.lines().last());
        println!("{} {}", first.unwrap_or_default(), last.unwrap_or_default());
    }

    // The server first, as its handlers use the bridge.
    drop(end);
    server.await??;
    bridge.shutdown(purista::DRAIN_TIME).await;
    Ok(())
}
