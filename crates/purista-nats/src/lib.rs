//! The PURISTA event bridge for NATS.
