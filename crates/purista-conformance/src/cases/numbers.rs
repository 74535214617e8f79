//! What numbers become on their way.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use purista_core::{
    Context, ErrorKind, ErrorPayload, EventBridge, EventBridgeExt as _, Filter, HandledError, HandlerError,
    InvokeError, InvokeOptions, MessageType, Payload, Service, StatusCode,
};
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    case::{Case, Outcome, case},
    stage::{PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[case!("PAY-7", numbers_arrive_bit_for_bit)];

/// How often all kinds of numbers are sent.
const ROUNDS: usize = 8;

/// How many random numbers of each kind go with one message.
const OF_EACH_KIND: usize = 64;

/// Numbers of all kinds, in all kinds of places.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Numbers {
    doubles: Vec<f64>,
    singles: Vec<f32>,
    by_name: BTreeMap<String, f64>,
    maybe: Option<f64>,
    kind: Kind,
    naturals: Vec<u64>,
    integers: Vec<i64>,
    large: (i128, u128),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Kind {
    Pair(f64, f32),
    Named { value: f64 },
}

impl Numbers {
    /// The hard ones, and others by chance.
    fn random(dice: &mut impl Rng) -> Self {
        let hard = [
            0.0,
            -0.0,
            5e-324,
            -5e-324,
            f64::MIN_POSITIVE,
            2.225_073_858_507_201e-308,
            f64::MAX,
            f64::MIN,
            f64::EPSILON,
            1e23,
            9_007_199_254_740_993.0,
            0.1 + 0.2,
            117.633_313_994_000_17,
        ];
        let double =
            |dice: &mut _| finite(|| f64::from_bits(Rng::next_u64(dice)), |number| number.is_finite());
        let single =
            |dice: &mut _| finite(|| f32::from_bits(Rng::next_u32(dice)), |number| number.is_finite());
        // Subnormal ones are too rare to come by chance.
        let subnormals = (0..8).map(|_| f64::from_bits(dice.random_range(1..1 << 52))).collect::<Vec<_>>();
        let amounts = (0..8).map(|_| dice.random_range(0.0..1e6)).collect::<Vec<_>>();
        let random = (0..OF_EACH_KIND).map(|_| double(dice)).collect::<Vec<_>>();
        Self {
            doubles: hard.into_iter().chain(subnormals).chain(amounts).chain(random).collect(),
            singles: [f32::MAX, f32::MIN_POSITIVE, 1e-45, -0.0]
                .into_iter()
                .chain((0..OF_EACH_KIND).map(|_| single(dice)))
                .collect(),
            by_name: (0..4).map(|number| (format!("name {number}"), double(dice))).collect(),
            maybe: Some(double(dice)),
            kind: match dice.random() {
                true => Kind::Pair(double(dice), single(dice)),
                false => Kind::Named { value: double(dice) },
            },
            naturals: vec![u64::MAX, u64::MAX - 1, (1 << 53) + 1, 0, dice.random()],
            integers: vec![i64::MIN, i64::MAX, -((1 << 53) + 1), dice.random()],
            large: (i128::MIN, u128::MAX),
        }
    }

    /// Says everything to the bit, as numbers that are equal need not be the same.
    fn bits(&self) -> String {
        let kind = match &self.kind {
            Kind::Pair(one, two) => (one.to_bits(), Some(two.to_bits())),
            Kind::Named { value } => (value.to_bits(), None),
        };
        let doubles = self.doubles.iter().chain(&self.maybe).chain(self.by_name.values());
        let doubles: Vec<_> = doubles.map(|number| number.to_bits()).collect();
        let singles: Vec<_> = self.singles.iter().map(|number| number.to_bits()).collect();
        format!(
            "{doubles:x?} {singles:x?} {kind:x?} {:?} {:?} {:?}",
            self.naturals, self.integers, self.large
        )
    }

    fn check(&self, came: &Self, place: &str) -> Outcome {
        ensure!(self.bits() == came.bits(), "{place}: {self:?} came as {came:?}");
        Ok(())
    }
}

/// Takes the first number that is fine.
fn finite<T>(mut next: impl FnMut() -> T, is_fine: impl Fn(&T) -> bool) -> T {
    loop {
        let number = next();
        if is_fine(&number) {
            return number;
        }
    }
}

/// Hands what handlers get to the trial.
fn seen<T: Send + 'static>() -> (impl Fn(T) -> Result<(), HandlerError> + Clone + Send + Sync, Seen<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let see = move |value| sender.send(value).map_err(|_| HandlerError::unhandled("the trial is over"));
    (see, Seen(receiver))
}

struct Seen<T>(mpsc::UnboundedReceiver<T>);

impl<T> Seen<T> {
    async fn next(&mut self, what: &str) -> Result<T> {
        let next = tokio::time::timeout(PATIENCE, self.0.recv()).await;
        next.ok().flatten().with_context(|| format!("{what} did not come"))
    }
}

/// What a handler is to do with a number that JSON cannot say.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Say {
    Result,
    ErrorData,
    Event,
    Input,
}

