//! What a registration asks for, held against what the adapter gives.

use std::time::Duration;

use crate::{
    capability::{Capabilities, Capability},
    error::{Error, ErrorKind},
    options::{Acknowledge, CommandOptions, RetryPolicy, Sharing, SubscriptionOptions},
};

/// How many handlers of one registration run at once if nothing else is asked for.
pub const DEFAULT_CONCURRENCY: usize = 64;

/// The most handlers of one registration that can run at once.
pub const MAX_CONCURRENCY: usize = 65_535;

/// What a registration got: all that was asked for, and for the rest the best that the adapter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Granted {
    /// Whether messages wait at the broker while the service is away.
    pub durable: bool,
    /// Who gets a message when there are several instances.
    pub sharing: Sharing,
    /// When a message is acknowledged.
    pub acknowledge: Acknowledge,
    /// How many handlers run at once.
    pub max_concurrency: usize,
    /// How a failing handler is tried again.
    pub retry: RetryPolicy,
    /// Whether what fails at every attempt is kept as a dead letter.
    pub dead_letter: bool,
    /// How long a handler may run.
    pub handler_timeout: Option<Duration>,
}

/// Meets the options of a command.
pub(crate) fn grant_command(options: &CommandOptions, given: &Capabilities) -> Result<Granted, Error> {
    let durable = options.durable.unwrap_or(false);
    demand(durable, Capability::DurableCommands, given)?;
    let acknowledge = options.acknowledge.unwrap_or(Acknowledge::OnReceive);
    demand(acknowledge == Acknowledge::AfterHandler, Capability::AtLeastOnceCommands, given)?;
    Ok(Granted {
        durable,
        sharing: Sharing::Shared,
        acknowledge,
        max_concurrency: concurrency(options.max_concurrency)?,
        retry: RetryPolicy::NEVER,
        dead_letter: false,
        handler_timeout: handler_timeout(options.handler_timeout)?,
    })
}

/// Meets the options of a subscription.
pub(crate) fn grant_subscription(
    options: &SubscriptionOptions,
    given: &Capabilities,
) -> Result<Granted, Error> {
    let sharing = options.sharing.unwrap_or(if given.has(Capability::SharedSubscriptions) {
        Sharing::Shared
    } else {
        Sharing::Broadcast
    });
    demand(sharing == Sharing::Shared, Capability::SharedSubscriptions, given)?;
    demand(sharing == Sharing::Broadcast, Capability::BroadcastSubscriptions, given)?;

    // A broadcast waits for one certain instance, which most often never comes back under its id.
    let is_better_kept = sharing == Sharing::Shared || !given.has(Capability::TransientSubscriptions);
    let durable = options.durable.unwrap_or(is_better_kept && given.has(Capability::DurableSubscriptions));
    demand(durable, Capability::DurableSubscriptions, given)?;
    demand(!durable, Capability::TransientSubscriptions, given)?;

    let acknowledge = options.acknowledge.unwrap_or(if given.has(Capability::ManualAcknowledgement) {
        Acknowledge::AfterHandler
    } else {
        Acknowledge::OnReceive
    });
    let after_handler = acknowledge == Acknowledge::AfterHandler;
    demand(after_handler, Capability::ManualAcknowledgement, given)?;

    let retry = match options.retry {
        Some(retry) => {
            let wanted = retry.max_attempts > 1;
            demand(wanted, Capability::BoundedRetry, given)?;
            demand(wanted && !retry.initial_delay.is_zero(), Capability::DelayedRetry, given)?;
            if retry.max_attempts == 0 {
                return Err(Error::invalid_config("a handler needs at least one attempt"));
            }
            if wanted && !after_handler {
                return Err(Error::invalid_config("what is acknowledged on receipt cannot be tried again"));
            }
            retry
        }
        None if after_handler && given.has(Capability::BoundedRetry) => RetryPolicy::default(),
        None => RetryPolicy::NEVER,
    };

    let dead_letter = options.dead_letter.unwrap_or(after_handler && given.has(Capability::DeadLetter));
    demand(dead_letter, Capability::DeadLetter, given)?;
    if dead_letter && !after_handler {
        return Err(Error::invalid_config("what is acknowledged on receipt cannot become a dead letter"));
    }

    Ok(Granted {
        durable,
        sharing,
        acknowledge,
        max_concurrency: concurrency(options.max_concurrency)?,
        retry,
        dead_letter,
        handler_timeout: handler_timeout(options.handler_timeout)?,
    })
}

/// Refuses what is wanted and not given.
fn demand(wanted: bool, capability: Capability, given: &Capabilities) -> Result<(), Error> {
    demand_for("register", wanted, capability, given)
}

/// Refuses an operation that wants what is not given.
pub(crate) fn demand_for(
    operation: &'static str,
    wanted: bool,
    capability: Capability,
    given: &Capabilities,
) -> Result<(), Error> {
    if wanted && !given.has(capability) {
        return Err(Error::new(ErrorKind::Unsupported(capability), operation));
    }
    Ok(())
}

fn concurrency(wanted: Option<usize>) -> Result<usize, Error> {
    match wanted.unwrap_or(DEFAULT_CONCURRENCY) {
        handlers @ 1..=MAX_CONCURRENCY => Ok(handlers),
        handlers => Err(Error::invalid_config(format!(
            "a concurrency of {handlers} is not within 1 and {MAX_CONCURRENCY}"
        ))),
    }
}

fn handler_timeout(wanted: Option<Duration>) -> Result<Option<Duration>, Error> {
    wanted.map(crate::options::check_timeout).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durable_is_as_asked_or_refused() {
        let transient = Capabilities::NONE.with(Capability::BroadcastSubscriptions);
        let transient = transient.with(Capability::TransientSubscriptions);
        let kept = Capabilities::NONE.with(Capability::BroadcastSubscriptions);
        let kept = kept.with(Capability::DurableSubscriptions);
        let both = transient.with(Capability::DurableSubscriptions);
        let refused = |capability| Err(ErrorKind::Unsupported(capability));
        for (given, asked, granted) in [
            (transient, None, Ok(false)),
            (transient, Some(true), refused(Capability::DurableSubscriptions)),
            (kept, None, Ok(true)),
            (kept, Some(false), refused(Capability::TransientSubscriptions)),
            // A broadcast, which is better not kept.
            (both, None, Ok(false)),
            (both, Some(true), Ok(true)),
        ] {
            let options = SubscriptionOptions { durable: asked, ..SubscriptionOptions::default() };
            let answer = grant_subscription(&options, &given);
            let answer = answer.map(|granted| granted.durable).map_err(|error| error.kind());
            assert_eq!(answer, granted, "{asked:?}");
        }
    }
}
