//! A real Mosquitto that is ended, killed, started again and wiped.

use std::{
    fs,
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use purista_conformance::{BrokerCertificate, ClientCertificate};
use purista_integration_tests::{
    Certificates,
    mosquitto::{MosquittoConfig, MosquittoServer},
};
use rumqttc::{
    AsyncClient, Broker, Event, EventLoop, Incoming, MqttOptions, PublishOptions, QoS, TlsConfiguration,
    Transport,
};
use tokio::time::{interval, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// A client, and what drives it.
struct Connected(AsyncClient, EventLoop);

impl Connected {
    async fn new(options: MqttOptions) -> anyhow::Result<Self> {
        let (client, events) = AsyncClient::builder(options).build();
        let mut connected = Self(client, events);
        connected.until(|event| matches!(event, Incoming::ConnAck(_))).await?;
        Ok(connected)
    }

    /// Connects with a session that is kept.
    async fn kept(server: &MosquittoServer, name: &str) -> anyhow::Result<Self> {
        let mut options = options(server, name);
        options.set_clean_start(false).set_session_expiry_interval(Some(3600));
        Self::new(options).await
    }

    async fn until(&mut self, is_it: fn(&Incoming) -> bool) -> anyhow::Result<()> {
        let came = async {
            loop {
                if matches!(self.1.poll().await?, Event::Incoming(packet) if is_it(&packet)) {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(PATIENCE, came).await?
    }

    async fn subscribe(&mut self, filter: &str) -> anyhow::Result<()> {
        self.0.subscribe(filter, QoS::AtLeastOnce).await?;
        self.until(|event| matches!(event, Incoming::SubAck(_))).await
    }

    async fn publish(&mut self, topic: &str, messages: usize) -> anyhow::Result<()> {
        for _ in 0..messages {
            self.0.publish(topic, "x", PublishOptions::at_least_once()).await?;
            self.until(|event| matches!(event, Incoming::PubAck(_))).await?;
        }
        Ok(())
    }
}

fn options(server: &MosquittoServer, name: &str) -> MqttOptions {
    let address = server.address();
    MqttOptions::new(name, Broker::tcp(address.ip().to_string(), address.port()))
}

/// Waits until the server noticed that clients left.
async fn until_connected(server: &MosquittoServer, wanted: &[&str]) -> anyhow::Result<()> {
    let began = Instant::now();
    while server.clients()? != wanted {
        ensure!(began.elapsed() < PATIENCE, "{:?}, not {wanted:?}", server.clients()?);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn subscriptions(server: &MosquittoServer) -> anyhow::Result<Vec<String>> {
    let subscriptions = server.subscriptions()?.into_iter();
    Ok(subscriptions.map(|subscription| format!("{} {}", subscription.client, subscription.filter)).collect())
}

async fn keep(server: &MosquittoServer, messages: usize) -> anyhow::Result<()> {
    Connected::kept(server, "keeper").await?.subscribe("kept/#").await?;
    Connected::new(options(server, "publisher")).await?.publish("kept/1", messages).await?;
    until_connected(server, &[]).await
}

#[tokio::test]
async fn data_outlive_the_process_until_they_are_wiped() -> anyhow::Result<()> {
    let server = MosquittoServer::start(MosquittoConfig::stock()).await?;
    keep(&server, 10).await?;
    let process = server.process();
    let first = process.id().context("does not run")?;

    process.terminate().await?;
    process.terminate().await.unwrap_err();
    ensure!(process.id().is_none());
    std::net::TcpStream::connect(server.address()).unwrap_err();
    process.start_again().await?;
    ensure!(process.id().context("does not run")? != first);
    ensure!(server.queued().await? == 10);
    ensure!(subscriptions(&server)? == ["keeper kept/#"]);

    process.wipe().await.unwrap_err();
    process.start_again().await.unwrap_err();
    process.kill().await?;
    process.wipe().await?;
    process.start_again().await?;
    ensure!(server.queued().await? == 0);
    ensure!(subscriptions(&server)?.is_empty());

    let folder = process.folder().to_owned();
    drop(server);
    ensure!(!folder.exists());
    Ok(())
}

/// Waits until the broker has saved what it has now.
async fn until_saved(server: &MosquittoServer) -> anyhow::Result<()> {
    let log = server.process().folder().join("log");
    let saves = || anyhow::Ok(fs::read_to_string(&log)?.matches("Saving in-memory database").count());
    // One may be under way.
    let wanted = saves()? + 2;
    timeout(PATIENCE, async {
        let mut poll = interval(Duration::from_millis(20));
        while saves()? < wanted {
            poll.tick().await;
        }
        Ok(())
    })
    .await
    .context("it does not save")?
}

#[tokio::test]
async fn a_kill_loses_all_as_debian_configures_it_and_what_was_not_saved_as_we_do() -> anyhow::Result<()> {
    for (config, kept) in [(MosquittoConfig::stock(), 0), (MosquittoConfig::tuned(), 200)] {
        let server = MosquittoServer::start(config).await?;
        keep(&server, 200).await?;
        if kept > 0 {
            until_saved(&server).await?;
        }
        server.process().kill().await?;
        server.process().start_again().await?;
        let found = server.queued().await?;
        ensure!(found == kept, "{found}, not {kept}");
        ensure!(subscriptions(&server)?.len() == usize::from(found > 0));
    }
    Ok(())
}

#[tokio::test]
async fn a_session_that_starts_clean_does_not_outlive_the_process() -> anyhow::Result<()> {
    let server = MosquittoServer::start(MosquittoConfig::tuned().with_kept(|name| name == "keeper")).await?;
    let mut keeper = options(&server, "keeper");
    keeper.set_clean_start(true).set_session_expiry_interval(Some(3600));
    Connected::new(keeper).await?.subscribe("kept/#").await?;
    Connected::new(options(&server, "publisher")).await?.publish("kept/1", 3).await?;
    until_connected(&server, &[]).await?;
    ensure!(subscriptions(&server)? == ["keeper kept/#"]);
    ensure!(server.queued().await? == 3);

    server.process().terminate().await?;
    server.process().start_again().await?;
    ensure!(subscriptions(&server)?.is_empty());
    Connected::kept(&server, "keeper").await?; // a client that knows of no session refuses one
    Ok(())
}

#[tokio::test]
async fn clients_and_their_subscriptions_are_known() -> anyhow::Result<()> {
    let server = MosquittoServer::start(MosquittoConfig::tuned()).await?;
    let mut kept = Connected::kept(&server, "kept").await?;
    let mut other = Connected::new(options(&server, "an other")).await?;
    kept.subscribe("$share/group/work/+").await?;
    kept.subscribe("left/#").await?;
    other.subscribe("orders/# 1/+").await.unwrap_err();
    let mut other = Connected::new(options(&server, "an other")).await?;
    other.subscribe("orders 1/#").await?;
    ensure!(server.clients()? == ["an other", "kept"]);
    ensure!(subscriptions(&server)? == ["an other orders 1/#", "kept $share/group/work/+", "kept left/#"]);

    kept.0.unsubscribe("left/#").await?;
    kept.until(|event| matches!(event, Incoming::UnsubAck(_))).await?;
    ensure!(subscriptions(&server)? == ["an other orders 1/#", "kept $share/group/work/+"]);
    // Another connection takes the session over; then the client refuses it, as it knows of none.
    Connected::kept(&server, "kept").await.err().context("no session")?;
    until_connected(&server, &["an other"]).await?;
    drop((kept, other));
    until_connected(&server, &[]).await?;
    ensure!(subscriptions(&server)? == ["kept $share/group/work/+"]);
    ensure!(server.queued().await? == 0);
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() -> anyhow::Result<()> {
    let config = MosquittoConfig::stock().with_lines("nonsense true");
    let began = Instant::now();
    let error = MosquittoServer::start(config).await.err().context("started")?;
    ensure!(began.elapsed() < Duration::from_secs(10));
    ensure!(format!("{error:#}").contains("nonsense"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn users_do_what_the_access_control_list_says() -> anyhow::Result<()> {
    let config = MosquittoConfig::stock().with_user("somebody", "p@ss:w/rd").with_user("other", "secret");
    let server = MosquittoServer::start(config.with_acl("user somebody\ntopic read mine/#")).await?;
    let mut right = options(&server, "right");
    right.set_credentials("somebody", "p@ss:w/rd");
    let mut wrong = options(&server, "wrong");
    wrong.set_credentials("somebody", "secret");
    let mut writer = options(&server, "writer");
    writer.set_credentials("other", "secret");

    Connected::new(wrong).await.err().context("wrong password")?;
    Connected::new(options(&server, "nobody")).await.err().context("no password")?;
    let mut right = Connected::new(right).await?;
    right.subscribe("mine/#").await?;
    ensure!(server.clients()? == ["right"]);
    // Mosquitto refuses by a reason code, or by closing the connection.
    let mut writer = Connected::new(writer).await?;
    _ = writer.publish("mine/1", 1).await;
    ensure!(server.queued().await? == 0);
    Ok(())
}

async fn connect_securely(server: &MosquittoServer, certificates: &Certificates) -> anyhow::Result<()> {
    let client = certificates.client();
    let client = client.map(|files| anyhow::Ok((fs::read(files.certificate)?, fs::read(files.key)?)));
    let mut options = options(server, "secure");
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Simple {
        ca: fs::read(certificates.authority())?,
        alpn: None,
        client_auth: client.transpose()?,
    }));
    // TLS 1.3 lets a client finish before its certificate is refused.
    Connected::new(options).await?.publish("a", 1).await
}

#[tokio::test]
async fn connections_are_encrypted_and_certificates_are_asked_for() -> anyhow::Result<()> {
    for client in [ClientCertificate::NotAsked, ClientCertificate::Right] {
        let certificates = Certificates::create(BrokerCertificate::Trusted, client)?;
        let server = MosquittoServer::start(MosquittoConfig::stock().with_tls(&certificates)).await?;
        ensure!(server.url() == format!("mqtts://{}", server.address()));
        connect_securely(&server, &certificates).await?;
        Connected::new(options(&server, "plain")).await.err().context("not encrypted")?;
        if client == ClientCertificate::Right {
            let stranger =
                Certificates::create(BrokerCertificate::Trusted, ClientCertificate::OtherAuthority)?;
            connect_securely(&server, &stranger).await.err().context("other authority")?;
        }
        ensure!(server.queued().await? == 0);
    }
    Ok(())
}

#[tokio::test]
async fn websockets_are_there_if_this_build_has_them() -> anyhow::Result<()> {
    let server = MosquittoServer::start(MosquittoConfig::stock().with_websockets()).await?;
    let Some(url) = server.websocket_url() else { return Ok(()) };
    let address = url.strip_prefix("ws://").and_then(|rest| rest.strip_suffix("/mqtt")).context("url")?;
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    ensure!(answer == *b"HTTP/1.1 101");
    Ok(())
}
