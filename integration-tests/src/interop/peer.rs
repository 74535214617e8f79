use std::sync::Arc;

use anyhow::Result;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use purista_core::ServiceAddress;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::{
    frame::Frame,
    scene::next,
    wire::{Came, Interest, Peer, Wire},
};

/// An instance of the original that calls.
#[expect(missing_debug_implementations, reason = "peers and streams have none")]
pub struct Caller {
    peer: Arc<dyn Peer>,
    answers: Came,
}

impl Caller {
    /// Starts the instance that the samples name.
    pub async fn start<W: Wire>(wire: &W) -> Result<Self> {
        let (peer, call) = (wire.peer().await, W::call("success")?);
        let answers = peer.listen(Interest::Answers(call.command.instance_id())).await;
        Ok(Self { peer, answers })
    }

    /// Returns the client.
    #[must_use]
    pub fn peer(&self) -> &dyn Peer {
        &*self.peer
    }

    /// Returns the next answer.
    pub async fn answer(&mut self) -> Result<Frame> {
        next(&mut self.answers).await
    }

    /// Sends a command and returns what comes next.
    pub async fn call(&mut self, command: &Frame) -> Result<Frame> {
        self.peer.send(command).await;
        self.answer().await
    }
}

/// An instance of the original that serves a command, or only listens.
#[derive(Debug)]
pub struct Service {
    came: Arc<Mutex<Vec<Frame>>>,
    _task: AbortOnDropHandle<()>,
}

impl Service {
    /// Begins to serve; a command gets no answer if `answer` has none.
    pub async fn start<W: Wire>(
        wire: &W,
        command: &ServiceAddress,
        answer: impl Fn(&Frame) -> Option<Frame> + Send + 'static,
    ) -> Self {
        let peer = wire.peer().await;
        let listens = peer.listen(Interest::Command(command)).await;
        Self::on(peer, listens, answer)
    }

    /// Begins to answer as in this sample.
    pub async fn start_as_in<W: Wire>(wire: &W, command: &ServiceAddress, sample: Frame) -> Self {
        Self::start(wire, command, move |command| Some(answer_as_in::<W>(&sample, command))).await
    }

    /// Takes what comes, and answers it if `answer` has an answer.
    pub fn on(
        peer: Arc<dyn Peer>,
        mut listens: Came,
        answer: impl Fn(&Frame) -> Option<Frame> + Send + 'static,
    ) -> Self {
        let came = Arc::<Mutex<Vec<Frame>>>::default();
        let seen = Arc::clone(&came);
        let task = tokio::spawn(async move {
            while let Some(frame) = listens.next().await {
                let answer = answer(&frame);
                seen.lock().push(frame);
                if let Some(answer) = answer {
                    peer.send(&answer).await;
                }
            }
        });
        Self { came, _task: AbortOnDropHandle::new(task) }
    }

    /// Returns what came.
    #[must_use]
    pub fn came(&self) -> Vec<Frame> {
        self.came.lock().clone()
    }
}

/// Answers a command as the original answered the one of the sample.
#[must_use]
pub fn answer_as_in<W: Wire>(sample: &Frame, command: &Frame) -> Frame {
    let mut answer = sample.clone();
    for field in ["id", "correlationId"] {
        answer.body[field] = command.body[field].clone();
    }
    answer.body["receiver"] = command.body["sender"].clone();
    W::follow(&mut answer, Some(command));
    answer
}

/// Makes the same command once more, as another call.
#[must_use]
pub fn again<W: Wire>(command: &Frame, number: usize) -> Frame {
    let mut other = command.clone();
    other.body["id"] = json!(format!("{number:032x}"));
    other.body["correlationId"] = json!(format!("{:032x}", number + (1 << 20)));
    W::follow(&mut other, None);
    other
}
