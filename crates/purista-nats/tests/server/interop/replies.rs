//! Where answers come on NATS, beside the inbox of the caller.

use async_nats::StatusCode;
use purista_integration_tests::interop::{
    Caller, Interest, Subscriber, Wire, again, next, route, served::serve_as_in,
};

use super::wire::Nats;
use crate::support::{self, echo, serve};

async fn each_answer_comes_on_its_regular_subject_too<const JETSTREAM: bool>() -> anyhow::Result<()> {
    for call in Nats::<JETSTREAM>::calls()?.into_iter().filter(|call| call.answer.is_some()) {
        assert_eq!(call.command.outside["subject"], route(&call.command.body, ".", "empty"));
        let subject = route(&call.answer()?.body, ".", "empty");
        let wire = Nats::<JETSTREAM>::start().await;
        let _bridge = serve_as_in(&wire, &call).await?;
        let (mut caller, observer) = (Caller::start(&wire).await?, wire.peer().await);
        let mut observed = observer.listen(Interest::Subscription(Subscriber::new("all", &[]))).await;
        for number in 1..=3 {
            // Each next call shows that the one before was answered once, here and there.
            let answer = caller.call(&again::<Nats<JETSTREAM>>(&call.command, number)).await?;
            let regular = loop {
                match next(&mut observed).await? {
                    frame if frame.is_answer() => break frame,
                    _ => {}
                }
            };
            assert_eq!(regular.outside["subject"], wire.place.here(&subject));
            assert_eq!(regular.body, answer.body, "{}", call.case);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_on_their_regular_subject_too() -> anyhow::Result<()> {
    each_answer_comes_on_its_regular_subject_too::<true>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_on_their_regular_subject_too_without_jetstream() -> anyhow::Result<()> {
    each_answer_comes_on_its_regular_subject_too::<false>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_serves_is_known_at_once() -> anyhow::Result<()> {
    let (wire, call) = (Nats::<true>::start().await, Nats::<true>::call("unknown-command")?);
    let bridge = wire.place.bridge().await;
    serve(&bridge, Nats::<true>::call("success")?.address()?, echo()).await;
    let client = wire.place.client().await;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    let subject = wire.place.here(call.command.outside["subject"].as_str().unwrap());
    client.publish_with_reply(subject, inbox, call.command.body.to_string().into()).await?;
    let answer = support::next(&mut answers).await;
    assert_eq!(answer.status, Some(StatusCode::NO_RESPONDERS));
    assert!(answer.payload.is_empty());
    Ok(())
}
