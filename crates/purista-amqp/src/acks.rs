use std::{collections::BTreeSet, sync::Arc};

use lapin::options::{BasicAckOptions, BasicNackOptions};
use parking_lot::Mutex;
use purista_core::{ErrorKind, Result};
use tokio::sync::watch;

use crate::{
    channels::OpenChannel,
    error::{error, from_lapin},
};

/// The deliveries of one channel that are not acknowledged yet. Those that are done with while others are on their way
/// to the broker are acknowledged together.
#[derive(Debug)]
pub(crate) struct Acks {
    channel: OpenChannel,
    state: Mutex<State>,
    /// Whether nothing is on its way to the broker.
    is_idle: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// All below this are acknowledged.
    next: u64,
    /// What is done with and not acknowledged yet.
    done: BTreeSet<u64>,
    /// What is acknowledged while one before it is not.
    ahead: BTreeSet<u64>,
    outstanding: usize,
    is_flushing: bool,
    /// How many tasks send something.
    sending: usize,
    is_closed: bool,
}

/// What one frame acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    tag: u64,
    multiple: bool,
}

impl Acks {
    pub(crate) fn new(channel: OpenChannel) -> Arc<Self> {
        let state = State { next: 1, ..State::default() };
        Arc::new(Self { channel, state: Mutex::new(state), is_idle: watch::Sender::new(true) })
    }

    /// Notes a delivery.
    pub(crate) fn came(&self) {
        self.state.lock().outstanding += 1;
    }

    /// Returns how many deliveries are not done with.
    pub(crate) fn outstanding(&self) -> usize {
        self.state.lock().outstanding
    }

    pub(crate) fn channel(&self) -> &OpenChannel {
        &self.channel
    }

    /// Returns whether the broker still waits for acknowledgements on this channel.
    pub(crate) fn is_usable(&self) -> bool {
        self.channel.status().connected() && !self.state.lock().is_closed
    }

    /// Acknowledges a delivery, soon.
    pub(crate) fn accept(self: &Arc<Self>, tag: u64) -> Result<()> {
        let mut state = self.state.lock();
        if state.is_closed || !self.channel.status().connected() {
            return Err(error(ErrorKind::Unavailable, "acknowledge").context("the channel is closed"));
        }
        state.outstanding -= 1;
        state.done.insert(tag);
        if !std::mem::replace(&mut state.is_flushing, true) {
            self.begin(&mut state);
            tokio::spawn(Arc::clone(self).flush());
        }
        Ok(())
    }

    /// Gives a delivery back.
    pub(crate) async fn requeue(&self, tag: u64) -> Result<()> {
        {
            let mut state = self.state.lock();
            if state.is_closed {
                // Whoever closes a channel gives everything back.
                return Ok(());
            }
            state.outstanding -= 1;
            state.ahead.insert(tag);
            self.begin(&mut state);
        }
        let options = BasicNackOptions { requeue: true, multiple: false };
        let requeued = self.channel.basic_nack(tag, options).await;
        self.end(&mut self.state.lock());
        match requeued {
            Err(cause) if self.channel.status().connected() => Err(from_lapin(cause, "acknowledge")),
            _ => Ok(()),
        }
    }

    /// Closes the channel after everything that was accepted is with the broker. What is not done with is given back.
    pub(crate) async fn close(&self, reason: &'static str) {
        self.state.lock().is_closed = true;
        let mut idle = self.is_idle.subscribe();
        // The sender lives as long as this. Frames after that of the end would be an error of the connection.
        drop(idle.wait_for(|idle| *idle).await);
        if self.channel.status().connected()
            && let Err(error) = self.channel.close(200, reason.into()).await
        {
            tracing::trace!(%error, "channel");
        }
    }

    fn begin(&self, state: &mut State) {
        state.sending += 1;
        self.is_idle.send_replace(false);
    }

    fn end(&self, state: &mut State) {
        state.sending -= 1;
        if state.sending == 0 {
            self.is_idle.send_replace(true);
        }
    }

    async fn flush(self: Arc<Self>) {
        loop {
            let frames = {
                let mut state = self.state.lock();
                let frames = state.frames();
                if frames.is_empty() || !self.channel.status().connected() {
                    state.is_flushing = false;
                    self.end(&mut state);
                    return;
                }
                frames
            };
            for Frame { tag, multiple } in frames {
                if let Err(error) = self.channel.basic_ack(tag, BasicAckOptions { multiple }).await {
                    tracing::debug!(%error, "an acknowledgement could not be sent: the message comes again");
                }
            }
        }
    }
}

impl State {
    /// Returns what acknowledges all that is done with, in as few frames as possible.
    fn frames(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut newest = None;
        loop {
            if self.done.remove(&self.next) {
                newest = Some(self.next);
            } else if !self.ahead.remove(&self.next) {
                break;
            }
            self.next += 1;
        }
        // The broker knows only those that are not acknowledged: the frame must name one of them.
        frames.extend(newest.map(|tag| Frame { tag, multiple: true }));
        let rest = std::mem::take(&mut self.done);
        frames.extend(rest.iter().map(|tag| Frame { tag: *tag, multiple: false }));
        self.ahead.extend(rest);
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(done: &[u64]) -> State {
        State { next: 1, done: done.iter().copied().collect(), outstanding: 10, ..State::default() }
    }

    #[test]
    fn what_is_done_in_order_takes_one_frame() {
        let mut state = state(&[1, 2, 3, 5]);
        let [first, second] = state.frames()[..] else { panic!("{state:?}") };
        assert_eq!(first, Frame { tag: 3, multiple: true });
        assert_eq!(second, Frame { tag: 5, multiple: false });
        state.done.insert(4);
        assert_eq!(state.frames(), [Frame { tag: 4, multiple: true }]);
        assert_eq!((state.next, state.ahead.len()), (6, 0));
        assert!(state.frames().is_empty());
    }

    #[test]
    fn a_frame_names_what_is_not_acknowledged() {
        let mut state = state(&[2, 3]);
        assert_eq!(state.frames().len(), 2);
        state.done.insert(1);
        // 2 and 3 are unknown to the broker by now.
        assert_eq!(state.frames(), [Frame { tag: 1, multiple: true }]);
        assert_eq!(state.next, 4);
    }
}
