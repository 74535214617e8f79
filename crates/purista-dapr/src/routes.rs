use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::RwLock;
use purista_core::Message;

use crate::{
    address::topic_name,
    consumer::{Served, Subscribed},
};

/// Who gets what the sidecar delivers.
#[derive(Debug, Default)]
pub(crate) struct Routes(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    /// By their names in paths, which several may share.
    commands: HashMap<String, Vec<Arc<Served>>>,
    /// By their topics, to which several may subscribe.
    subscriptions: BTreeMap<String, Vec<Arc<Subscribed>>>,
    /// What was in the way when somebody looked last.
    obstacles: Vec<String>,
    /// The same by the names that topics have in paths.
    by_path: HashMap<String, Vec<Arc<Subscribed>>>,
}

impl Routes {
    /// Adds a command.
    pub(crate) fn serve(&self, name: String, command: Arc<Served>) {
        self.0.write().commands.entry(name).or_default().push(command);
    }

    /// Adds a subscription.
    pub(crate) fn subscribe(&self, topic: String, subscription: Arc<Subscribed>) {
        let mut state = self.0.write();
        state.by_path.entry(topic_name(&topic)).or_default().push(Arc::clone(&subscription));
        state.subscriptions.entry(topic).or_default().push(subscription);
    }

    /// Returns whether nothing was registered.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.0.read();
        state.commands.is_empty() && state.subscriptions.is_empty()
    }

    /// Returns whether a command is served.
    pub(crate) fn has_commands(&self) -> bool {
        !self.0.read().commands.is_empty()
    }

    /// Tells which registrations do not consume, and why: what the sidecar does not reach, and subscriptions to a
    /// component that does not work.
    pub(crate) fn tell(&self, unreached: Option<String>, component: Option<String>) {
        let mut state = self.0.write();
        for reason in [&unreached, &component].into_iter().flatten() {
            if !state.obstacles.contains(reason) {
                tracing::warn!(reason, "nothing is consumed");
            }
        }
        for served in state.commands.values().flatten() {
            served.admission.tell(unreached.is_none());
        }
        for subscribed in state.subscriptions.values().flatten() {
            subscribed.admission.tell(unreached.is_none() && component.is_none());
        }
        state.obstacles = [unreached, component].into_iter().flatten().collect();
    }

    /// Returns whether the bridge shuts down.
    pub(crate) fn is_stopped(&self) -> bool {
        let state = self.0.read();
        let mut served = state.commands.values().flatten();
        let mut subscribed = state.subscriptions.values().flatten();
        served.any(|served| served.admission.is_stopped())
            || subscribed.any(|subscribed| subscribed.admission.is_stopped())
    }

    /// Finds who serves a command that came under a name: the one with its address or, as that is judged where it is
    /// handled, any other.
    pub(crate) fn served(&self, name: &str, command: &Message) -> Option<Arc<Served>> {
        let receiver = command.receiver.as_ref().map(|receiver| &receiver.address);
        let state = self.0.read();
        let served = state.commands.get(name)?;
        let exact = served.iter().find(|served| Some(served.address()) == receiver);
        exact.or_else(|| served.first()).cloned()
    }

    /// Returns who subscribes to a topic that has this name in its path.
    pub(crate) fn subscribed(&self, name: &str) -> Vec<Arc<Subscribed>> {
        self.0.read().by_path.get(name).cloned().unwrap_or_default()
    }

    /// Returns the topics that somebody subscribes to.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.0.read().subscriptions.keys().cloned().collect()
    }
}
