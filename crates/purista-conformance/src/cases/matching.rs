//! Which messages a subscription gets.

use std::{collections::HashSet, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use purista_core::{
    Command, CommandDraft, CommandHandler, CommandOptions, ErrorKind, EventBridge, Filter, HandledError, Id,
    InvokeError, InvokeOptions, Message, MessageType, Payload, Receiver, ServiceAddress,
};

use crate::{
    case::{Case, Outcome, case},
    fields::{self, CHOSEN, Field, address, exact, identity},
    probe::{Collector, eventually, on_command},
    stage::{Stage, patient_emit},
};

pub(super) const CASES: &[Case] = &[
    case!("MAT-2", the_bridge_delivers_what_the_matcher_accepts),
    case!("MAT-3", empty_values_are_refused),
    case!("MAT-4", nothing_is_normalised),
    case!("MAT-6", what_is_routed_wrongly_is_not_handled),
    case!("MAT-8", each_field_filters_alone),
];

/// The classes of messages, and what [`World::speak`] sends of each.
const CLASSES: [MessageType; 5] = [
    MessageType::Command,
    MessageType::CommandSuccessResponse,
    MessageType::CommandErrorResponse,
    MessageType::CustomMessage,
    MessageType::InfoServiceReady,
];

/// A caller and a service whose messages differ in every field from those of another world.
struct World {
    caller: Arc<dyn EventBridge>,
    identity: Filter,
}

impl World {
    async fn new(
        stage: &Stage,
        name: &str,
        caller: &Arc<dyn EventBridge>,
        service: &dyn EventBridge,
    ) -> Result<Self> {
        let mut identity = identity(stage, name);
        identity.receiver.instance_id = Some(service.instance_id().clone());
        let address = address(&identity.receiver);
        let options = CommandOptions::default().with_success_event(stage.unique(&format!("done{name}")));
        let handler = on_command(|context| async move {
            match context.message().payload() {
                Some(payload) => Ok(Some(payload.clone())),
                None => Err(HandledError::not_found("nothing").into()),
            }
        });
        let command = Command::new(address).with_options(options);
        service.register_command(command, handler).await?;
        Ok(Self { caller: Arc::clone(caller), identity })
    }

    /// Sends a message of each class; the command twice, as each kind of response needs one.
    async fn speak(&self) -> Result<()> {
        let info = self.identity.clone().with_message_type(MessageType::InfoServiceReady);
        for draft in [fields::event(&self.identity), fields::event(&info)] {
            self.caller.emit_message(draft, &patient_emit()).await?;
        }
        let call = fields::command(&self.identity);
        let fails = self.caller.invoke_command(call.clone(), &InvokeOptions::default()).await;
        ensure!(matches!(fails, Err(InvokeError::Handled(_))), "{fails:?}");
        self.caller.invoke_command(call.with_payload(Payload::json(&0)?), &InvokeOptions::default()).await?;
        Ok(())
    }
}

async fn the_bridge_delivers_what_the_matcher_accepts(stage: Stage) -> Outcome {
    let (one, two, observer) = (stage.bridge().await?, stage.bridge().await?, stage.bridge().await?);
    let worlds =
        [World::new(&stage, "one", &one, &*two).await?, World::new(&stage, "two", &two, &*one).await?];
    let everything = stage.watch(&*observer, "everything", Filter::any()).await?;
    stage.begin().await?;
    let of_world = |world: &World| {
        let mut messages = everything.messages();
        messages.retain(|message| message.tenant_id == world.identity.tenant_id);
        messages
    };
    let spoken = async |times: usize| {
        for world in &worlds {
            world.speak().await?;
            eventually("a subscriber to everything sees it", || async {
                Ok(of_world(world).len() >= 6 * times)
            })
            .await?;
        }
        anyhow::Ok(())
    };

    // What was sent shows what each class of message looks like.
    spoken(1).await?;
    let mut filters = HashSet::new();
    for (class, next) in CLASSES.iter().zip(CLASSES.iter().cycle().skip(1)) {
        let looks = |world| {
            let sample = of_world(world).into_iter().find(|message| message.message_type() == *class);
            sample.map(|message| exact(&message)).with_context(|| format!("no {class}"))
        };
        let (own, other) = (looks(&worlds[0])?, looks(&worlds[1])?.with_message_type(*next));
        filters.extend(array(&own, &other));
    }
    let before: HashSet<_> = everything.messages().iter().map(key).collect();
    let filtering = stage.bridge().await?;
    let mut subscribers = Vec::new();
    for (number, filter) in filters.into_iter().enumerate() {
        let seen = stage.watch(&*filtering, &format!("number {number}"), filter.clone()).await?;
        subscribers.push((filter, seen));
    }
    stage.begin().await?;

    // The second round shows that the first one is through.
    spoken(2).await?;
    spoken(3).await?;
    let of_worlds = worlds.iter().flat_map(of_world).filter(|message| !before.contains(&key(message)));
    let sent: Vec<_> = of_worlds.collect();
    for (filter, seen) in &subscribers {
        all_that_matches_came(filter, &sent, seen).await.with_context(|| format!("by {filter:?}"))?;
    }
    eventually("all handlers are done", || async { Ok(filtering.stats().in_hand == 0) }).await?;
    for (filter, seen) in &subscribers {
        let matching = seen.messages().iter().all(|message| filter.matches(message));
        ensure!(matching, "{filter:?} got {:?}", seen.messages());
        let keys: Vec<_> = seen.messages().iter().map(key).collect();
        let distinct: HashSet<_> = keys.iter().collect();
        ensure!(distinct.len() == keys.len(), "{filter:?} got a message twice: {keys:?}");
    }
    Ok(())
}

async fn all_that_matches_came(filter: &Filter, sent: &[Arc<Message>], seen: &Collector) -> Result<()> {
    for message in sent.iter().filter(|message| filter.matches(message)) {
        let came = seen.message(message.message_type(), &message.id).await;
        came.with_context(|| format!("{message:?} did not come"))?;
    }
    Ok(())
}

/// A response has the id of its command.
fn key(message: &Arc<Message>) -> (MessageType, Id) {
    (message.message_type(), message.id.clone())
}

/// Makes filters of which each two fields together have each pair of absent, equal and different.
fn array(own: &Filter, other: &Filter) -> Vec<Filter> {
    let build = |from: &dyn Fn(Field) -> Option<Filter>| {
        let mut filter = Filter::any();
        for field in fields::all() {
            field.set(&mut filter, from(field).and_then(|from| field.get(&from)).as_deref());
        }
        filter
    };
    // Six rows, of which each field takes another four: so each two fields share a row, and each has a row that the
    // other has not. A seventh row has no field.
    let rows_of = |field| {
        let choices = (0_u8..64).filter(|rows| rows.count_ones() == 4);
        fields::all().zip(choices).find(|(known, _)| *known == field).map_or(0, |(_, rows)| rows)
    };
    let rows = (0..7).map(|row| build(&|field| (rows_of(field) >> row & 1 == 1).then(|| own.clone())));
    let different = fields::all().map(|it| build(&|field| (field == it).then(|| other.clone())));
    let all_but_one =
        fields::all().map(|it| build(&|field| Some(if field == it { other.clone() } else { own.clone() })));
    rows.chain(different).chain(all_but_one).chain([build(&|_| Some(other.clone()))]).collect()
}

async fn empty_values_are_refused(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    stage.begin().await?;
    let before = stage.deployment().routes().await?;
    let full = identity(&stage, "full").with_message_type(MessageType::CustomMessage);
    for field in fields::all().filter(|field| *field != Field::MessageType) {
        for filter in [field.with(Filter::any(), ""), field.with(full.clone(), "")] {
            let handler = Collector::new().handler();
            let refused = stage.subscribe(&*bridge, "empty", filter, Default::default(), handler).await;
            let error = refused.err().with_context(|| format!("an empty {field:?} was taken"))?;
            ensure!(error.kind() == ErrorKind::InvalidMessage, "{field:?}: {error:?}");
        }
    }
    let after = stage.deployment().routes().await?;
    ensure!(after == before, "{before} routes became {after}");
    Ok(())
}

/// Names that someone may take for one another.
const ALIKE: [(&str, &str); 20] = [
    ("acme-1", "acme_1"),
    ("acme-1", "acme.1"),
    ("acme 1", "acme1"),
    ("acme/1", "acme.1"),
    ("acme", "Acme"),
    ("acme", "ACME"),
    ("userId", "user-id"),
    ("userId", "user_id"),
    ("acme", "acme "),
    ("acme", " acme"),
    ("acme", "acme\u{200b}"),
    ("caf\u{e9}", "cafe\u{301}"),
    ("\u{1e9b}\u{323}", "\u{1e69}"),
    ("stra\u{df}e", "strasse"),
    ("\u{fb01}sh", "fish"),
    ("\u{130}stanbul", "istanbul"),
    ("\u{ff41}cme", "acme"),
    ("\u{65e5}A", "a"),
    ("a%2Fb", "a/b"),
    ("1", "01"),
];

async fn nothing_is_normalised(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let mut pairs = Vec::new();
    for (number, (one, other)) in ALIKE.into_iter().enumerate() {
        let identity = identity(&stage, &format!("pair{number}"));
        let mut sides = Vec::new();
        for name in [one, other] {
            let target = format!("{name} of pair {number}");
            stage.serve(&*bridge, &target, CommandOptions::default(), named(name)).await?;
            for field in CHOSEN {
                let filter = field.with(identity.clone(), name);
                let seen = stage.watch(&*bridge, &format!("{target} by {field:?}"), filter.clone()).await?;
                sides.push((name, filter, seen));
            }
        }
        pairs.push(sides);
    }
    // A name that someone may take for the absence of one.
    let mut mistaken = Vec::new();
    for name in ["none", "null", "undefined", "-", "_", "*", "0"] {
        let filter = Filter::event(stage.unique("absent")).with_tenant_id(name);
        mistaken.push((name, stage.watch(&*bridge, &format!("tenant {name}"), filter).await?));
    }
    stage.begin().await?;
    for (number, sides) in pairs.into_iter().enumerate() {
        for text in ["first", "sentinel"] {
            for (name, filter, _) in &sides {
                let draft = fields::event(filter).with_payload(Payload::json(&[text, name])?);
                bridge.emit_message(draft, &patient_emit()).await?;
            }
            for (name, filter, seen) in &sides {
                let came = seen.sentinel(&serde_json::json!([text, name]).to_string()).await;
                came.with_context(|| format!("{filter:?}"))?;
            }
        }
        for (name, filter, seen) in &sides {
            let expected = ["first", "sentinel"].map(|text| serde_json::json!([text, name]).to_string());
            ensure!(seen.payloads() == expected, "{name:?} got {:?} by {filter:?}", seen.payloads());
            let answer = stage.invoke(&*bridge, &format!("{name} of pair {number}"), &0).await?;
            ensure!(answer.payload() == Some(&Payload::json(name)?), "{name:?} was answered {answer:?}");
        }
    }
    stage.emit(&*bridge, "absent", &"of no tenant").await?;
    for (name, seen) in mistaken {
        let draft = stage.event("absent", &"sentinel")?.with_tenant_id(name);
        bridge.emit_message(draft, &patient_emit()).await?;
        seen.sentinel("\"sentinel\"").await?;
        ensure!(seen.count() == 1, "{name:?} got {:?}", seen.payloads());
    }
    Ok(())
}

/// Serves a command by telling its name.
fn named(name: &'static str) -> Arc<dyn CommandHandler> {
    on_command(move |_| async move { Ok(Some(Payload::json(name)?)) })
}

async fn what_is_routed_wrongly_is_not_handled(stage: Stage) -> Outcome {
    events_that_do_not_match(&stage).await?;
    commands_for_others(&stage).await
}

async fn events_that_do_not_match(stage: &Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let (broker, event, tenant) = (stage.deployment(), stage.unique("wanted"), stage.unique("tenant"));
    let seen = stage.watch(&*bridge, "subscriber", Filter::event(event).with_tenant_id(&tenant)).await?;
    stage.begin().await?;
    let right = stage.event("wanted", &"wrong")?.with_tenant_id(&tenant);
    let wrong = [
        stage.event("wanted", &"wrong")?,
        right.clone().with_tenant_id(stage.unique("foreigner")),
        right.clone().with_event_name(stage.unique("other")),
    ];
    let filtered = bridge.stats().filtered;
    for draft in wrong {
        let bytes = draft.stamp(bridge.instance_id()).encode();
        ensure!(broker.misroute(&stage.address("subscriber"), bytes).await?, "there is no subscriber");
    }
    let sentinel = right.with_payload(Payload::json(&"sentinel")?);
    bridge.emit_message(sentinel, &patient_emit()).await?;
    seen.sentinel("\"sentinel\"").await?;
    // The broker may route more than it should by itself.
    eventually("what was filtered is counted", || async { Ok(bridge.stats().filtered >= filtered + 3) })
        .await?;
    ensure!(seen.count() == 1, "a subscriber got {:?}", seen.payloads());
    Ok(())
}

async fn commands_for_others(stage: &Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let executed = Collector::new();
    let log = Arc::clone(&executed);
    let handler = on_command(move |context| {
        log.record(&context);
        async { Ok(None) }
    });
    stage.serve(&*bridge, "command", CommandOptions::default(), handler).await?;
    stage.begin().await?;
    let right = stage.address("command");
    let wrong: [Receiver; 4] = [
        stage.address("other").into(),
        ServiceAddress::new(stage.unique("Service"), "2", "command").into(),
        ServiceAddress::new(stage.unique("Other"), "1", "command").into(),
        Receiver::new(&right).with_instance_id(Id::random()),
    ];
    let refused = bridge.stats().refused;
    for receiver in wrong {
        let call = CommandDraft::new(stage.address("caller"), receiver);
        let bytes = call.stamp(bridge.instance_id()).encode();
        ensure!(stage.deployment().misroute(&right, bytes).await?, "there is no command");
    }
    stage.invoke(&*bridge, "command", &"sentinel").await?;
    eventually("what was refused is counted", || async { Ok(bridge.stats().refused == refused + 4) }).await?;
    ensure!(executed.count() == 1, "executed {:?}", executed.messages());
    Ok(())
}

async fn each_field_filters_alone(stage: Stage) -> Outcome {
    let bridges = try_join_all([stage.bridge(), stage.bridge()]).await?;
    let [ours, theirs] = ["ours", "theirs"].map(|name| identity(&stage, name));
    let theirs = theirs.with_message_type(MessageType::InfoServiceDrain);
    let mut asked = ours.clone().with_message_type(MessageType::CustomMessage);
    asked.sender.instance_id = Some(bridges[0].instance_id().clone());
    let mut subscribers = Vec::new();
    for field in fields::all() {
        let mut filter = Filter::any();
        field.set(&mut filter, field.get(&asked).as_deref());
        subscribers.push((field, stage.watch(&*bridges[1], &format!("{field:?}"), filter).await?));
    }
    stage.begin().await?;
    for text in ["theirs", "ours"] {
        let (bridge, identity) = if text == "ours" { (&bridges[0], &ours) } else { (&bridges[1], &theirs) };
        let draft = fields::event(identity).with_payload(Payload::json(text)?);
        bridge.emit_message(draft, &patient_emit()).await?;
    }
    for (field, seen) in &subscribers {
        seen.sentinel("\"ours\"").await.with_context(|| format!("by {field:?}"))?;
    }
    let sentinel = fields::event(&ours).with_payload(Payload::json(&"sentinel")?);
    bridges[0].emit_message(sentinel, &patient_emit()).await?;
    for (field, seen) in subscribers {
        seen.sentinel("\"sentinel\"").await.with_context(|| format!("by {field:?}"))?;
        let mut came = seen.payloads();
        // The bridges themselves emit too.
        came.retain(|text| ["\"theirs\"", "\"ours\"", "\"sentinel\""].contains(&text.as_str()));
        ensure!(came == ["\"ours\"", "\"sentinel\""], "by {field:?} came {came:?}");
    }
    Ok(())
}
