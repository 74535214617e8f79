//! Ways in which registrations stop consuming on Mosquitto: rights that its own plugin takes away.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use purista_conformance::Stoppage;
use purista_core::{Result, ServiceAddress, adapter::async_trait};
use purista_integration_tests::mosquitto::MosquittoServer;
use serde_json::{Value, json};

use super::{
    peer::Peer,
    secured::{ROLE, USER, password},
    wire::command_filter,
};

/// Where Mosquitto's plugin takes orders.
const CONTROL: &str = "$CONTROL/dynamic-security/v1";

/// Returns all of them, for a server whose only user has a role.
pub(crate) fn stoppages(server: &Arc<MosquittoServer>, prefix: &str) -> Vec<Arc<dyn Stoppage>> {
    let rights = [
        ("what comes may not be delivered any more", "publishClientReceive", Topics::Messages),
        ("nothing may be subscribed to any more", "subscribePattern", Topics::Filters),
    ];
    let withdrawn = |(name, right, topics)| {
        let (server, prefix) = (Arc::clone(server), prefix.to_owned());
        Arc::new(Withdrawn { name, right, topics, server, prefix, orders: Mutex::default() })
            as Arc<dyn Stoppage>
    };
    rights.into_iter().map(withdrawn).collect()
}

/// What a right is about.
#[derive(Clone, Copy)]
enum Topics {
    Messages,
    Filters,
}

/// A right is taken away from the only user. The plugin ends the connections of that user when it is told.
struct Withdrawn {
    name: &'static str,
    right: &'static str,
    topics: Topics,
    server: Arc<MosquittoServer>,
    prefix: String,
    /// What gives it back.
    orders: Mutex<Vec<Value>>,
}

impl Withdrawn {
    async fn order(&self, commands: Vec<Value>) -> Result<()> {
        let peer = Peer::connect_as(self.server.address(), USER, &password());
        let orders = json!({ "commands": commands }).to_string();
        peer.publish(CONTROL.to_owned(), Bytes::from(orders), Vec::new()).await
    }
}

#[async_trait]
impl Stoppage for Withdrawn {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn begin(&self, _command: &ServiceAddress, _subscriber: &ServiceAddress) -> Result<()> {
        let prefix = &self.prefix;
        let topics = match self.topics {
            Topics::Messages => vec![format!("{prefix}/command/#"), format!("{prefix}/custom_message/#")],
            Topics::Filters => {
                let events = format!("{prefix}/custom_message/#");
                vec![command_filter(prefix, "+", "+", "+"), format!("$share/+/{events}"), events]
            }
        };
        let order = |command: &str, topic: &String| {
            json!({
                "command": command, "rolename": ROLE, "acltype": self.right, "topic": topic,
                "allow": false, "priority": 1,
            })
        };
        *self.orders.lock() = topics.iter().map(|topic| order("removeRoleACL", topic)).collect();
        self.order(topics.iter().map(|topic| order("addRoleACL", topic)).collect()).await
    }

    async fn end(&self) -> Result<()> {
        let orders = std::mem::take(&mut *self.orders.lock());
        self.order(orders).await
    }
}
