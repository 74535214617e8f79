//! Routing addresses.
