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
    /// All below this have come.
    next: u64,
    /// What came while one before it has not: each consumer of the channel has an order of its own.
    early: BTreeSet<u64>,
    /// What came and is not done with.
    in_hand: BTreeSet<u64>,
    /// What is done with and not acknowledged yet.
    done: BTreeSet<u64>,
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
    pub(crate) fn came(&self, tag: u64) {
        self.state.lock().came(tag);
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
            return Err(error(ErrorKind::Unavailable, "acknowledge").with_context("the channel is closed"));
        }
        state.in_hand.remove(&tag);
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
            self.begin(&mut state);
        }
        let options = BasicNackOptions { requeue: true, multiple: false };
        let requeued = self.channel.basic_nack(tag, options).await;
        {
            // Not before it is sent: an acknowledgement of all before another one must not cover it.
            let mut state = self.state.lock();
            state.in_hand.remove(&tag);
            self.end(&mut state);
        }
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
    fn came(&mut self, tag: u64) {
        self.in_hand.insert(tag);
        self.early.insert(tag);
        while self.early.remove(&self.next) {
            self.next += 1;
        }
    }

    /// Returns what acknowledges all that is done with, in as few frames as possible.
    fn frames(&mut self) -> Vec<Frame> {
        let first_open = self.in_hand.first().map_or(self.next, |tag| self.next.min(*tag));
        let rest = self.done.split_off(&first_open);
        let before = std::mem::take(&mut self.done);
        let single = rest.into_iter().map(|tag| Frame { tag, multiple: false });
        // The broker knows only those that are not acknowledged: the frame must name one of them.
        before.last().map(|tag| Frame { tag: *tag, multiple: true }).into_iter().chain(single).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many have come, and these are done with.
    fn state(came: u64, done: &[u64]) -> State {
        let mut state = State { next: 1, ..State::default() };
        (1..=came).for_each(|tag| state.came(tag));
        do_with(&mut state, done);
        state
    }

    fn do_with(state: &mut State, tags: &[u64]) {
        for tag in tags {
            assert!(state.in_hand.remove(tag));
            state.done.insert(*tag);
        }
    }

    const fn all_until(tag: u64) -> Frame {
        Frame { tag, multiple: true }
    }

    const fn only(tag: u64) -> Frame {
        Frame { tag, multiple: false }
    }

    #[test]
    fn what_is_done_in_order_takes_one_frame() {
        let mut state = state(5, &[1, 2, 3, 5]);
        assert_eq!(state.frames(), [all_until(3), only(5)]);
        do_with(&mut state, &[4]);
        assert_eq!(state.frames(), [all_until(4)]);
        assert!(state.frames().is_empty());
    }

    #[test]
    fn a_frame_names_what_is_not_acknowledged() {
        let mut state = state(3, &[2, 3]);
        assert_eq!(state.frames(), [only(2), only(3)]);
        do_with(&mut state, &[1]);
        // 2 and 3 are unknown to the broker by now.
        assert_eq!(state.frames(), [all_until(1)]);
    }

    #[test]
    fn what_has_not_come_yet_is_not_acknowledged() {
        let mut state = state(1, &[]);
        state.came(3);
        do_with(&mut state, &[1, 3]);
        assert_eq!(state.frames(), [all_until(1), only(3)]);
        state.came(2);
        do_with(&mut state, &[2]);
        assert_eq!(state.frames(), [all_until(2)]);
    }

    /// However long one waits for its next attempt.
    #[test]
    fn nothing_is_kept_of_what_is_acknowledged() {
        let mut state = state(1, &[]);
        for tag in 2..1_000 {
            state.came(tag);
            do_with(&mut state, &[tag]);
            assert_eq!(state.frames(), [only(tag)]);
        }
        assert_eq!((state.early.len(), state.in_hand.len(), state.done.len()), (0, 1, 0));
    }
}
