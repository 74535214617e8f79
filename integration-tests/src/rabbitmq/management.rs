mod answers;

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

pub use answers::{Binding, Connection, Exchange, Message, Queue};

use super::encode;
use crate::http::Http;

/// Asks a server about itself, and changes it, over its management API.
///
/// Queues, exchanges, bindings and users are known at once. How many messages a queue has is known after a tenth of a
/// second, and connections and consumers after a second, if [`start`](super::RabbitServer::start) started the server;
/// else after what is configured, which is five seconds by default.
#[derive(Clone, Debug)]
pub struct Management {
    http: Http,
    user: String,
}

impl Management {
    /// Asks at a URL as a user, who is an administrator.
    pub(super) fn new(url: &str, user: &str, password: &str) -> Self {
        Self { http: Http::new(format!("{url}/api")).with_user(user, password), user: user.into() }
    }

    /// Creates a virtual host, where the default user may do everything.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or refuses.
    pub async fn create_vhost(&self, vhost: &str) -> anyhow::Result<()> {
        let path = path(["vhosts", vhost]);
        self.blocking(move |http| http.put(&path, &json!({}))).await?;
        self.set_permissions(vhost, &self.user, ".*", ".*", ".*").await
    }

    /// Deletes a virtual host with all that it has; connections to it are closed.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or there is none.
    pub async fn delete_vhost(&self, vhost: &str) -> anyhow::Result<()> {
        self.delete(path(["vhosts", vhost])).await
    }

    /// Creates a user, or changes its password.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or refuses.
    pub async fn put_user(&self, user: &str, password: &str) -> anyhow::Result<()> {
        let body = json!({ "password": password, "tags": "" });
        self.put(path(["users", user]), body).await
    }

    /// Sets what a user may do in a virtual host: patterns of the names of queues and exchanges.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or refuses.
    pub async fn set_permissions(
        &self,
        vhost: &str,
        user: &str,
        configure: &str,
        write: &str,
        read: &str,
    ) -> anyhow::Result<()> {
        let body = json!({ "configure": configure, "write": write, "read": read });
        self.put(path(["permissions", vhost, user]), body).await
    }

    /// Takes all that a user may do in a virtual host away. Channels that are open remember what they were allowed.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or the user may do nothing there.
    pub async fn clear_permissions(&self, vhost: &str, user: &str) -> anyhow::Result<()> {
        self.delete(path(["permissions", vhost, user])).await
    }

    /// Deletes a user; its connections are closed.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or there is no such user.
    pub async fn delete_user(&self, user: &str) -> anyhow::Result<()> {
        self.delete(path(["users", user])).await
    }

    /// Limits what a virtual host may have: `max-queues` or `max-connections`.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or refuses.
    pub async fn set_vhost_limit(&self, vhost: &str, name: &str, value: u32) -> anyhow::Result<()> {
        self.put(path(["vhost-limits", vhost, name]), json!({ "value": value })).await
    }

    /// Limits what a user may have: `max-channels` or `max-connections`.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or refuses.
    pub async fn set_user_limit(&self, user: &str, name: &str, value: u32) -> anyhow::Result<()> {
        self.put(path(["user-limits", user, name]), json!({ "value": value })).await
    }

    /// Sets what a user may publish to a topic exchange, and read from it: patterns of routing keys.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or refuses.
    pub async fn set_topic_permissions(
        &self,
        vhost: &str,
        user: &str,
        exchange: &str,
        write: &str,
        read: &str,
    ) -> anyhow::Result<()> {
        let body = json!({ "exchange": exchange, "write": write, "read": read });
        self.put(path(["topic-permissions", vhost, user]), body).await
    }

    /// Returns the queues of a virtual host.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or not as expected.
    pub async fn queues(&self, vhost: &str) -> anyhow::Result<Vec<Queue>> {
        // The usual answer has figures of another, slower collector.
        let queues = path(["queues", vhost]) + "?disable_stats=true&enable_queue_totals=true";
        let consumers = path(["consumers", vhost]);
        self.blocking(move |http| {
            let mut queues: Vec<Queue> = http.read(&queues)?;
            let mut counts = HashMap::new();
            for consumer in http.read::<Vec<Consumer>>(&consumers)? {
                *counts.entry(consumer.queue.name).or_default() += 1;
            }
            for queue in &mut queues {
                queue.consumers = counts.get(&queue.name).copied().unwrap_or_default();
            }
            Ok(queues)
        })
        .await
    }

    /// Creates a queue, which is neither exclusive nor deleted by itself.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or there is another of this name.
    pub async fn put_queue(
        &self,
        vhost: &str,
        name: &str,
        durable: bool,
        arguments: Map<String, Value>,
    ) -> anyhow::Result<()> {
        let body = json!({ "durable": durable, "arguments": arguments });
        self.put(path(["queues", vhost, name]), body).await
    }

    /// Deletes a queue.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or there is none.
    pub async fn delete_queue(&self, vhost: &str, name: &str) -> anyhow::Result<()> {
        self.delete(path(["queues", vhost, name])).await
    }

