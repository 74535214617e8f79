use std::sync::{Arc, atomic::AtomicBool};

use async_nats::{Client, Event, ServerAddr};
use purista_core::{
    Error, ErrorKind, Result,
    adapter::{Attempts, Link, ServerUrl},
};
use rand::seq::SliceRandom as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, address},
    error::{error, from_connect},
    options::{options, reconnect_delay},
    provided::Provided,
    replies::Replies,
};

/// Connects to one of the servers, in an order by chance, which spreads clients over a cluster. Each is tried by itself, as
/// the client would return whatever the last of them said.
pub(crate) async fn connect(
    config: &Config,
    link: &Link,
    events: &mpsc::Sender<Event>,
    replies: &Arc<Replies>,
    provided: &Arc<Provided>,
    was_connected: &Arc<AtomicBool>,
    closing: &CancellationToken,
) -> Result<Client> {
    let mut servers: Vec<_> = config.connection.servers.iter().enumerate().collect();
    servers.shuffle(&mut rand::rng());
    let mut failed = Vec::<(usize, &ServerUrl, Error)>::new();
    for (place, server) in servers {
        let delay = reconnect_delay(config, Arc::clone(was_connected), closing.clone());
        provided.forget();
        let options = options(config, link, events.clone(), Arc::clone(replies), provided).await?;
        let options = options.reconnect_delay_callback(delay);
        match options.connect(address(server)?).await {
            Ok(client) => {
                know_all(&client, config).await?;
                return Ok(client);
            }
            Err(cause) => {
                let none = provided.failure();
                let error = none.unwrap_or_else(|| from_connect(cause, config.connection.is_encrypted()));
                failed.push((place, server, error));
            }
        }
    }
    failed.sort_by_key(|(place, ..)| *place);
    let mut attempts = Attempts::default();
    for (_, server, error) in failed {
        attempts.failed(server, error);
    }
    Err(attempts.into_error())
}

/// Tells a client of the other servers, beside those that the first one told it of.
async fn know_all(client: &Client, config: &Config) -> Result<()> {
    if config.connection.servers.iter().len() == 1 {
        return Ok(());
    }
    let mut pool = config.connection.servers.iter().map(address).collect::<Result<Vec<ServerAddr>>>()?;
    let lost = |cause| error(ErrorKind::Unavailable, "start").with_source(cause);
    let known = client.server_pool().await.map_err(lost)?;
    let told: Vec<_> =
        known.into_iter().map(|server| server.addr).filter(|told| !pool.contains(told)).collect();
    pool.extend(told);
    client
        .set_server_pool(pool.as_slice())
        .await
        .map_err(|cause| error(ErrorKind::Unavailable, "start").with_source(cause))
}
