//! Dead letters that are read, sent again, and given up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use purista_core::{
    Capability, DeadLetterFilter, DeadLetters, ErrorKind, EventBridge, Filter, HandlerError, KeptDeadLetter,
    Payload, RedriveOptions, Registration, RetryPolicy, SubscriptionOptions,
};

use crate::{
    broker::NetworkFault,
    case::{Case, Outcome, case},
    ledger::Ledger,
    probe::{Collector, grows_to, on_event, within},
    profile::DeploymentOptions,
    stage::Stage,
};

pub(super) const CASES: &[Case] = &[
    case!("DLQ-1", listing_changes_nothing, Capability::DeadLetterInspection, else refuses_inspection),
    case!("DLQ-2", one_subscriber_gets_it_again, Capability::DeadLetterInspection, else refuses_inspection),
    case!("DLQ-3", what_cannot_be_sent_stays, Capability::DeadLetterInspection, else refuses_inspection),
    case!("DLQ-4", a_filter_says_which, Capability::DeadLetterInspection, else refuses_inspection),
    case!("DLQ-5", a_killed_broker_loses_none, Capability::DeadLetterInspection, else refuses_inspection),
];

/// How long is waited for what must happen.
const LONG: Duration = Duration::from_secs(60);

/// More letters than any trial makes.
const ALL: usize = 1_000;

/// A subscriber that fails until it is mended.
struct Patient {
    is_mended: Arc<AtomicBool>,
    seen: Arc<Collector>,
    registration: Registration,
}

impl Patient {
    async fn new(
        stage: &Stage,
        bridge: &dyn EventBridge,
        target: &str,
        filter: Filter,
        attempts: u32,
    ) -> Result<Self> {
        let (is_mended, seen) = (Arc::new(AtomicBool::new(false)), Collector::new());
        let (mended, collector) = (Arc::clone(&is_mended), Arc::clone(&seen));
        let handler = on_event(move |context| {
            collector.record(&context);
            let is_mended = mended.load(Ordering::SeqCst);
            async move { if is_mended { Ok(()) } else { Err(HandlerError::unhandled("on purpose")) } }
        });
        let retry = RetryPolicy::default().with_max_attempts(attempts).with_initial_delay(Duration::ZERO);
        // It is gone when it unregisters.
        let options =
            SubscriptionOptions::default().with_retry(retry).with_max_concurrency(1).with_durable(false);
        let registration =
            stage.subscribe(bridge, target, filter, options, handler).await.context("subscribe")?;
        Ok(Self { is_mended, seen, registration })
    }

    fn mend(&self) {
        self.is_mended.store(true, Ordering::SeqCst);
    }
}

async fn refuses_inspection(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    stage.begin().await?;
    let refused = bridge.dead_letters().err().context("it is given and not claimed")?;
    ensure!(refused.kind() == ErrorKind::Unsupported(Capability::DeadLetterInspection), "{refused:?}");
    Ok(())
}

/// Emits an event, and waits until so many dead letters are there, all in all.
async fn emit_to_death(
    stage: &Stage,
    bridge: &dyn EventBridge,
    event: &str,
    content: &str,
    letters: u64,
) -> Result<()> {
    stage.emit(bridge, event, content).await?;
    let are_there = || async { Ok(bridge.stats().dead_lettered == letters) };
    within(LONG, "it is a dead letter", are_there).await.with_context(|| format!("{:?}", bridge.stats()))
}

/// Returns all letters, by pages of this size.
async fn list(
    letters: &dyn DeadLetters,
    filter: &DeadLetterFilter,
    limit: usize,
) -> Result<Vec<KeptDeadLetter>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = letters.list(filter, limit, after.as_ref()).await.context("list")?;
        ensure!(page.letters.len() <= limit, "{} letters on a page of {limit}", page.letters.len());
        ensure!(page.next.is_none() || page.next != after, "the next page is this one");
        all.extend(page.letters);
        ensure!(all.len() <= ALL, "the pages do not end");
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}

