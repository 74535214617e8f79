use std::sync::Arc;

use async_nats::StatusCode;
use purista_core::{ErrorKind, Id, adapter::Link};
use tokio_util::sync::CancellationToken;

use crate::{codec::is_refusal, error::error, replies::Replies, subscription::Subscription};

/// The length of a correlation id, by which answers to commands are told from other replies.
const CORRELATION_ID_LEN: usize = 32;

/// Reads all replies to the connection.
pub(crate) struct Reader {
    /// The length of what their subjects begin with.
    pub(crate) prefix: usize,
    pub(crate) replies: Arc<Replies>,
    pub(crate) link: Link,
}

impl Reader {
    pub(crate) async fn read(self, mut inbox: Subscription, closing: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                message = inbox.next() => match message {
                    Some(message) => self.deliver(message),
                    None => return,
                },
                () = closing.cancelled() => return,
            }
        }
    }

    fn deliver(&self, message: async_nats::Message) {
        let subject = message.subject.clone();
        let Some(token) = subject.as_str().get(self.prefix..) else { return };
        if token.len() != CORRELATION_ID_LEN {
            return self.replies.deliver(token, message);
        }
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return self.link.fail_call(&Id::from(token), error(ErrorKind::NoHandler, "invoke"));
        }
        self.link.receive(&message.payload, is_refusal(&message));
    }
}
