use std::{ffi::OsString, fmt};

type Check = Box<dyn Fn() -> anyhow::Result<()> + Send + Sync>;

/// How a broker is started, and how one sees that it is ready.
pub(crate) struct Launch {
    pub(crate) name: &'static str,
    pub(crate) command: Vec<OsString>,
    pub(crate) kill_command: Option<String>,
    ready: Check,
}

impl Launch {
    /// Describes a broker; `ready` blocks for a short time only, and is asked again until it is content.
    pub(crate) fn new(
        name: &'static str,
        command: Vec<OsString>,
        ready: impl Fn() -> anyhow::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { name, command, kill_command: None, ready: Box::new(ready) }
    }

    /// Kills the broker by a command of the shell instead of a signal.
    pub(crate) fn killed_by(mut self, command: String) -> Self {
        self.kill_command = Some(command);
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
