//! Ways in which registrations stop consuming while the sidecar answers.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use purista_conformance::NetworkFault;
use purista_core::{
    BridgeEvent, Context, EmitOptions, ErrorKind, EventBridge, EventBridgeExt as _, EventDraft, Filter,
    Health, Payload, Service, ServiceAddress,
};
use purista_dapr::DaprBridge;
use purista_integration_tests::{
    FaultProxy,
    dapr::{Component, Sidecar},
    free_port,
    rabbitmq::{RabbitConfig, RabbitServer},
};
use tokio::{
    sync::Notify,
    time::{interval, timeout},
};

use crate::support::{PATIENCE, Place, Seen, beside, connected, disconnected};

const APP: &str = "app-mail-v1";
const KEEP_ALIVE: Duration = Duration::from_millis(1_500);

fn service(seen: &Seen) -> Service {
    let seen = seen.clone();
    Service::new("Mail", "1")
        .command("greet", |_ctx: Context, name: String| async move { Ok(name) })
        .subscription("watch", Filter::event("happened"), move |_ctx: Context, payload: Payload| {
            seen.push(payload.as_str());
            async { Ok(()) }
        })
}

async fn until(bridge: &DaprBridge, is_so: impl Fn(&Health) -> bool + Send + Sync) -> anyhow::Result<()> {
    let mut tick = interval(Duration::from_millis(20));
    let there = async {
        while !is_so(&bridge.health()) {
            tick.tick().await;
        }
    };
    timeout(PATIENCE, there).await.with_context(|| format!("{:?}", bridge.health()))
}

