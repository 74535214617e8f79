//! What stands beside commands and answers on MQTT.

use std::time::Duration;

use purista_core::ErrorKind;
use purista_integration_tests::interop::{Caller, Service, Wire};
use serde_json::json;

use super::wire::{Mqtt, time_limit};
use crate::support::{echo, eventually, invoke_within, serve};

/// The original lets the broker drop a command of less than half a second at once.
#[tokio::test(flavor = "multi_thread")]
async fn short_time_limits_are_rounded_up() -> anyhow::Result<()> {
    let (wire, call) = (Mqtt::start().await, Mqtt::call("success")?);
    let service = Service::start(&wire, &call.address()?, |_| None).await;
    let bridge = wire.place.bridge().await;
    for milliseconds in [1, 499, 1_200] {
        let limit = Duration::from_millis(milliseconds);
        let error = invoke_within(&bridge, call.draft()?, limit).await.unwrap_err();
        assert_eq!(error.bridge_kind(), Some(ErrorKind::Timeout), "{error:?}");
    }
    eventually("all came", || service.came().len() == 3).await;
    let came: Vec<_> =
        service.came().into_iter().map(|command| command.outside["properties"].clone()).collect();
    let expiries: Vec<_> =
        came.iter().map(|properties| properties["messageExpiryInterval"].clone()).collect();
    assert_eq!(expiries, [1, 1, 2]);
    let limits: Vec<_> = came.iter().map(|properties| time_limit(&properties["userProperties"])).collect();
    assert!(limits.iter().zip([1, 499, 1_200]).all(|(told, limit)| (1..=limit).contains(told)), "{limits:?}");
    Ok(())
}

/// Data beside a command is the caller's: it finds its call by that, whatever it is. What it did not send is not sent back.
#[tokio::test(flavor = "multi_thread")]
async fn correlation_data_comes_back_as_it_was() -> anyhow::Result<()> {
    let (wire, mut call) = (Mqtt::start().await, Mqtt::call("success")?);
    let bridge = wire.place.bridge().await;
    serve(&bridge, call.address()?, echo()).await;
    let mut caller = Caller::start(&wire).await?;
    for properties in [json!({ "correlationData": "of the caller" }), json!({})] {
        call.command.outside["properties"] = properties.clone();
        let answer = caller.call(&call.command).await?;
        assert_eq!(answer.outside["properties"].get("correlationData"), properties.get("correlationData"));
        assert_eq!(answer.body["correlationId"], call.command.body["correlationId"]);
    }
    Ok(())
}
