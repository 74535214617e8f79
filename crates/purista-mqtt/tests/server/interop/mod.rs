//! Services of ours and of the TypeScript original work together. The peers here behave as the original was seen to.

mod called;
mod emitted;
mod peer;
mod received;
mod samples;
mod served;
mod sharing;
