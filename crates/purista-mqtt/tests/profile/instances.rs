use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use purista_core::{BridgeState, EventBridge as _, Id, Result};
use purista_mqtt::MqttBridge;

/// The instances of a deployment. One that is gone comes back under its id, as those of a Kubernetes StatefulSet do:
/// a session at the broker belongs to an instance.
#[derive(Debug, Default)]
pub(crate) struct Instances(Mutex<Vec<Weak<MqttBridge>>>);

impl Instances {
    /// Creates a bridge with the lowest id whose bridge is gone.
    pub(crate) fn add(&self, create: impl FnOnce(Id) -> Result<MqttBridge>) -> Result<Arc<MqttBridge>> {
        let mut instances = self.0.lock();
        let place = instances.iter().position(is_gone).unwrap_or(instances.len());
        let bridge = Arc::new(create(id(place))?);
        let instance = Arc::downgrade(&bridge);
        match instances.get_mut(place) {
            Some(gone) => *gone = instance,
            None => instances.push(instance),
        }
        Ok(bridge)
    }

    /// Returns the ids that were ever given.
    pub(crate) fn ids(&self) -> Vec<Id> {
        (0..self.0.lock().len()).map(id).collect()
    }
}

fn is_gone(instance: &Weak<MqttBridge>) -> bool {
    instance.upgrade().is_none_or(|bridge| bridge.health().state == BridgeState::ShutDown)
}

fn id(place: usize) -> Id {
    Id::from(format!("instance-{}", place + 1))
}
