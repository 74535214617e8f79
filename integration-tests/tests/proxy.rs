//! Each way to break the network, seen from both of its ends.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    future::Future,
    io::{self, ErrorKind},
    time::{Duration, Instant},
};

use purista_conformance::NetworkFault;
use purista_integration_tests::FaultProxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a test watches that nothing happens. A right proxy passes however short it is.
const GLANCE: Duration = Duration::from_millis(100);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("not in time")
}

/// A broker that only listens, and the network before it.
struct Network {
    broker: TcpListener,
    proxy: FaultProxy,
}

impl Network {
    async fn new() -> Self {
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = FaultProxy::start(broker.local_addr().unwrap()).unwrap();
        Self { broker, proxy }
    }

    async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.proxy.address())).await.unwrap()
    }

    async fn accept(&self) -> TcpStream {
        within(self.broker.accept()).await.unwrap().0
    }

    /// Returns both ends of a connection: the bridge's and the broker's.
    async fn pair(&self) -> (TcpStream, TcpStream) {
        (self.connect().await, self.accept().await)
    }

    async fn works(&self) {
        let (mut bridge, mut broker) = self.pair().await;
        passes(&mut bridge, &mut broker).await;
        passes(&mut broker, &mut bridge).await;
    }
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"hello").await.unwrap();
    receives(to, b"hello").await;
}

async fn receives(stream: &mut TcpStream, expected: &[u8]) {
    let mut received = vec![0; expected.len()];
    within(stream.read_exact(&mut received)).await.unwrap();
    assert_eq!(received, expected);
}

async fn receives_nothing(stream: &mut TcpStream) {
    let read = timeout(GLANCE, stream.read(&mut [0])).await;
    assert!(read.is_err(), "{read:?}");
}

/// Reads until the end of the connection.
async fn read_all(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut received = Vec::new();
    let end = within(stream.read_to_end(&mut received)).await;
    (received, end.map(drop))
}

