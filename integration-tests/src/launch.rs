use std::{ffi::OsString, fmt};

use crate::turns::Turns;

type Check = Box<dyn Fn() -> anyhow::Result<()> + Send + Sync>;

/// How a broker is started, and how one sees that it is ready.
pub(crate) struct Launch {
    pub(crate) name: &'static str,
    pub(crate) command: Vec<OsString>,
    pub(crate) kill_command: Option<String>,
    pub(crate) terminate_command: Option<String>,
    pub(crate) turns: Option<&'static Turns>,
    ready: Check,
}

impl Launch {
    /// Describes a broker; `ready` blocks for a short time only, and is asked again until it is content.
    pub(crate) fn new(
        name: &'static str,
        command: Vec<OsString>,
        ready: impl Fn() -> anyhow::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let ready = Box::new(ready);
        Self { name, command, kill_command: None, terminate_command: None, turns: None, ready }
    }

    /// Kills the broker by a command of the shell instead of a signal.
    pub(crate) fn killed_by(mut self, command: String) -> Self {
        self.kill_command = Some(command);
        self
    }

    /// Asks the broker to end by a command of the shell instead of a signal.
    pub(crate) fn terminated_by(mut self, command: String) -> Self {
        self.terminate_command = Some(command);
        self
    }

    /// Limits how many start at once.
    pub(crate) const fn in_turns(mut self, turns: &'static Turns) -> Self {
        self.turns = Some(turns);
        self
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        (self.ready)()
    }
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("name", &self.name)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}