async fn works(bridge: &DaprBridge, seen: &Seen) -> anyhow::Result<()> {
    let _: String = bridge.invoke(("Mail", "1", "greet"), "Ada").await?;
    // A sidecar may take its app for well before it has subscribed for it again.
    let before = seen.all().len();
    let arrives = async {
        let mut tick = interval(KEEP_ALIVE);
        while seen.all().len() == before {
            tick.tick().await;
            bridge.event("happened").timeout(PATIENCE).emit(&before).await?;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, arrives).await.with_context(|| format!("only {:?}", seen.all()))?
}

#[tokio::test]
async fn an_app_that_its_sidecar_does_not_reach_is_told_and_comes_back() -> anyhow::Result<()> {
    let checked = ["--enable-app-health-check=true", "--app-health-check-path=/healthz"];
    let checked = [checked[0], checked[1], "--app-health-probe-interval=1", "--app-health-threshold=1"];
    for arguments in [&[][..], &checked] {
        let (place, port) = (Place::new(Component::InMemory)?, free_port()?);
        let way = FaultProxy::start(([127, 0, 0, 1], port).into())?;
        let mut config = place.config(APP)?.with_argument(format!("--app-port={}", way.address().port()));
        for argument in arguments {
            config = config.with_argument(*argument);
        }
        let (sidecar, seen) = (Sidecar::start(config).await?, Seen::default());
        let bridge = beside(&sidecar).app_address(([127, 0, 0, 1], port)).keep_alive(KEEP_ALIVE).build()?;
        bridge.serve([service(&seen)]).await?;
        works(&bridge, &seen).await?;
        for fault in [NetworkFault::Down, NetworkFault::Silence] {
            way.break_network(fault);
            until(&bridge, |health| health.connected && health.not_consuming.len() == 2).await?;
            way.mend();
            until(&bridge, Health::is_healthy).await.with_context(|| format!("{arguments:?} {fault:?}"))?;
            works(&bridge, &seen).await?;
        }
        bridge.shutdown(PATIENCE).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_another_after_a_restart_of_the_sidecar_is_told() -> anyhow::Result<()> {
    let (place, http_port, app_port) = (Place::new(Component::InMemory)?, free_port()?, free_port()?);
    let start = async |token: &str| {
        let config = place.config(APP)?.with_http_port(http_port).with_app_token(token);
        Sidecar::start(config.with_argument(format!("--app-port={app_port}"))).await
    };
    let (sidecar, seen) = (start("one").await?, Seen::default());
    let bridge = beside(&sidecar).app_token("one").keep_alive(KEEP_ALIVE).build()?;
    bridge.serve([service(&seen)]).await?;
    let mut events = bridge.events();
    sidecar.process().kill().await?;
    drop(sidecar);
    disconnected(&mut events).await?;

    let other = start("two").await?;
    // It looks at it a few times.
    let came_back = timeout(6 * KEEP_ALIVE, connected(&mut events)).await;
    ensure!(came_back.is_err() && !bridge.health().is_healthy(), "{:?}", bridge.health());
    other.process().kill().await?;
    drop(other);
    let sidecar = start("one").await?;
    connected(&mut events).await?;
    ensure!(bridge.health().is_healthy(), "{:?}", bridge.health());
    works(&bridge, &seen).await?;
    bridge.shutdown(PATIENCE).await;
    drop(sidecar);
    Ok(())
}

/// By the events that are published to see that, and without these by those that fail.
#[tokio::test]
async fn a_component_whose_broker_is_down_is_told_and_comes_back() -> anyhow::Result<()> {
    for is_looked_at in [true, false] {
        let server = RabbitServer::start(RabbitConfig::default()).await?;
        let place = Place::new(Component::RabbitMq { url: server.url_of("/") })?;
        let config = place.config(APP)?.with_component_metadata("reconnectWaitSeconds", "1");
        let (sidecar, seen) = (Sidecar::start(config).await?, Seen::default());
        let builder = beside(&sidecar).keep_alive(KEEP_ALIVE);
        let builder = if is_looked_at { builder } else { builder.no_health_topic() };
        let bridge = builder.build()?;
        bridge.serve([service(&seen)]).await?;
        works(&bridge, &seen).await?;

        server.process()?.kill().await?;
        let is_told = until(&bridge, |health| {
            let subscriber = ServiceAddress::new("Mail", "1", "watch");
            health.connected && health.not_consuming == [subscriber]
        });
        let draft = EventDraft::event(ServiceAddress::client(), "happened").with_payload(Payload::json(&0)?);
        let options = EmitOptions::default().with_timeout(PATIENCE);
        let fails = async {
            loop {
                if is_looked_at {
                    std::future::pending::<()>().await;
                }
                if let Err(error) = bridge.emit_message(draft.clone(), &options).await {
                    let is_outage = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
                    ensure!(is_outage, "{error:?}");
                }
            }
            #[expect(unreachable_code, reason = "it says what kind of result there would be")]
            anyhow::Ok(())
        };
        tokio::select! {
            told = is_told => told.with_context(|| format!("{is_looked_at}"))?,
            failed = fails => failed?,
        }
        // Calls do not need it.
        let _: String = bridge.invoke(("Mail", "1", "greet"), "Ada").await?;

        server.process()?.start_again().await?;
        until(&bridge, Health::is_healthy).await.with_context(|| format!("{is_looked_at}"))?;
        // The component may have crossed two answers of its broker as it came back, and some events reach nobody then.
        let before = seen.all().len();
        let arrives = async {
            let mut tick = interval(KEEP_ALIVE);
            while seen.all().len() == before {
                tick.tick().await;
                bridge.emit_message(draft.clone(), &options).await?;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, arrives).await.with_context(|| format!("only {:?}", seen.all()))??;
        bridge.shutdown(PATIENCE).await;
    }
    Ok(())
}

/// Shuts down while its sidecar takes it for unwell, and finishes what runs.
#[tokio::test]
async fn who_shuts_down_is_not_cut_off() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let mut config = place.config(APP)?;
    for argument in [
        "--enable-app-health-check=true",
        "--app-health-check-path=/healthz",
        "--app-health-probe-interval=1",
        "--app-health-threshold=1",
    ] {
        config = config.with_argument(argument);
    }
    let (sidecar, started, go) = (Sidecar::start(config).await?, Seen::default(), Arc::new(Notify::new()));
    // It has so long to answer, too.
    let keep_alive = Duration::from_secs(4);
    let bridge = Arc::new(beside(&sidecar).keep_alive(keep_alive).build()?);
    let (starts, goes) = (started.clone(), Arc::clone(&go));
    let slow = Service::new("Mail", "1").command("slow", move |_ctx: Context, _: ()| {
        starts.push("started");
        let goes = Arc::clone(&goes);
        async move {
            goes.notified().await;
            Ok(7)
        }
    });
    bridge.serve([slow]).await?;
    let mut events = bridge.events();
    let caller = Arc::clone(&bridge);
    let running = tokio::spawn(async move { caller.invoke::<u8>(("Mail", "1", "slow"), &()).await });
    started.at_least(1).await?;
    let ending = Arc::clone(&bridge);
    let ended = tokio::spawn(async move { ending.shutdown(3 * PATIENCE).await });

    let http = reqwest::Client::builder().no_proxy().build()?;
    let path = format!("{}/v1.0/invoke/{APP}/method/anything", sidecar.url());
    let is_unwell =
        async || anyhow::Ok(http.get(&path).send().await?.text().await?.contains("healthy state"));
    let mut looks = interval(keep_alive);
    while !is_unwell().await? {
        looks.tick().await;
    }
    // Two more looks of the bridge at its sidecar.
    for _ in 0..3 {
        looks.tick().await;
    }
    go.notify_one();
    let report = ended.await?;
    ensure!(report.errors.is_empty() && report.cancelled_handlers == 0, "{report:?}");
    ensure!(running.await?? == 7);
    while let Ok(Some(event)) = timeout(Duration::ZERO, events.next()).await {
        let is_cut_off = matches!(&event, BridgeEvent::Disconnected(reason) if reason != "shut down");
        ensure!(!is_cut_off, "{event:?}");
    }
    Ok(())
}
