//! Which messages a subscription gets.

mod filter;
mod index;

pub(crate) use filter::check_identity_len;
pub use filter::{Filter, PartyFilter};
pub use index::FilterIndex;
