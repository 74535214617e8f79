//! From the start of a process's services to its exit code.

use std::{
    process::{ExitCode, Termination},
    sync::Arc,
    time::Duration,
};

use purista_core::{
    BridgeEvent, BridgeState, ErrorKind, EventBridge, EventBridgeExt as _, Result, Service, ShutdownReport,
};

use tokio::runtime::Handle;

use crate::Error;

/// How long [`run`] lets handlers finish, and calls be answered, after it was told to end: less than the 10 s after which
/// `docker stop`, and the 30 s after which Kubernetes, kills a process.
pub const DRAIN_TIME: Duration = Duration::from_secs(8);

/// The exit code of a process that ended before everything finished.
const UNFINISHED: u8 = 3;

/// Serves until SIGTERM or Ctrl-C, then takes nothing new and lets what runs finish, for [`DRAIN_TIME`] at the most. A second
/// signal ends it at once, whatever still runs. It ends, too, when the bridge is shut down elsewhere. A handler that blocks its
/// thread can keep the runtime, and with it the process, after that.
///
/// What it returns can be what `main` returns: its exit code is 0 if everything finished, 3 if not, and 1 if the services could
/// not be served.
///
/// ```no_run
/// use purista::prelude::*;
///
/// #[tokio::main]
/// async fn main() -> purista::Result<purista::RunReport> {
///     let greet = |_: Context, name: String| async move { Ok(format!("Hello, {name}!")) };
///     let greeter = Service::new("Greeter", "1").command("greet", greet);
///     purista::run(purista::from_env()?, [greeter]).await
/// }
/// ```
///
/// # Errors
///
/// Those of [`serve`](crate::EventBridgeExt::serve): the first registration that failed, or the start. The bridge is shut down
/// then. [`Unexpected`](ErrorKind::Unexpected) if the process cannot listen to signals.
///
/// # Cancel safety
///
/// Dropping the future leaves the bridge as it is at that moment, and the signals unheard.
pub async fn run(
    bridge: Arc<dyn EventBridge>,
    services: impl IntoIterator<Item = Service> + Send,
) -> Result<RunReport> {
    let mut signals = Signals::listen()?;
    let served = serve(&*bridge, services, signals.next()).await;
    let shutdown = tokio::select! {
        biased;
        report = bridge.shutdown(DRAIN_TIME) => Some(report),
        () = signals.next() => None,
    };
    served.map(|()| RunReport::of(shutdown))
}

/// Serves until a future is ready, then takes nothing new and lets what runs finish, for so long at the most: [`run`] for
/// processes that have their own signals, and for tests.
///
/// ```
/// use purista::prelude::*;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bridge = purista::connect("default")?;
/// let report = purista::run_until(bridge, [], async { /* what the process waits for */ }, Duration::from_secs(5)).await?;
/// assert!(report.is_clean());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`serve`](crate::EventBridgeExt::serve): the first registration that failed, or the start. The bridge is shut down
/// then.
///
/// # Cancel safety
///
/// Dropping the future leaves the bridge as it is at that moment.
pub async fn run_until(
    bridge: Arc<dyn EventBridge>,
    services: impl IntoIterator<Item = Service> + Send,
    end: impl Future<Output = ()> + Send,
    drain_time: Duration,
) -> Result<RunReport> {
    let served = serve(&*bridge, services, end).await;
    let shutdown = bridge.shutdown(drain_time).await;
    served.map(|()| RunReport::of(Some(shutdown)))
}

/// Listens to SIGTERM and Ctrl-C from now on, and returns what is ready when one comes: for [`run_until`].
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use purista::prelude::*;
///
/// let end = purista::end_signal()?;
/// let bridge = purista::from_env()?;
/// bridge.serve([/* services */]).await?;
/// println!("ready");
/// let report = purista::run_until(bridge, [], end, purista::DRAIN_TIME).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Unexpected`](ErrorKind::Unexpected) if the process cannot listen to signals, and outside of a runtime.
pub fn end_signal() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut signals = Signals::listen()?;
    Ok(async move { signals.next().await })
}

/// Serves until the end, or until somebody else shuts the bridge down.
async fn serve(
    bridge: &dyn EventBridge,
    services: impl IntoIterator<Item = Service> + Send,
    end: impl Future<Output = ()> + Send,
) -> Result<()> {
    // Before the start, so that no shutdown is missed.
    let mut events = bridge.events();
    let work = async {
        bridge.serve(services).await?;
        tracing::info!(bridge = bridge.name(), instance_id = %bridge.instance_id(), "serving");
        while bridge.health().state != BridgeState::ShutDown {
            match events.next().await {
                Some(BridgeEvent::Draining | BridgeEvent::ShutDown) | None => break,
                Some(_) => {}
            }
        }
        Ok(())
    };
    tokio::select! {
        biased;
        () = end => Ok(()),
        served = work => served,
    }
}

/// How the services of a process ended.
#[derive(Clone, Debug)]
#[must_use = "it tells whether everything finished"]
pub struct RunReport {
    shutdown: Option<ShutdownReport>,
}

impl RunReport {
    fn of(shutdown: Option<ShutdownReport>) -> Self {
        let report = Self { shutdown };
        match &report.shutdown {
            Some(_) if report.is_clean() => tracing::info!("everything finished"),
            Some(shutdown) => tracing::warn!(?shutdown, "not everything finished"),
            None => tracing::warn!("told to end again before everything finished"),
        }
        report
    }

    /// Returns whether everything finished in time.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.shutdown.as_ref().is_some_and(ShutdownReport::is_clean)
    }

    /// Returns what the shutdown of the bridge reported; `None` if a second signal came first.
    #[must_use]
    pub const fn shutdown(&self) -> Option<&ShutdownReport> {
        self.shutdown.as_ref()
    }

    /// Returns the exit code of the process: 0 if everything finished, otherwise 3.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.is_clean() { ExitCode::SUCCESS } else { UNFINISHED.into() }
    }
}

impl Termination for RunReport {
    fn report(self) -> ExitCode {
        self.exit_code()
    }
}

impl Signals {
    fn listen() -> Result<Self> {
        let error = || Error::new(ErrorKind::Unexpected, "listen to signals");
        // Without a runtime, tokio panics.
        let _runtime = Handle::try_current().map_err(|cause| error().with_source(cause))?;
        Self::open().map_err(|cause| error().with_source(cause))
    }
}

/// What tells a process to end.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn open() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    close: tokio::signal::windows::CtrlClose,
    shutdown: tokio::signal::windows::CtrlShutdown,
}

#[cfg(windows)]
impl Signals {
    fn open() -> std::io::Result<Self> {
        use tokio::signal::windows::{ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(Self { interrupt: ctrl_c()?, close: ctrl_close()?, shutdown: ctrl_shutdown()? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.close.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }
}
