//! A real daprd beside applications, which is ended, killed and started again.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use async_nats::jetstream::{self, stream};
use purista_integration_tests::{
    dapr::{Component, Registry, Sidecar, SidecarConfig},
    free_port,
    nats::{NatsConfig, NatsServer},
    rabbitmq::{RabbitConfig, RabbitServer},
};
use serde_json::{Value, json};
use ureq::http::Response;

const PATIENCE: Duration = Duration::from_secs(20);

/// What an application was asked.
#[derive(Debug)]
struct Request {
    path: String,
    token: Option<String>,
    body: String,
}

/// An application that wants the events of the topic `orders` at the path `/orders`, and answers what it is sent. It
/// listens as long as this process.
struct App {
    port: u16,
    sender: Sender<Request>,
    requests: Receiver<Request>,
}

impl App {
    fn start(port: u16) -> anyhow::Result<Self> {
        let (sender, requests) = mpsc::channel();
        let app = Self { port, sender, requests };
        app.listen(port)?;
        Ok(app)
    }

    /// Starts another instance of it, and remembers here what that is asked.
    fn listen(&self, port: u16) -> anyhow::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let sender = self.sender.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || serve(&stream, &sender));
            }
        });
        Ok(())
    }

    /// Waits until it is asked at this path.
    fn request(&self, path: &str) -> anyhow::Result<Request> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let request = self.requests.recv_timeout(left).with_context(|| format!("nothing at {path}"))?;
            if request.path == path {
                return Ok(request);
            }
        }
    }

    /// Waits for an event of this number or a higher one. Those before come again if a sidecar is killed.
    fn event(&self, lowest: u64) -> anyhow::Result<u64> {
        loop {
            let event: Value = serde_json::from_str(&self.request("/orders")?.body)?;
            match event["data"].as_u64().context("no number")? {
                number if number < lowest => {}
                number => return Ok(number),
            }
        }
    }
}

/// Answers the requests of a connection.
fn serve(stream: &TcpStream, requests: &Sender<Request>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let (mut length, mut token) = (0, None);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.split_once(':') else { break };
            match name.to_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "dapr-api-token" => token = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body = String::from_utf8(body).ok()?;
        let answer = match path.as_str() {
            "/dapr/subscribe" => r#"[{ "pubsubname": "pubsub", "topic": "orders", "route": "orders" }]"#,
            "/dapr/config" | "/orders" => "{}",
            _ => &body,
        };
        let length = answer.len();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        (&*stream).write_all((head + answer).as_bytes()).ok()?;
        requests.send(Request { path, token, body }).ok()?;
    }
}

