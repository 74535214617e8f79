use std::time::Duration;

use bytes::Bytes;
use purista_core::Result;

use crate::{codec::kept, session::Session};

/// What is kept at the broker about the session of a durable subscription, as the broker does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub(crate) state: SessionState,
    /// What it listens to, or did last.
    pub(crate) filter: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// It belongs to an instance that is there, or that died and comes back.
    Attached,
    /// It takes what comes while no instance is there. Whoever comes adopts it.
    Waiting,
    /// It takes nothing more, and what is in it is handed over. Whoever comes goes on with that.
    Leaving,
}

impl SessionState {
    const ALL: [Self; 3] = [Self::Attached, Self::Waiting, Self::Leaving];

    const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Waiting => "waiting",
            Self::Leaving => "leaving",
        }
    }
}

impl SessionRecord {
    pub(crate) fn new(state: SessionState, filter: &str) -> Self {
        Self { state, filter: filter.to_owned() }
    }

    /// Reads one. Others may write there, too.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (name, filter) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
        let state = SessionState::ALL.into_iter().find(|state| state.name() == name)?;
        Some(Self::new(state, filter))
    }

    pub(crate) fn write(&self) -> Bytes {
        format!("{} {}", self.state.name(), self.filter).into()
    }

    /// Keeps it over its own session: not any more once somebody else has taken that.
    pub(crate) async fn keep(&self, session: &Session, topic: &str, expiry: Option<Duration>) -> Result<()> {
        session.publish_once(topic.to_owned(), self.write(), kept(expiry), "register").await.map(drop)
    }

    /// Keeps none any more.
    pub(crate) async fn forget(session: &Session, topic: &str) -> Result<()> {
        session.publish_once(topic.to_owned(), Bytes::new(), kept(None), "register").await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for state in SessionState::ALL {
            let record = SessionRecord::new(state, "$share/a b/#");
            assert_eq!(SessionRecord::read(&record.write()), Some(record));
        }
        for other in ["", "waiting", "gone #", "\u{0} #"] {
            assert_eq!(SessionRecord::read(other.as_bytes()), None, "{other:?}");
        }
    }
}
