//! What comes first.

use anyhow::ensure;
use purista_core::{Capability, Filter};

use crate::{
    case::{Case, Outcome, case},
    stage::Stage,
};

pub(super) const CASES: &[Case] = &[
    case!("ORD-1", messages_of_one_sender_keep_their_order, Capability::SenderOrder, else "no option asks for order"),
];

async fn messages_of_one_sender_keep_their_order(stage: Stage) -> Outcome {
    const MESSAGES: usize = 10_000;
    let (sender, consumer) = (stage.bridge().await?, stage.bridge().await?);
    let seen = stage.watch(&*consumer, "in order", Filter::event(stage.unique("numbered"))).await?;
    stage.begin().await?;
    for number in 0..MESSAGES {
        stage.emit(&*sender, "numbered", &number).await?;
    }
    seen.at_least(MESSAGES).await?;
    for (expected, came) in seen.payloads().into_iter().enumerate() {
        ensure!(came == expected.to_string(), "{came} came where {expected} should");
    }
    Ok(())
}
