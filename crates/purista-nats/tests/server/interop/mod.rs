//! The TypeScript original as a peer, which knows nothing of JetStream and of our headers: a plain client sends what the
//! original sends, and reads what the original reads.

mod called;
mod emitted;
mod listening;
mod peer;
mod received;
mod samples;
mod served;
mod sharing;
