//! The behaviour every PURISTA event bridge must show, as a test suite for authors of adapters.
//!
//! The suite reads what an adapter claims from its [`capabilities`](purista_core::EventBridge::capabilities), proves
//! each claim against the real broker, and proves that what is not claimed is refused. To run it, implement
//! [`Profile`] and [`Deployment`], and give the profile to [`main`] in a test with `harness = false`:
//!
//! ```text
//! [[test]]
//! name = "conformance"
//! harness = false
//! ```
//!
//! Each row of the [catalogue](catalogue::ROWS) is one isolated trial, named by its id. A run writes
//! `target/conformance/<profile>.json` with the verdict of each row, and keeps `docs/capabilities.md` up to date.
//!
//! This crate follows the version of the others, but its interface may change in any release.
//!
//! # The suite is tested
//!
//! A suite that cannot fail proves nothing. [`faults`] holds bridges that are wrong on purpose, each with the row that
//! catches it:
//!
#![doc = include_str!("../wrong-bridges.md")]

mod broker;
pub mod case;
mod cases;
pub mod catalogue;
pub mod faults;
mod fields;
mod ledger;
mod logs;
mod original;
mod probe;
mod profile;
mod report;
mod runner;
mod stage;
mod traffic;
pub mod urls;
mod worker;

pub use broker::{
    Broker, BrokerCertificate, ClientCertificate, FORBIDDEN_EVENT, Login, NetworkFault, SECRET, Security,
    Stoppage,
};
pub use ledger::{Ledger, LedgerReport};
pub use original::{Bodies, Original, Part, Served, Subscribed};
pub use probe::{Collector, Latch, on_command, on_event};
pub use profile::{BrokerReport, CloudEventForm, Deployment, DeploymentOptions, OriginalNames, Profile};
pub use runner::main;
pub use stage::Stage;