    /// Takes messages from a queue, at most so many; puts them back as redelivered unless they are acknowledged.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or there is no such queue.
    pub async fn get_messages(
        &self,
        vhost: &str,
        queue: &str,
        count: usize,
        acknowledge: bool,
    ) -> anyhow::Result<Vec<Message>> {
        let mode = if acknowledge { "ack_requeue_false" } else { "ack_requeue_true" };
        let body = json!({ "count": count, "ackmode": mode, "encoding": "auto" });
        let path = path(["queues", vhost, queue, "get"]);
        self.blocking(move |http| http.ask(&path, &body)).await
    }

    /// Publishes text with properties, such as `delivery_mode` and `headers`; returns whether a queue took it. The
    /// default exchange is `amq.default` here.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or there is no such exchange.
    pub async fn publish(
        &self,
        vhost: &str,
        exchange: &str,
        routing_key: &str,
        properties: Map<String, Value>,
        payload: &str,
    ) -> anyhow::Result<bool> {
        #[derive(Deserialize)]
        struct Published {
            routed: bool,
        }
        let body = json!({
            "properties": properties,
            "routing_key": routing_key,
            "payload": payload,
            "payload_encoding": "string",
        });
        let path = path(["exchanges", vhost, exchange, "publish"]);
        self.blocking(move |http| http.ask(&path, &body)).await.map(|Published { routed }| routed)
    }

    /// Returns the exchanges of a virtual host, also those that RabbitMQ itself creates.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or not as expected.
    pub async fn exchanges(&self, vhost: &str) -> anyhow::Result<Vec<Exchange>> {
        let path = path(["exchanges", vhost]) + "?disable_stats=true";
        self.blocking(move |http| http.read(&path)).await
    }

    /// Deletes an exchange, with all bindings to it and from it.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or there is none.
    pub async fn delete_exchange(&self, vhost: &str, name: &str) -> anyhow::Result<()> {
        self.delete(path(["exchanges", vhost, name])).await
    }

    /// Deletes a binding.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or there is none.
    pub async fn delete_binding(&self, vhost: &str, binding: &Binding) -> anyhow::Result<()> {
        let kind = if binding.destination_kind == "queue" { "q" } else { "e" };
        let Binding { source, destination, properties_key, .. } = binding;
        self.delete(path(["bindings", vhost, "e", source, kind, destination, properties_key])).await
    }

    /// Returns the bindings of a virtual host. Each queue is bound to the default exchange, whose name is empty.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or not as expected.
    pub async fn bindings(&self, vhost: &str) -> anyhow::Result<Vec<Binding>> {
        let path = path(["bindings", vhost]);
        self.blocking(move |http| http.read(&path)).await
    }

    /// Returns the open connections to a virtual host.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or not as expected.
    pub async fn connections(&self, vhost: &str) -> anyhow::Result<Vec<Connection>> {
        let path = path(["vhosts", vhost, "connections"]);
        self.blocking(move |http| http.read(&path)).await
    }

    /// Closes the connections to a virtual host, as an operator does; returns how many.
    ///
    /// # Errors
    ///
    /// If the server does not answer.
    pub async fn close_connections(&self, vhost: &str) -> anyhow::Result<usize> {
        let connections = self.connections(vhost).await?;
        let mut closed = 0;
        for connection in &connections {
            // A bridge ends the others itself when one is closed: those are gone meanwhile.
            closed += usize::from(self.close_connection(connection).await.is_ok());
        }
        Ok(closed)
    }

    /// Closes a connection, as an operator does.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or there is no such connection.
    pub async fn close_connection(&self, connection: &Connection) -> anyhow::Result<()> {
        self.delete(path(["connections", &connection.name])).await
    }

    /// Returns the version of the server.
    ///
    /// # Errors
    ///
    /// If the server does not answer.
    pub async fn version(&self) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Overview {
            rabbitmq_version: String,
        }
        self.blocking(|http| http.read("overview").map(|Overview { rabbitmq_version }| rabbitmq_version))
            .await
    }

    /// Returns the name of the node that leads a quorum queue.
    pub(super) async fn queue_leader(&self, vhost: &str, queue: &str) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Led {
            leader: String,
        }
        let path = path(["queues", vhost, queue]);
        self.blocking(move |http| http.read(&path)).await.map(|Led { leader }| leader)
    }

    /// Returns the names of the nodes of its cluster.
    pub(super) fn read_nodes(&self) -> anyhow::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Known {
            name: String,
        }
        let nodes: Vec<Known> = self.http.read("nodes?columns=name")?;
        Ok(nodes.into_iter().map(|node| node.name).collect())
    }

    pub(super) fn read_cluster_name(&self) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct ClusterName {
            name: String,
        }
        self.http.read("cluster-name").map(|ClusterName { name }| name)
    }

    async fn put(&self, path: String, body: Value) -> anyhow::Result<()> {
        self.blocking(move |http| http.put(&path, &body)).await
    }

    async fn delete(&self, path: String) -> anyhow::Result<()> {
        self.blocking(move |http| http.delete(&path)).await
    }

    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Http) -> anyhow::Result<R> + Send + 'static,
    ) -> anyhow::Result<R> {
        let http = self.http.clone();
        tokio::task::spawn_blocking(move || work(&http)).await?
    }
}

#[derive(Deserialize)]
struct Consumer {
    queue: QueueName,
}

#[derive(Deserialize)]
struct QueueName {
    name: String,
}

fn path<const N: usize>(parts: [&str; N]) -> String {
    parts.map(encode).join("/")
}
