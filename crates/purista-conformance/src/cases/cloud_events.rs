//! Messages in the form of CloudEvents.

use anyhow::{Context as _, ensure};
use purista_core::{Capability, Filter, Id};

use crate::{
    case::{Case, Outcome, case},
    probe::eventually,
    profile::CloudEventForm,
    stage::Stage,
};

pub(super) const CASES: &[Case] = &[
    case!("ENV-7", malformed_cloud_events_are_refused, Capability::CloudEvents, else "messages do not travel as CloudEvents"),
];

/// What a CloudEvent must have.
const REQUIRED: [(&str, &str); 4] =
    [("id", "1"), ("source", "peer"), ("type", "purista.customMessage"), ("specversion", "1.0")];

async fn malformed_cloud_events_are_refused(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let seen = stage.watch(&*bridge, "subscriber", Filter::event(stage.unique("event"))).await?;
    stage.begin().await?;
    let (subscriber, mut refused, mut taken) = (stage.address("subscriber"), 0, 0);
    for form in [CloudEventForm::Structured, CloudEventForm::Binary] {
        for missing in REQUIRED.map(|(name, _)| Some(name)).into_iter().chain([None]) {
            let attributes: Vec<_> =
                REQUIRED.into_iter().filter(|(name, _)| Some(*name) != missing).collect();
            let event = stage.event("event", &missing)?.stamp(&Id::from("peer")).encode();
            let delivered = stage.deployment().deliver_cloud_event(&subscriber, form, &attributes, event);
            let is_taken = delivered.await?;
            ensure!(is_taken == missing.is_none(), "{form:?} without {missing:?} was taken: {is_taken}");
            match missing {
                Some(_) => refused += 1,
                None => taken += 1,
            }
            let stats = || bridge.stats();
            eventually("it is counted", || async {
                Ok((stats().malformed, stats().handled) == (refused, taken))
            })
            .await
            .with_context(|| format!("{form:?} without {missing:?}: {:?}", stats()))?;
        }
    }
    ensure!(seen.payloads() == ["null"; 2], "{:?}", seen.payloads());
    Ok(())
}