async fn is_reset(stream: &mut TcpStream) {
    let (_, end) = read_all(stream).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

async fn is_refused(proxy: &FaultProxy) {
    // The reset may be there before the bridge knows that it is connected.
    match within(TcpStream::connect(proxy.address())).await {
        Ok(mut bridge) => is_reset(&mut bridge).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

async fn is_closed(stream: &mut TcpStream) {
    let (received, end) = read_all(stream).await;
    end.unwrap();
    assert_eq!(received, b"");
}

#[tokio::test]
async fn a_working_network_carries_everything_and_the_end() {
    let network = Network::new().await;
    let (mut bridge, mut broker) = network.pair().await;
    let sent: Vec<u8> = (0..8_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (_, (received, end)) = tokio::join!(
        async {
            bridge.write_all(&sent).await.unwrap();
            bridge.shutdown().await.unwrap();
        },
        read_all(&mut broker)
    );
    end.unwrap();
    assert!(received == sent);
    // The other direction is open still.
    passes(&mut broker, &mut bridge).await;
    broker.shutdown().await.unwrap();
    is_closed(&mut bridge).await;
    assert_eq!(network.proxy.connection_attempts(), 1);
}

#[tokio::test]
async fn a_reset_of_one_end_is_one_of_the_other() {
    let network = Network::new().await;
    let (bridge, mut broker) = network.pair().await;
    bridge.set_zero_linger().unwrap();
    drop(bridge);
    is_reset(&mut broker).await;
}

#[tokio::test]
async fn reset_ends_each_connection_once() {
    let network = Network::new().await;
    let (mut bridge, mut broker) = network.pair().await;
    // Its other end stays open: closed at once, it might end this one in order before the reset.
    let (mut other, _open) = network.pair().await;
    network.proxy.break_network(NetworkFault::Reset);
    is_reset(&mut bridge).await;
    is_reset(&mut broker).await;
    is_reset(&mut other).await;
    network.works().await;
}

#[tokio::test]
async fn close_ends_each_connection_once_and_in_order() {
    let network = Network::new().await;
    let (mut bridge, mut broker) = network.pair().await;
    let (mut other, _) = network.pair().await;
    // What is not read when a socket closes must not make it a reset.
    network.proxy.break_network(NetworkFault::Stall);
    bridge.write_all(b"not read").await.unwrap();
    network.proxy.break_network(NetworkFault::Close);
    is_closed(&mut bridge).await;
    is_closed(&mut broker).await;
    is_closed(&mut other).await;
    network.proxy.mend();
    network.works().await;
}

#[tokio::test]
async fn a_cut_closes_after_the_bytes_of_both_directions() {
    let network = Network::new().await;
    let (mut bridge, mut broker) = network.pair().await;
    passes(&mut bridge, &mut broker).await;
    network.proxy.break_network(NetworkFault::CutAfter(8));
    passes(&mut bridge, &mut broker).await;
    broker.write_all(b"hello").await.unwrap();
    let (received, end) = read_all(&mut bridge).await;
    end.unwrap();
    assert_eq!(received, b"hel");
    is_closed(&mut broker).await;
    network.works().await;
}

#[tokio::test]
async fn a_cut_of_nothing_closes_at_once_and_a_mended_one_never() {
    let network = Network::new().await;
    let (mut bridge, mut broker) = network.pair().await;
    network.proxy.break_network(NetworkFault::CutAfter(6));
    passes(&mut bridge, &mut broker).await;
    network.proxy.mend();
    passes(&mut bridge, &mut broker).await;
    network.proxy.break_network(NetworkFault::CutAfter(0));
    is_closed(&mut bridge).await;
    is_closed(&mut broker).await;
}

#[tokio::test]
async fn down_lasts_and_its_attempts_count() {
    let network = Network::new().await;
    let (mut bridge, mut broker) = network.pair().await;
    network.proxy.break_network(NetworkFault::Down);
    is_reset(&mut bridge).await;
    is_reset(&mut broker).await;
    for attempt in 2..5 {
        is_refused(&network.proxy).await;
        assert_eq!(network.proxy.connection_attempts(), attempt);
    }
    network.proxy.mend();
    network.works().await;
}

#[tokio::test]
async fn down_resets_even_if_it_is_mended_at_once() {
    let network = Network::new().await;
    let (mut bridge, _broker) = network.pair().await;
    network.proxy.break_network(NetworkFault::Down);
    network.proxy.mend();
    is_reset(&mut bridge).await;
}

#[tokio::test]
async fn silence_keeps_connections_and_carries_nothing() {
    let network = Network::new().await;
    let (mut bridge, mut broker) = network.pair().await;
    network.proxy.break_network(NetworkFault::Silence);
    bridge.write_all(b"up").await.unwrap();
    broker.write_all(b"down").await.unwrap();
    let mut new = network.connect().await;
    new.write_all(b"new").await.unwrap();
    receives_nothing(&mut bridge).await;
    receives_nothing(&mut broker).await;
    let accepted = timeout(GLANCE, network.broker.accept()).await;
    assert!(accepted.is_err(), "{accepted:?}");

    network.proxy.mend();
    receives(&mut bridge, b"down").await;
    receives(&mut broker, b"up").await;
    receives(&mut network.accept().await, b"new").await;
}

#[tokio::test]
async fn silence_hides_the_end_of_a_connection() {
    let network = Network::new().await;
    let (mut bridge, broker) = network.pair().await;
    network.proxy.break_network(NetworkFault::Silence);
    drop(broker);
    receives_nothing(&mut bridge).await;
    network.proxy.mend();
    is_closed(&mut bridge).await;
}

#[tokio::test]
async fn a_stalled_connection_fills_up_in_one_direction() {
    let network = Network::new().await;
    let (mut bridge, mut broker) = network.pair().await;
    network.proxy.break_network(NetworkFault::Stall);
    passes(&mut broker, &mut bridge).await;
    let chunk = [7; 64 * 1024];
    let mut written = 0;
    while let Ok(bytes) = timeout(GLANCE, bridge.write(&chunk)).await {
        written += bytes.unwrap();
        assert!(written < 64_000_000, "it takes everything");
    }
    receives_nothing(&mut broker).await;
    let (mut new_bridge, mut new_broker) = network.pair().await;
    passes(&mut new_broker, &mut new_bridge).await;
    new_bridge.write_all(b"late").await.unwrap();
    receives_nothing(&mut new_broker).await;

    network.proxy.mend();
    let mut all = vec![0; written];
    within(broker.read_exact(&mut all)).await.unwrap();
    assert!(all.iter().all(|byte| *byte == 7));
    receives(&mut new_broker, b"late").await;
}

#[tokio::test]
async fn delay_holds_up_everything_in_order() {
    const DELAY: Duration = Duration::from_millis(200);
    let network = Network::new().await;
    network.proxy.break_network(NetworkFault::Delay(DELAY));
    let (mut bridge, mut broker) = network.pair().await;
    let began = Instant::now();
    bridge.write_all(b"one").await.unwrap();
    bridge.write_all(b"two").await.unwrap();
    bridge.shutdown().await.unwrap();
    let (received, end) = read_all(&mut broker).await;
    end.unwrap();
    assert_eq!(received, b"onetwo");
    passes(&mut broker, &mut bridge).await;
    assert!(began.elapsed() >= 2 * DELAY);
}

#[tokio::test]
async fn a_mended_delay_holds_up_nothing() {
    let network = Network::new().await;
    let (mut bridge, mut broker) = network.pair().await;
    network.proxy.break_network(NetworkFault::Delay(10 * PATIENCE));
    bridge.write_all(b"hello").await.unwrap();
    receives_nothing(&mut broker).await;
    network.proxy.mend();
    receives(&mut broker, b"hello").await;
}

#[tokio::test]
async fn throttle_limits_all_connections_together() {
    let network = Network::new().await;
    let (mut bridge, mut broker) = network.pair().await;
    let (mut other_bridge, mut other_broker) = network.pair().await;
    network.proxy.break_network(NetworkFault::Throttle(20_000));
    let began = Instant::now();
    bridge.write_all(&[1; 5_000]).await.unwrap();
    other_bridge.write_all(&[2; 5_000]).await.unwrap();
    tokio::join!(receives(&mut broker, &[1; 5_000]), receives(&mut other_broker, &[2; 5_000]));
    assert!(began.elapsed() >= Duration::from_millis(500));

    network.proxy.break_network(NetworkFault::Throttle(1));
    bridge.write_all(&[3; 100_000]).await.unwrap();
    receives_nothing(&mut broker).await;
    network.proxy.mend();
    receives(&mut broker, &[3; 100_000]).await;
}

#[tokio::test]
async fn a_broker_that_is_down_resets_and_comes_back() {
    let Network { broker, proxy } = Network::new().await;
    let address = broker.local_addr().unwrap();
    drop(broker);
    is_refused(&proxy).await;
    assert_eq!(proxy.connection_attempts(), 1);
    let broker = TcpListener::bind(address).await.unwrap();
    Network { broker, proxy }.works().await;
}

#[test]
fn it_works_for_any_runtime_and_ends_with_its_owner() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let network = first.block_on(Network::new());
    let address = network.broker.local_addr().unwrap();
    first.block_on(network.works());
    let Network { broker, proxy } = network;
    drop((broker, first));
    second.block_on(async {
        let broker = TcpListener::bind(address).await.unwrap();
        let network = Network { broker, proxy };
        network.works().await;
        let (mut bridge, mut broker) = network.pair().await;
        drop(network);
        let (_, ends) = (read_all(&mut bridge).await, read_all(&mut broker).await);
        drop(ends);
    });
}