/// Asks a sidecar: without a body to get something.
fn ask(
    sidecar: &Sidecar,
    token: Option<&str>,
    path: &str,
    body: Option<&str>,
) -> anyhow::Result<(u16, String)> {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
    let url = format!("{}/v1.0/{path}", sidecar.url());
    let token = token.unwrap_or_default();
    let mut response: Response<ureq::Body> = match body {
        Some(body) => {
            let request = agent.post(url).header("content-type", "application/json");
            request.header("dapr-api-token", token).send(body)?
        }
        None => agent.get(url).header("dapr-api-token", token).call()?,
    };
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

fn publish(sidecar: &Sidecar, event: u64) -> anyhow::Result<()> {
    let (status, body) = ask(sidecar, None, "publish/pubsub/orders", Some(&event.to_string()))?;
    ensure!(status == 204, "{status} {body}");
    Ok(())
}

fn invoke(sidecar: &Sidecar, app_id: &str) -> anyhow::Result<(u16, String)> {
    ask(sidecar, None, &format!("invoke/{app_id}/method/command"), Some("1"))
}

/// Checks that the application answers.
fn answers(sidecar: &Sidecar, app_id: &str) -> anyhow::Result<()> {
    let (status, body) = invoke(sidecar, app_id)?;
    ensure!(status == 200 && body == "1", "{status} {body}");
    Ok(())
}

/// Waits until the sidecar delivers events.
fn until_delivering(sidecar: &Sidecar) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask(sidecar, None, "healthz", None)? {
            (204, _) => return Ok(()),
            (status, body) => ensure!(Instant::now() < deadline, "{status} {body}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a sidecar beside an application, and waits until it delivers events.
async fn start(
    app_id: &str,
    app_port: u16,
    component: Component,
    registry: &Registry,
) -> anyhow::Result<Sidecar> {
    let sidecar = Sidecar::start(SidecarConfig::new(app_id, app_port, component, registry)).await?;
    until_delivering(&sidecar)?;
    Ok(sidecar)
}

#[tokio::test]
async fn commands_reach_the_application_of_another_sidecar() -> anyhow::Result<()> {
    let registry = Registry::new()?;
    let [caller, callee] = [App::start(free_port()?)?, App::start(free_port()?)?];
    let caller = start("caller", caller.port, Component::InMemory, &registry).await?;
    let sidecar = start("callee", callee.port, Component::InMemory, &registry).await?;
    answers(&caller, "callee")?;
    ensure!(callee.request("/command")?.body == "1");
    let (status, body) = invoke(&caller, "nobody")?;
    ensure!(status == 500 && body.contains("ERR_DIRECT_INVOKE"), "{status} {body}");

    let first = sidecar.process().id().context("does not run")?;
    sidecar.process().kill().await?;
    ensure!(invoke(&caller, "callee")?.0 == 500);
    sidecar.process().start_again().await?;
    ensure!(sidecar.process().id().context("does not run")? != first);
    answers(&caller, "callee")?;
    sidecar.process().terminate().await?;
    ensure!(invoke(&caller, "callee")?.0 == 500);

    let stranger = App::start(free_port()?)?;
    let stranger = start("stranger", stranger.port, Component::InMemory, &Registry::new()?).await?;
    ensure!(invoke(&stranger, "caller")?.0 == 500);
    Ok(())
}

#[tokio::test]
async fn sidecars_that_start_at_once_find_each_other() -> anyhow::Result<()> {
    for _round in 0..5 {
        let registry = Registry::new()?;
        let apps = [App::start(free_port()?)?, App::start(free_port()?)?];
        let start = |app_id, app: &App| start(app_id, app.port, Component::InMemory, &registry);
        let (one, two) = tokio::try_join!(start("one", &apps[0]), start("two", &apps[1]))?;
        answers(&one, "two")?;
        answers(&two, "one")?;
    }
    Ok(())
}

#[tokio::test]
async fn an_application_that_comes_later_is_asked_for_its_subscriptions() -> anyhow::Result<()> {
    let port = free_port()?;
    let config = SidecarConfig::new("late", port, Component::InMemory, &Registry::new()?);
    let sidecar = Sidecar::start(config).await?;
    ensure!(ask(&sidecar, None, "healthz", None)?.0 == 500);
    let app = App::start(port)?;
    app.request("/dapr/subscribe")?;
    until_delivering(&sidecar)?;
    publish(&sidecar, 1)?;
    ensure!(app.event(1)? == 1);

    sidecar.process().terminate().await?;
    sidecar.process().start_again().await?;
    app.request("/dapr/subscribe")?;
    Ok(())
}

/// Publishes while the subscriber's sidecar runs, while it is down, and while there is another one.
async fn events_wait_and_are_shared(component: Component) -> anyhow::Result<()> {
    let registry = Registry::new()?;
    let [publisher, subscriber] = [App::start(free_port()?)?, App::start(free_port()?)?];
    let sidecar = start("subscriber", subscriber.port, component.clone(), &registry).await?;
    let publisher = start("publisher", publisher.port, component.clone(), &registry).await?;
    publish(&publisher, 1)?;
    ensure!(subscriber.event(1)? == 1);
    sidecar.process().kill().await?;
    publish(&publisher, 2)?;
    sidecar.process().start_again().await?;
    ensure!(subscriber.event(2)? == 2);

    let port = free_port()?;
    subscriber.listen(port)?;
    let _other = start("subscriber", port, component, &registry).await?;
    for event in 10..20 {
        publish(&publisher, event)?;
    }
    let mut events = (0..10).map(|_| subscriber.event(10)).collect::<anyhow::Result<Vec<_>>>()?;
    events.sort_unstable();
    ensure!(events.iter().copied().eq(10..20), "{events:?}");
    Ok(())
}

#[tokio::test]
async fn events_wait_in_rabbitmq_and_are_shared() -> anyhow::Result<()> {
    let server = RabbitServer::start(RabbitConfig::default()).await?;
    events_wait_and_are_shared(Component::RabbitMq { url: server.url().into() }).await
}

#[tokio::test]
async fn events_wait_in_jetstream_and_are_shared() -> anyhow::Result<()> {
    let server = NatsServer::start(NatsConfig::jetstream()).await?;
    let jetstream = jetstream::new(async_nats::connect(server.url()).await?);
    let config = stream::Config { name: "all".into(), subjects: vec!["orders".into()], ..Default::default() };
    jetstream.create_stream(config).await?;
    events_wait_and_are_shared(Component::JetStream { url: server.url().into() }).await
}

#[tokio::test]
async fn tokens_and_the_size_of_bodies_are_as_configured() -> anyhow::Result<()> {
    let app = App::start(free_port()?)?;
    let config = SidecarConfig::new("app", app.port, Component::InMemory, &Registry::new()?);
    let config = config.with_api_token("for the sidecar").with_app_token("for the application");
    let sidecar = Sidecar::start(config.with_max_body_size(1000)).await?;
    ensure!(app.request("/dapr/subscribe")?.token.as_deref() == Some("for the application"));
    until_delivering(&sidecar)?;

    let publish = |token, size| {
        let body = json!("x".repeat(size)).to_string();
        ask(&sidecar, token, "publish/pubsub/orders", Some(&body)).map(|(status, _)| status)
    };
    ensure!(publish(Some("for the sidecar"), 900)? == 204);
    ensure!(app.request("/orders")?.token.as_deref() == Some("for the application"));
    ensure!(publish(Some("for the sidecar"), 1100)? == 500);
    ensure!(publish(Some("another"), 900)? == 401);
    ensure!(publish(None, 900)? == 401);
    Ok(())
}

#[tokio::test]
async fn a_sidecar_that_does_not_start_says_why() -> anyhow::Result<()> {
    let component = Component::RabbitMq { url: "nonsense".into() };
    let config = SidecarConfig::new("app", free_port()?, component, &Registry::new()?);
    let began = Instant::now();
    let error = Sidecar::start(config).await.err().context("started")?;
    ensure!(began.elapsed() < Duration::from_secs(10));
    ensure!(format!("{error:#}").contains("invalid connection string: nonsense"), "{error:#}");
    Ok(())
}
