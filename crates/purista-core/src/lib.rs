//! The contract of PURISTA event bridges.

pub mod routing;
