//! A real RabbitMQ that is ended, killed, started again and wiped.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    tcp::{OwnedIdentity, OwnedTLSConfig},
    types::FieldTable,
};
use purista_conformance::{BrokerCertificate, ClientCertificate};
use purista_integration_tests::{
    Certificates,
    rabbitmq::{Management, Queue, RabbitConfig, RabbitServer},
};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

async fn publish(management: &Management, messages: usize) -> anyhow::Result<()> {
    management.put_queue("/", "kept", true, Map::new()).await?;
    for number in 0..messages {
        let properties = object(json!({ "delivery_mode": 2 }));
        ensure!(management.publish("/", "amq.default", "kept", properties, &number.to_string()).await?);
    }
    Ok(())
}

/// Waits until the only queue of the virtual host is as wanted.
async fn until(
    management: &Management,
    vhost: &str,
    is_as_wanted: impl Fn(&Queue) -> bool,
) -> anyhow::Result<Queue> {
    let began = Instant::now();
    loop {
        let queues = management.queues(vhost).await?;
        match &*queues {
            [queue] if is_as_wanted(queue) => return Ok(queue.clone()),
            _ => ensure!(began.elapsed() < PATIENCE, "{queues:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn data_outlive_the_process_until_they_are_wiped() -> anyhow::Result<()> {
    let server = RabbitServer::start(RabbitConfig::default()).await?;
    let management = server.management();
    publish(management, 10).await?;
    let process = server.process()?;
    let first = process.id().context("does not run")?;

    // Before it is killed: what it was told in the last moments may not be in its files.
    process.terminate().await?;
    process.terminate().await.unwrap_err();
    ensure!(process.id().is_none());
    std::net::TcpStream::connect(server.address()).unwrap_err();
    process.start_again().await?;
    ensure!(process.id().context("does not run")? != first);
    until(management, "/", |queue| queue.messages == 10).await?;

    process.wipe().await.unwrap_err();
    process.start_again().await.unwrap_err();
    process.kill().await?;
    ensure!(process.id().is_none());
    process.start_again().await?;
    until(management, "/", |queue| queue.messages == 10).await?;

    process.kill().await?;
    process.wipe().await?;
    process.start_again().await?;
    ensure!(management.queues("/").await?.is_empty());
    publish(management, 1).await?;

    let folder = process.folder().to_owned();
    drop(server);
    ensure!(!folder.exists());
    Ok(())
}

#[test]
fn a_shared_server_outlives_the_runtime_that_started_it() -> anyhow::Result<()> {
    let on_its_own_runtime = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let outcome = runtime.block_on(async {
            let server = RabbitServer::shared().await?;
            server.management().exchanges("/").await?;
            anyhow::Ok(server.address())
        });
        runtime.shutdown_background();
        outcome
    };
    ensure!(on_its_own_runtime()? == on_its_own_runtime()?);
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() -> anyhow::Result<()> {
    let config = RabbitConfig::default().with_lines("heartbeat = nonsense");
    let began = Instant::now();
    let error = RabbitServer::start(config).await.err().context("started")?;
    ensure!(began.elapsed() < PATIENCE);
    ensure!(format!("{error:#}").contains("heartbeat"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn virtual_hosts_are_apart() -> anyhow::Result<()> {
    let server = RabbitServer::shared().await?;
    let management = server.management();
    let names = ["a/b", "c d%"].map(|name| format!("{name}-{:016x}", rand::random::<u64>()));
    let [one, other] = &names;
    ensure!(server.url_of("a/b") == format!("{}/a%2Fb", server.url()));
    for vhost in &names {
        management.create_vhost(vhost).await?;
    }
    let arguments = object(json!({ "x-max-length": 5 }));
    management.put_queue(one, "work", false, arguments.clone()).await?;
    let properties = object(json!({ "headers": { "tries": 3 } }));
    ensure!(management.publish(one, "amq.direct", "work", properties.clone(), "x").await? == false);
    ensure!(management.publish(one, "amq.default", "work", properties, "x").await?);

    let queue = until(management, one, |queue| queue.messages_ready == 1).await?;
    ensure!(queue.name == "work" && queue.kind == "classic" && queue.state == "running");
    ensure!(!queue.durable && !queue.auto_delete && !queue.exclusive && queue.consumers == 0);
    ensure!(queue.arguments == arguments && queue.messages == 1 && queue.messages_unacknowledged == 0);
    ensure!(management.queues(other).await?.is_empty());
    let bindings = management.bindings(one).await?;
    ensure!(bindings.len() == 1 && bindings[0].source.is_empty() && bindings[0].destination == "work");
    ensure!(management.exchanges(one).await?.iter().any(|exchange| exchange.name == "amq.topic"));
    ensure!(management.connections(one).await?.is_empty() && management.close_connections(one).await? == 0);

    for acknowledge in [false, true] {
        let messages = management.get_messages(one, "work", 5, acknowledge).await?;
        let [message] = &*messages else { bail!("{messages:?}") };
        ensure!(message.payload == "x" && message.redelivered == acknowledge);
        ensure!(message.properties["headers"] == json!({ "tries": 3 }), "{message:?}");
    }
    ensure!(management.get_messages(one, "work", 5, true).await?.is_empty());

    management.delete_queue(one, "work").await?;
    management.delete_queue(one, "work").await.unwrap_err();
    for vhost in &names {
        management.delete_vhost(vhost).await?;
    }
    management.queues(one).await.unwrap_err();
    Ok(())
}

#[tokio::test]
async fn users_are_who_the_configuration_and_the_management_say() -> anyhow::Result<()> {
    let server = RabbitServer::start(RabbitConfig::default().with_user("somebody", "p@ss:w/rd")).await?;
    ensure!(server.url() == format!("amqp://somebody:p%40ss%3Aw%2Frd@{}", server.address()));
    let management = server.management();
    management.create_vhost("theirs").await?;
    management.put_user("reader", "secret").await?;
    management.set_permissions("theirs", "reader", "^$", "^$", ".*").await?;
    connect(&server.url_of("theirs")).await?;
    let channel =
        connect(&format!("amqp://reader:secret@{}/theirs", server.address())).await?.create_channel().await?;
    channel
        .queue_declare("forbidden".into(), QueueDeclareOptions::default(), FieldTable::default())
        .await
        .unwrap_err();
    Ok(())
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default().with_connection_name("watched".into())).await
}

#[tokio::test]
async fn the_management_sees_connections_and_what_they_consume() -> anyhow::Result<()> {
    let server = RabbitServer::start(RabbitConfig::default()).await?;
    let management = server.management();
    let connection = connect(server.url()).await?;
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    channel.queue_declare("mine".into(), options, FieldTable::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume("mine".into(), "".into(), options, FieldTable::default()).await?;
    ensure!(management.publish("/", "amq.default", "mine", Map::new(), "x").await?);
    let delivery = timeout(PATIENCE, consumer.next()).await?.context("no delivery")??;

    let began = Instant::now();
    let queue = until(management, "/", |queue| {
        queue.messages_unacknowledged == 1 && queue.messages_ready == 0 && queue.consumers == 1
    })
    .await?;
    ensure!(queue.exclusive && queue.auto_delete, "{queue:?}");
    ensure!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    delivery.ack(BasicAckOptions::default()).await?;
    until(management, "/", |queue| queue.messages == 0).await?;

    let began = Instant::now();
    loop {
        let connections = management.connections("/").await?;
        match &*connections {
            [one]
                if one.connection_name() == Some("watched")
                    && one.state == "running"
                    && one.channels == 1 =>
            {
                break;
            }
            _ => ensure!(began.elapsed() < PATIENCE, "{connections:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ensure!(management.close_connections("/").await? == 1);
    timeout(PATIENCE, consumer.next()).await?.context("no error")?.unwrap_err();
    Ok(())
}

#[tokio::test]
async fn an_alarm_of_memory_blocks_who_publishes() -> anyhow::Result<()> {
    let server = RabbitServer::start(RabbitConfig::default()).await?;
    let connection = connect(server.url()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let publish = || async {
        let options = BasicPublishOptions::default();
        let confirm =
            channel.basic_publish("".into(), "nowhere".into(), options, b"x", BasicProperties::default());
        confirm.await?.await
    };
    publish().await?;

    server.set_memory_alarm(true).await?;
    let mut blocked = Box::pin(publish());
    timeout(Duration::from_millis(300), &mut blocked).await.err().context("not blocked")?;
    server.set_memory_alarm(false).await?;
    timeout(PATIENCE, blocked).await??;
    Ok(())
}

async fn connect_securely(server: &RabbitServer, certificates: &Certificates) -> lapin::Result<Connection> {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let config = OwnedTLSConfig {
        identity: certificates.client().map(|files| OwnedIdentity::PKCS8 {
            pem: read(files.certificate).into_bytes(),
            key: read(files.key).into_bytes(),
        }),
        cert_chain: Some(read(certificates.authority())),
    };
    let runtime = lapin::runtime::default_runtime()?;
    Connection::connect_with_config(server.url(), ConnectionProperties::default(), config, runtime).await
}

#[tokio::test]
async fn connections_are_encrypted_and_certificates_are_asked_for() -> anyhow::Result<()> {
    for client in [ClientCertificate::NotAsked, ClientCertificate::Right] {
        let certificates = Certificates::create(BrokerCertificate::Trusted, client)?;
        let server = RabbitServer::start(RabbitConfig::default().with_tls(&certificates)).await?;
        ensure!(server.url().starts_with("amqps://"));
        connect_securely(&server, &certificates).await?;
        let plain = server.url().replacen("amqps", "amqp", 1);
        ensure!(!matches!(timeout(PATIENCE, connect(&plain)).await, Ok(Ok(_))));
        if client == ClientCertificate::Right {
            let stranger =
                Certificates::create(BrokerCertificate::Trusted, ClientCertificate::OtherAuthority)?;
            connect_securely(&server, &stranger).await.unwrap_err();
        }
    }
    Ok(())
}
