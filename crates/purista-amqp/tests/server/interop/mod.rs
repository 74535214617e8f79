//! Services of ours and of the TypeScript original work together. The peers here behave as the original was seen to.

mod called;
mod contradictions;
mod emitted;
mod peer;
mod properties;
mod received;
mod samples;
mod served;
mod sharing;
