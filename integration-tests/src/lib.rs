//! Real brokers and a broken network for the tests of the adapters.
//!
//! A broker is a child process with a folder of its own. It ends with the test process, however that ends. Trials that
//! break nothing share one; the others start their own and put a [`FaultProxy`] before it.

pub mod bench;
mod certificates;
pub mod dapr;
mod environment;
pub mod fault_run;
mod folder;
mod http;
pub mod interop;
mod launch;
pub mod mosquitto;
pub mod nats;
mod own_broker;
mod port;
mod process;
mod proxy;
pub mod rabbitmq;
pub mod samples;
mod shared;
mod shell;
mod turns;
pub mod urls;
pub mod vault;
mod witness;

pub use certificates::{Certificates, PemFiles};
pub use own_broker::OwnBroker;
pub use port::free_port;
pub use process::Process;
pub use proxy::FaultProxy;
pub use witness::{Seen, Step, Witness};
