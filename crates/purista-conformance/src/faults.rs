//! Bridges that are wrong on purpose.
