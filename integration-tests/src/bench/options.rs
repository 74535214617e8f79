use std::time::Duration;

use anyhow::Context as _;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(super) struct Options {
    action: Action,
    pub(super) rounds: usize,
    pub(super) seconds: Duration,
    pub(super) warm_up: Duration,
    /// The only contender; all if it is `None`.
    pub(super) who: Option<String>,
    filters: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Measure,
    /// Tries each scenario once, as `cargo test --benches` wants it.
    Test,
    List,
}

impl Options {
    /// Reads the command line. Flags of cargo and of other runners that mean nothing here are passed over.
    pub(super) fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        // Cargo says `--bench` when it measures, and nothing when it tests.
        let (mut action, mut rounds, mut seconds) = (Action::Test, 7, 1.5);
        let (mut filters, mut who) = (Vec::new(), None);
        while let Some(argument) = arguments.next() {
            let (flag, given) = match argument.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let mut value = || {
                given.clone().or_else(|| arguments.next()).with_context(|| format!("{flag} needs a value"))
            };
            match flag {
                "--bench" if action != Action::List => action = Action::Measure,
                "--test" => action = Action::Test,
                "--list" => action = Action::List,
                "--rounds" => rounds = value()?.parse().context("--rounds")?,
                "--seconds" => seconds = value()?.parse().context("--seconds")?,
                "--who" => who = Some(value()?),
                flag if flag.starts_with('-') => {}
                _ => filters.push(argument),
            }
        }
        if action == Action::Test {
            (rounds, seconds) = (1, 0.05);
        }
        let seconds = Duration::try_from_secs_f64(seconds).context("--seconds")?;
        Ok(Self {
            action,
            rounds: rounds.max(1),
            seconds,
            warm_up: seconds.min(Duration::from_secs(1)),
            who,
            filters,
        })
    }

    /// Returns whether only the names of the scenarios were asked for.
    pub(super) fn only_lists(&self) -> bool {
        self.action == Action::List
    }

    /// Returns whether a scenario was asked for.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }
}
