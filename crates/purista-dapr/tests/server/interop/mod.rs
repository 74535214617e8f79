//! Services of ours and of the TypeScript original work together, each beside its own sidecar.

mod calls;
mod events;
mod original;