/// Returns the payloads of letters as JSON text.
fn payloads<'a>(letters: impl IntoIterator<Item = &'a KeptDeadLetter>) -> Result<Vec<String>> {
    let payload = |kept: &KeptDeadLetter| {
        let message = purista_core::Message::decode(kept.letter.original.clone())?;
        Ok(message.payload().map_or_else(String::new, |payload| payload.as_str().to_owned()))
    };
    letters.into_iter().map(payload).collect()
}

async fn listing_changes_nothing(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let _one = Patient::new(&stage, &*bridge, "one", Filter::event(stage.unique("event")), 1).await?;
    let _two = Patient::new(&stage, &*bridge, "two", Filter::event(stage.unique("other")), 1).await?;
    stage.begin().await?;
    let contents = ["0", "1", "2", "3", "4"];
    for (content, count) in contents.iter().zip(1..) {
        emit_to_death(&stage, &*bridge, "event", content, count).await?;
    }
    emit_to_death(&stage, &*bridge, "other", "5", 6).await?;

    let (letters, any) = (bridge.dead_letters()?, DeadLetterFilter::default());
    let first = list(&*letters, &any, 2).await?;
    let expected: Vec<_> = (0..6).map(|number| format!("\"{number}\"")).collect();
    ensure!(payloads(&first)? == expected, "{first:?}");
    for limit in [4, 100] {
        let again = list(&*letters, &any, limit).await?;
        ensure!(again == first, "listed again by {limit}: {again:?} instead of {first:?}");
    }
    for kept in &first {
        let alone = letters.get(&kept.id).await?;
        ensure!(alone.as_ref() == Some(kept), "{alone:?} instead of {kept:?}");
        ensure!((kept.letter.redrives, kept.letter.attempts) == (0, 1), "{kept:?}");
    }
    let died = first[2].letter.last_attempt_at;
    for filter in [
        any.clone().with_subscriber(stage.address("one")),
        any.clone().with_subscriber(stage.address("nobody")),
        any.clone().with_event_name(stage.unique("other")),
        any.clone().with_died_from(died),
        any.clone().with_died_before(died),
        any.clone().with_subscriber(stage.address("one")).with_event_name(stage.unique("other")),
    ] {
        let found = list(&*letters, &filter, 2).await?;
        let expected: Vec<_> = first.iter().filter(|kept| filter.matches(&kept.letter)).cloned().collect();
        ensure!(found == expected, "{filter:?}: {found:?} instead of {expected:?}");
    }
    for limit in [0, usize::MAX] {
        let refused = letters.list(&any, limit, None).await.err().context("an odd limit is taken")?;
        ensure!(refused.kind() == ErrorKind::InvalidConfig, "{refused:?}");
    }
    let taken = stage.deployment().take_dead_letters().await?;
    let kept: Vec<_> = first.into_iter().map(|kept| kept.letter).collect();
    ensure!(taken == kept, "what is there is {taken:?} instead of {kept:?}");
    Ok(())
}

async fn one_subscriber_gets_it_again(stage: Stage) -> Outcome {
    let (bridge, other) = (stage.bridge().await?, stage.bridge().await?);
    let event = || Filter::event(stage.unique("event"));
    let patient = Patient::new(&stage, &*bridge, "patient", event(), 2).await?;
    let bystander = stage.watch(&*other, "bystander", event()).await?;
    stage.begin().await?;
    emit_to_death(&stage, &*bridge, "event", "content", 1).await?;
    let sent = patient.seen.messages();
    ensure!(sent.len() == 2, "{} attempts instead of 2", sent.len());

    patient.mend();
    // The one that asks is not the one that failed.
    let (letters, any) = (other.dead_letters()?, DeadLetterFilter::default());
    let kept = list(&*letters, &any, ALL).await?;
    ensure!(kept.len() == 1, "{kept:?}");
    letters.redrive(&kept[0].id, &RedriveOptions::default()).await.context("redrive")?;
    within(LONG, "it is handled", || async { Ok(bridge.stats().handled == 1) }).await?;
    let seen = patient.seen.seen();
    let numbers: Vec<_> = seen.iter().map(|seen| seen.attempt).collect();
    ensure!(numbers == [1, 2, 1], "attempts {numbers:?}");
    ensure!(seen.iter().all(|seen| *seen.message == *sent[0]), "another message was sent again");

    ensure!(list(&*letters, &any, ALL).await?.is_empty(), "it is still a dead letter");
    ensure!(letters.get(&kept[0].id).await?.is_none(), "what is sent can be got");
    let gone = letters.redrive(&kept[0].id, &RedriveOptions::default()).await;
    ensure!(gone.as_ref().err().map(purista_core::Error::kind) == Some(ErrorKind::NotFound), "{gone:?}");
    stage.emit(&*bridge, "event", "sentinel").await?;
    let all_came = || async { Ok(bystander.payloads().iter().any(|payload| payload == "\"sentinel\"")) };
    within(LONG, "the sentinel comes", all_came).await?;
    let bystanders = bystander.payloads();
    ensure!(bystanders == ["\"content\"", "\"sentinel\""], "the other subscriber got {bystanders:?}");
    Ok(())
}

