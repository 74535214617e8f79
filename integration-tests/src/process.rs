use std::{
    fmt, fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use parking_lot::Mutex;
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use crate::{folder::Folder, launch::Launch, shell::shell, turns::Turns};

/// How long a broker may take to become ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A broker that runs as a child process, with a folder of its own. It ends when the last clone is dropped, and when
/// this process ends, however that happens.
///
/// Nothing in it belongs to a runtime: one trial can start it, others can use it.
#[derive(Clone)]
pub struct Process(Arc<Inner>);

struct Inner {
    // Declared before the folder: the broker ends before its folder is removed.
    running: Mutex<Option<Running>>,
    launch: Launch,
    folder: Folder,
}

struct Running {
    keeper: Child,
    /// The keeper kills the broker when this is closed.
    _leash: ChildStdin,
    broker: Pid,
    kill_command: Option<String>,
    terminate_command: Option<String>,
}

impl Process {
    /// Starts it, and blocks until it is ready.
    pub(crate) fn start(folder: Folder, launch: Launch) -> anyhow::Result<Self> {
        let inner = Inner { running: Mutex::new(None), launch, folder };
        inner.start()?;
        Ok(Self(Arc::new(inner)))
    }

    /// Starts it again with the same configuration, address and data; returns when it is ready.
    ///
    /// # Errors
    ///
    /// If it runs, or does not become ready: with the end of its log.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.blocking(Inner::start).await
    }

    /// Asks it to end (SIGTERM); returns when it has ended.
    ///
    /// # Errors
    ///
    /// If it does not run, or does not end: with the end of its log.
    pub async fn terminate(&self) -> anyhow::Result<()> {
        self.blocking(|inner| inner.end(Running::terminate)).await
    }

    /// Kills it (SIGKILL); returns when it has ended.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.blocking(|inner| inner.end(Running::kill)).await
    }

    /// Removes its data.
    ///
    /// # Errors
    ///
    /// If it runs, or the data cannot be removed.
    pub async fn wipe(&self) -> anyhow::Result<()> {
        self.blocking(Inner::wipe).await
    }

    /// Returns its process id while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        let broker = self.0.running.lock().as_mut().and_then(Running::broker_if_up)?;
        broker.as_raw_nonzero().get().try_into().ok()
    }

    /// Sends it a signal that does not end it.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let mut running = self.0.running.lock();
        let broker = running.as_mut().and_then(Running::broker_if_up);
        let broker = broker.with_context(|| format!("{} does not run", self.0.launch.name))?;
        kill_process(broker, signal).context("signal")
    }

    /// Returns the folder that holds its configuration, data and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.0.folder.path()
    }

    /// Returns the end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.0.folder.log_tail()
    }

    async fn blocking(
        &self,
        work: impl FnOnce(&Inner) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&inner)).await?
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("name", &self.0.launch.name).field("id", &self.id()).finish()
    }
}

impl Inner {
    fn start(&self) -> anyhow::Result<()> {
        let mut slot = self.running.lock();
        self.must_be_down(&mut slot)?;
        let _turn = self.launch.turns.map(Turns::take);
        let mut running = Running::spawn(&self.launch, &self.folder)
            .with_context(|| format!("start {}", self.launch.name))?;
        let ready = running.until_ready(&self.launch);
        *slot = ready.is_ok().then_some(running); // dropped if it is not: that ends it
        ready.map_err(|error| anyhow!("{}", self.story(&format!("did not start: {error:#}"))))
    }

    fn end(&self, how: fn(&Running) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut slot = self.running.lock();
        let running = slot.as_mut().with_context(|| format!("{} does not run", self.launch.name))?;
        if let Some(status) = running.ended() {
            *slot = None;
            bail!("{}", self.story(&format!("ended by itself with {status}")));
        }
        how(running)?;
        if running.wait().is_none() {
            bail!("{}", self.story(&format!("did not end within {PATIENCE:?}")));
        }
        *slot = None;
        Ok(())
    }

    fn wipe(&self) -> anyhow::Result<()> {
        self.must_be_down(&mut self.running.lock())?;
        let data = self.folder.data();
        fs::remove_dir_all(&data).and_then(|()| fs::create_dir(&data)).context("wipe")
    }

    fn must_be_down(&self, slot: &mut Option<Running>) -> anyhow::Result<()> {
        match slot.as_mut().and_then(Running::broker_if_up) {
            Some(broker) => bail!("{} runs, as process {}", self.launch.name, broker.as_raw_nonzero()),
            None => Ok(()),
        }
    }

    fn story(&self, what: &str) -> String {
        format!("{} {what}; the end of its log:\n{}", self.launch.name, self.folder.log_tail())
    }
}

impl Running {
    fn spawn(launch: &Launch, folder: &Folder) -> anyhow::Result<Self> {
        let Launch { kill_command, terminate_command, .. } = launch;
        let mut keeper = Command::new("sh")
            .args(["-c", include_str!("keeper.sh"), "keeper"])
            .args([folder.path(), &folder.log()])
            .arg(kill_command.as_deref().unwrap_or_default())
            .args(&launch.command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C ends the test process, which ends the broker; it must not end the keeper before.
            .process_group(0)
            .spawn()
            .context("sh")?;
        // `Child::wait` would close it first.
        let leash = keeper.stdin.take().context("no standard input")?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().context("no standard output")?).read_line(&mut line)?;
        let broker = line.trim().parse().ok().and_then(Pid::from_raw);
        let broker = broker.with_context(|| format!("no process id: {line:?}"))?;
        let [kill_command, terminate_command] = [kill_command, terminate_command].map(Clone::clone);
        Ok(Self { keeper, _leash: leash, broker, kill_command, terminate_command })
    }

    fn until_ready(&mut self, launch: &Launch) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = launch.check();
            // Asked after the check: another server may have answered at the address that this one failed to get.
            if let Some(status) = self.ended() {
                bail!("it ended with {status}");
            }
            match answer {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("not ready within {PATIENCE:?}")));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.keeper.try_wait().ok().flatten()
    }

    fn broker_if_up(&mut self) -> Option<Pid> {
        self.ended().is_none().then_some(self.broker)
    }

    fn wait(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ended() {
                None if Instant::now() < deadline => thread::sleep(POLL),
                ended => return ended,
            }
        }
    }

    fn terminate(&self) -> anyhow::Result<()> {
        self.end(self.terminate_command.as_deref(), Signal::TERM)
    }

    fn kill(&self) -> anyhow::Result<()> {
        self.end(self.kill_command.as_deref(), Signal::KILL)
    }

    fn end(&self, command: Option<&str>, signal: Signal) -> anyhow::Result<()> {
        if let Some(command) = command {
            return shell(command).map(drop);
        }
        match kill_process(self.broker, signal) {
            // It ended in this moment.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.broker_if_up().is_some() && self.kill().is_ok() {
            self.wait();
        }
    }
}
