//! What waits in streams for subscribers that are away: more than events.

use purista_core::{
    CommandDraft, CommandOptions, EventBridge as _, EventBridgeExt as _, Filter, MessageType, Payload,
    ServiceAddress,
};

use crate::support::{PATIENCE, Place, durable, echo, invoke, serve, serve_with, watch};

fn draft(payload: &str) -> CommandDraft {
    let draft = CommandDraft::new(ServiceAddress::client(), ("User", "1", "signUp"));
    draft.with_payload(Payload::json(payload).unwrap())
}

/// Lets a durable subscriber see one call, and more while it is away; returns what it got.
async fn seen_across_an_absence(place: &Place, filter: Filter, event_name: Option<&str>) -> Vec<String> {
    let service = place.bridge().await;
    let options = match event_name {
        Some(event_name) => CommandOptions::default().with_success_event(event_name),
        None => CommandOptions::default(),
    };
    serve_with(&service, ("User", "1", "signUp"), options, echo()).await;
    serve(&service, ("User", "1", "signOff"), echo()).await;
    let caller = place.bridge().await;
    let call = async |name: &str| {
        let response = invoke(&caller, draft(name)).await.unwrap();
        assert_eq!(response.message_type(), MessageType::CommandSuccessResponse);
        assert_eq!(response.payload(), Some(&Payload::json(name).unwrap()));
    };
    let in_order = || durable().with_max_concurrency(1);

    let reader = place.bridge().await;
    let present = watch(&reader, "durable", filter.clone(), in_order()).await.unwrap();
    call("present").await;
    present.sentinel("\"present\"").await.unwrap();
    reader.shutdown(PATIENCE).await;
    for name in ["away", "still away"] {
        call(name).await;
    }
    let reader = place.bridge().await;
    let back = watch(&reader, "durable", filter, in_order()).await.unwrap();
    back.sentinel("\"still away\"").await.unwrap();
    call("back").await;
    back.sentinel("\"back\"").await.unwrap();
    let mut seen = present.payloads();
    seen.extend(back.payloads());
    seen
}

const ALL: [&str; 4] = ["\"present\"", "\"away\"", "\"still away\"", "\"back\""];

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_announces_an_event_waits_as_an_event_does() {
    let place = Place::shared(true).await;
    let seen = seen_across_an_absence(&place, Filter::event("signedUp"), Some("signedUp")).await;
    assert_eq!(seen, ALL);
    let place = Place::shared(true).await;
    let filter = Filter::message_type(MessageType::CommandSuccessResponse).with_event_name("signedUp");
    assert_eq!(seen_across_an_absence(&place, filter, Some("signedUp")).await, ALL);
}

/// It is kept when the caller has its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_waits_for_a_subscriber_of_responses() {
    let place = Place::shared(true).await;
    let filter = Filter::message_type(MessageType::CommandSuccessResponse);
    assert_eq!(seen_across_an_absence(&place, filter, None).await, ALL);
}

/// The stream that keeps them must not answer them.
#[tokio::test(flavor = "multi_thread")]
async fn commands_wait_for_a_subscriber_of_commands() {
    let place = Place::shared(true).await;
    let filter = Filter::message_type(MessageType::Command).with_receiver(("User", "1", "signUp"));
    assert_eq!(seen_across_an_absence(&place, filter, None).await, ALL);

    // What other commands are sent is nothing to it.
    let place = Place::shared(true).await;
    let service = place.bridge().await;
    let filter = Filter::message_type(MessageType::Command).with_receiver(("User", "1", "signUp"));
    let seen = watch(&service, "durable", filter, durable().with_max_concurrency(1)).await.unwrap();
    serve(&service, ("User", "1", "signOff"), echo()).await;
    serve(&service, ("User", "1", "signUp"), echo()).await;
    let _: String = service.invoke(("User", "1", "signOff"), "other").await.unwrap();
    invoke(&service, draft("sentinel")).await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    assert_eq!(seen.count(), 1);
}