async fn say(
    context: Context,
    what: Say,
    event: Arc<str>,
    echo: purista_core::ServiceAddress,
) -> Result<Vec<f64>, HandlerError> {
    let number = [1.0, f64::NAN];
    let refused = |kind| match kind {
        // The caller is to see it, for the trial.
        ErrorKind::InvalidMessage => HandlerError::from(HandledError::bad_request("refused")),
        other => HandlerError::unhandled(format!("{other}")),
    };
    match what {
        Say::Result => Ok(number.to_vec()),
        Say::ErrorData => match HandledError::bad_request("taken").with_data(&number) {
            Ok(taken) => Err(taken.into()),
            Err(error) => Err(refused(error.kind())),
        },
        Say::Event => match context.emit(&*event, &number).await {
            Ok(_) => Err(HandlerError::unhandled("taken")),
            Err(error) => Err(refused(error.kind())),
        },
        Say::Input => match context.invoke::<Option<Vec<f64>>>(echo, &number).await {
            Ok(_) => Err(HandlerError::unhandled("taken")),
            Err(error) => Err(error.bridge_kind().map_or_else(|| HandlerError::unhandled("called"), refused)),
        },
    }
}

async fn numbers_arrive_bit_for_bit(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let (name, event) = (stage.unique("Service"), stage.unique("numbers"));
    let (see_input, mut inputs) = seen::<(Numbers, Numbers)>();
    let (see_event, mut events) = seen::<Option<Numbers>>();
    let (see_error, mut errors) = seen::<ErrorPayload>();
    let (forwarded, echo_address, said) =
        (event.clone(), stage.address("echo"), Arc::<str>::from(event.as_ref()));
    let service = Service::new(name, "1")
        .command("echo", move |context: Context, input: Numbers| {
            let (see, event) = (see_input.clone(), forwarded.clone());
            async move {
                see((input.clone(), context.parameter()?))?;
                context.emit(event, &input).await?;
                Ok(input)
            }
        })
        .command("fail", |_: Context, input: Numbers| async move {
            Err::<(), _>(HandledError::bad_request("no").with_data(&input)?.into())
        })
        .command("say", move |context: Context, what: Say| {
            say(context, what, Arc::clone(&said), echo_address.clone())
        })
        .subscription("events", Filter::event(&event), move |_: Context, content: Option<Numbers>| {
            let seen = see_event(content);
            async move { seen }
        })
        .subscription(
            "errors",
            Filter::message_type(MessageType::CommandErrorResponse).with_sender(stage.address("fail")),
            move |_: Context, error: ErrorPayload| {
                let seen = see_error(error);
                async move { seen }
            },
        );
    bridge.serve([service]).await?;

    let mut dice = StdRng::seed_from_u64(stage.seed());
    for round in 0..ROUNDS {
        let numbers = Numbers::random(&mut dice);
        let draft = stage.call("echo", &numbers)?.with_parameter(Payload::json(&numbers)?);
        let answer = bridge.invoke_command(draft, &InvokeOptions::default()).await?;
        let answer: Numbers = answer.payload().context("an answer without its result")?.deserialize()?;
        numbers.check(&answer, "the result of a command")?;
        let (input, parameter) = inputs.next("the input").await?;
        numbers.check(&input, "the input of a command")?;
        numbers.check(&parameter, "the parameter of a command")?;
        let content = events.next("the event of a handler").await?.context("an event without content")?;
        numbers.check(&content, "the event of a handler")?;

        bridge.emit(event.clone(), &numbers).await?;
        let content = events.next("the event").await?.context("an event without content")?;
        numbers.check(&content, "an event")?;

        let failed = bridge.invoke::<()>(stage.address("fail"), &numbers).await;
        let Err(InvokeError::Handled(error)) = failed else { anyhow::bail!("round {round}: {failed:?}") };
        let data: Numbers = error.data().context("an error without its data")?.deserialize()?;
        numbers.check(&data, "the data of an error")?;
        let observed = errors.next("the error").await?.data.context("an error without its data")?;
        numbers.check(&observed.deserialize()?, "the data of an error that is observed")?;
    }
    refuses_what_json_cannot_say(&stage, &*bridge, &event).await?;
    bridge.emit(event, &()).await?;
    let after = events.next("the sentinel").await?;
    ensure!(after.is_none(), "what JSON cannot say became {after:?}");
    Ok(())
}

async fn refuses_what_json_cannot_say(stage: &Stage, bridge: &dyn EventBridge, event: &str) -> Outcome {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        #[expect(clippy::cast_possible_truncation, reason = "it is not finite as a single either")]
        let single = number as f32;
        is_refused(Payload::json(&BTreeMap::from([("name", Some(number))])), "a payload")?;
        is_refused(HandledError::bad_request("no").with_data(&(1, number)), "error data")?;
        is_refused(bridge.emit(event, &[single]).await, "an event")?;
        let called = bridge.invoke::<Option<Numbers>>(stage.address("echo"), &Some(number)).await;
        let kind = called.as_ref().err().and_then(InvokeError::bridge_kind);
        ensure!(kind == Some(ErrorKind::InvalidMessage), "{number} as the input of a command: {called:?}");
    }
    for what in [Say::ErrorData, Say::Event, Say::Input] {
        let said = bridge.invoke::<Option<Vec<f64>>>(stage.address("say"), &what).await;
        let is_refused = matches!(&said, Err(InvokeError::Handled(error)) if error.message() == "refused");
        ensure!(is_refused, "NaN as {what:?} in a handler: {said:?}");
    }
    let said = bridge.invoke::<Option<Vec<Option<f64>>>>(stage.address("say"), &Say::Result).await;
    let is_refused = matches!(said, Err(InvokeError::Unhandled(StatusCode::INTERNAL_SERVER_ERROR)));
    ensure!(is_refused, "NaN as the result of a command: {said:?}");
    Ok(())
}

fn is_refused<T: Debug>(result: purista_core::Result<T>, what: &str) -> Outcome {
    let error =
        result.err().with_context(|| format!("{what} with a number that JSON cannot say was taken"))?;
    ensure!(error.kind() == ErrorKind::InvalidMessage, "{what}: {error:?}");
    Ok(())
}
