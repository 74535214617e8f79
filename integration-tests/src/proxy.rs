mod line;
mod pump;
mod weather;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;
use purista_conformance::NetworkFault;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime,
    sync::{oneshot, watch},
    task::JoinSet,
    time::sleep,
};

use self::{line::Line, pump::Throttle, weather::Weather};

/// Small, so that who writes notices soon that nothing is taken any more. The writer's own buffer fills all the same:
/// about 4 MB on Linux.
const RECEIVE_BUFFER: u32 = 64 * 1024;

/// A network between bridges and a broker that can be broken. Its address stays the same while it lives.
///
/// It runs on a thread of its own, so it can be used from any runtime, and by several.
pub struct FaultProxy {
    address: SocketAddr,
    broker: SocketAddr,
    weather: watch::Sender<Weather>,
    attempts: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts a network that works, to the broker at this address, which need not run yet.
    ///
    /// # Errors
    ///
    /// If the system has no port or no thread for it.
    pub fn start(broker: SocketAddr) -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), broker)
    }

    /// Starts a network whose own address is of this host, `::1` for example.
    ///
    /// # Errors
    ///
    /// If the system has no such address, no port or no thread for it.
    pub fn start_at(host: IpAddr, broker: SocketAddr) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
        let listener = {
            let _entered = runtime.enter();
            listen(host).context("listen")?
        };
        let address = listener.local_addr()?;
        let (weather, forecast) = watch::channel(Weather::default());
        let (stop, stopped) = oneshot::channel();
        let attempts = Arc::<AtomicUsize>::default();
        let served = serve(listener, broker, forecast, Arc::clone(&attempts));
        let thread = thread::Builder::new().name("fault-proxy".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = served => {}
                }
            });
        });
        let thread = Some(thread.context("thread")?);
        Ok(Self { address, broker, weather, attempts, stop: Some(stop), thread })
    }

    /// Returns the address for bridges.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks the network. What lasts until mended takes the place of what lasted before; what happens once leaves it
    /// as it is.
    pub fn break_network(&self, how: NetworkFault) {
        self.weather.send_modify(|weather| weather.turn(how));
    }

    /// Ends what lasts.
    pub fn mend(&self) {
        self.weather.send_modify(Weather::clear);
    }

    /// Returns how many connections to the broker were tried so far, successful or not.
    #[must_use]
    pub fn connection_attempts(&self) -> usize {
        self.attempts.load(Ordering::Acquire)
    }
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("FaultProxy");
        shown.field("address", &self.address).field("broker", &self.broker);
        shown.field("weather", &*self.weather.borrow()).finish_non_exhaustive()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The thread waits for nothing else, so it ends at once; its sockets close with its runtime.
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn listen(host: IpAddr) -> io::Result<TcpListener> {
    let socket = if host.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?; // connections inherit it
    socket.bind((host, 0).into())?;
    socket.listen(1024)
}

async fn serve(
    listener: TcpListener,
    broker: SocketAddr,
    forecast: watch::Receiver<Weather>,
    attempts: Arc<AtomicUsize>,
) {
    let throttle = Arc::new(Throttle::default());
    let mut lines = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((bridge, _)) => {
                attempts.fetch_add(1, Ordering::AcqRel);
                lines.spawn(Line::new(forecast.clone(), Arc::clone(&throttle)).carry(bridge, broker));
            }
            // Too many open files, likely; this is no reason to spin.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
        while lines.try_join_next().is_some() {}
    }
}