async fn what_cannot_be_sent_stays(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let filter = Filter::event(stage.unique("event"));
    let patient = Patient::new(&stage, &*bridge, "patient", filter, 1).await?;
    stage.begin().await?;
    let (letters, any) = (bridge.dead_letters()?, DeadLetterFilter::default());
    let options = RedriveOptions::default().with_max_redrives(2);
    emit_to_death(&stage, &*bridge, "event", "content", 1).await?;
    for redrives in 0..2 {
        let kept = list(&*letters, &any, ALL).await?;
        ensure!(kept.len() == 1 && kept[0].letter.redrives == redrives, "after {redrives}: {kept:?}");
        letters.redrive(&kept[0].id, &options).await.context("redrive")?;
        let wanted = u64::from(redrives) + 2;
        within(LONG, "it dies again", || async { Ok(bridge.stats().dead_lettered == wanted) }).await?;
    }
    let kept = list(&*letters, &any, ALL).await?;
    ensure!(kept.len() == 1, "{kept:?}");
    ensure!((kept[0].letter.redrives, kept[0].letter.attempts) == (2, 1), "{kept:?}");
    let refused = letters.redrive(&kept[0].id, &options).await.err().context("sent beyond the limit")?;
    ensure!(refused.kind() == ErrorKind::RedriveLimit, "{refused:?}");
    let report = letters.redrive_all(&any, &options).await?;
    ensure!((report.redriven, report.over_limit) == (0, 1), "{report:?}");

    let with_it = stage.deployment().routes().await?;
    patient.registration.unregister().await?;
    let is_gone = || async { Ok(stage.deployment().routes().await? < with_it) };
    within(LONG, "the subscriber is gone", is_gone).await?;
    let options = RedriveOptions::default();
    let refused = letters.redrive(&kept[0].id, &options).await.err().context("sent to nobody")?;
    ensure!(refused.kind() == ErrorKind::Unroutable, "{refused:?}");
    let report = letters.redrive_all(&any, &options).await?;
    ensure!((report.redriven, report.without_subscriber) == (0, 1), "{report:?}");
    let stays = list(&*letters, &any, ALL).await?;
    ensure!(stays == kept, "{stays:?} instead of {kept:?}");
    Ok(())
}

async fn a_filter_says_which(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let (event, other) = (stage.unique("event"), stage.unique("other"));
    let one = Patient::new(&stage, &*bridge, "one", Filter::event(event.clone()), 1).await?;
    let two = Patient::new(&stage, &*bridge, "two", Filter::event(event.clone()), 1).await?;
    let three = Patient::new(&stage, &*bridge, "three", Filter::event(other.clone()), 1).await?;
    stage.begin().await?;
    for (name, content, count) in [("event", "a", 2), ("other", "b", 3), ("event", "c", 5), ("other", "d", 6)]
    {
        emit_to_death(&stage, &*bridge, name, content, count).await?;
    }
    let (letters, any) = (bridge.dead_letters()?, DeadLetterFilter::default());
    let before = list(&*letters, &any, ALL).await?;
    ensure!(before.len() == 6, "{before:?}");
    let of_others = any.clone().with_event_name(other);
    let purged = letters.purge_all(&of_others).await?;
    ensure!(purged == 2, "{purged} were given up instead of 2");
    let left: Vec<_> = before.into_iter().filter(|kept| !of_others.matches(&kept.letter)).collect();
    let found = list(&*letters, &any, ALL).await?;
    ensure!(found == left, "what is left is {found:?} instead of {left:?}");

    let of_one = any.clone().with_subscriber(stage.address("one"));
    let ones = list(&*letters, &of_one, ALL).await?;
    ensure!(letters.purge(&ones[0].id).await?, "it was not there");
    ensure!(!letters.purge(&ones[0].id).await?, "it was there twice");
    ensure!(letters.get(&ones[0].id).await?.is_none(), "it is still there");

    [&one, &two, &three].into_iter().for_each(Patient::mend);
    let of_two = any.clone().with_subscriber(stage.address("two"));
    let report = letters.redrive_all(&of_two, &RedriveOptions::default()).await?;
    ensure!(report.redriven == 2, "{report:?}");
    within(LONG, "both are handled", || async { Ok(bridge.stats().handled == 2) }).await?;
    ensure!(two.seen.payloads()[2..] == ["\"a\"", "\"c\""], "{:?}", two.seen.payloads());
    ensure!(one.seen.count() == 2 && three.seen.count() == 2, "others got something");
    let found = list(&*letters, &any, ALL).await?;
    ensure!(found == ones[1..], "what is left is {found:?} instead of {:?}", &ones[1..]);
    Ok(())
}

async fn a_killed_broker_loses_none(mut stage: Stage) -> Outcome {
    const LETTERS: usize = 200;
    stage.own_broker(DeploymentOptions::default()).await?;
    let bridge = stage.bridge().await?;
    let (is_mended, ledger) = (Arc::new(AtomicBool::new(false)), Arc::new(Ledger::default()));
    let (mended, books) = (Arc::clone(&is_mended), Arc::clone(&ledger));
    let handler = on_event(move |context| {
        let number = context.message().payload().map(Payload::deserialize);
        let (is_mended, books) = (mended.load(Ordering::SeqCst), Arc::clone(&books));
        async move {
            if !is_mended {
                return Err(HandlerError::unhandled("on purpose"));
            }
            books.handled(number.ok_or_else(|| HandlerError::unhandled("no number"))??);
            Ok(())
        }
    });
    let retry = RetryPolicy::default().with_max_attempts(1);
    let options = SubscriptionOptions::default().with_retry(retry).with_durable(true);
    let filter = Filter::event(stage.unique("event"));
    stage.subscribe(&*bridge, "subscriber", filter, options, handler).await.context("subscribe")?;
    stage.begin().await?;
    stage.emit_each(&*bridge, "event", 0..LETTERS).await?;
    (0..LETTERS as u64).for_each(|number| ledger.ok(number));
    let stats = || bridge.stats();
    grows_to(LETTERS, "dead letters", || usize::try_from(stats().dead_lettered).unwrap_or(0)).await?;

    is_mended.store(true, Ordering::SeqCst);
    let letters = bridge.dead_letters()?;
    let (all, options) = (DeadLetterFilter::default(), RedriveOptions::default());
    let broker = stage.broker()?;
    // Slow enough that the kill comes in the middle.
    broker.break_network(NetworkFault::Delay(Duration::from_millis(20)));
    let sending = tokio::spawn({
        let (letters, all) = (Arc::clone(&letters), all.clone());
        async move { letters.redrive_all(&all, &options).await }
    });
    within(LONG, "some are sent", || async { Ok(stats().redriven >= 20) }).await?;
    broker.kill().await?;
    broker.mend_network();
    broker.start().await?;
    // It fails, or was the first to find the bridge connected again.
    let _sent = sending.await?;
    let are_handled = || async {
        // It fails as long as the bridge is not back.
        let again = letters.redrive_all(&all, &options).await;
        let is_done = again.is_ok() && ledger.balance().is_at_least_once();
        Ok(is_done && list(&*letters, &all, ALL).await.is_ok_and(|left| left.is_empty()))
    };
    within(LONG, "all that is left is sent and handled", are_handled)
        .await
        .with_context(|| format!("{:?} {:?}", ledger.balance(), stats()))?;
    Ok(())
}
