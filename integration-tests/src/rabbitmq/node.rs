use std::{env, ffi::OsString, fs, path::PathBuf};

use super::find::Installation;
use crate::{folder::Folder, shell::shell};

/// The name of every node that is alone: it is part of their data.
const NAME: &str = "rabbit@localhost";

/// Of all plugins, only the one for the management API.
const PLUGIN: &str = "rabbitmq_management";

const NO_EPMD: &str = "-start_epmd false";

/// Where nobody listens: a port mapper that happens to run must not know the node.
const NO_EPMD_PORT: &str = "1";

#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) management: u16,
    /// The port for other Erlang nodes.
    pub(super) distribution: u16,
}

/// What a node of a cluster has of its own, and what they share.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// A loopback address, as all of them have the same port.
    pub(super) address: String,
    pub(super) cookie: String,
}

/// An Erlang node of its own folder, which runs RabbitMQ.
#[derive(Clone, Debug)]
pub(super) struct Node {
    erl: PathBuf,
    folder: PathBuf,
    cookie: String,
    port: u16,
    /// The loopback address of a member of a cluster.
    address: Option<String>,
    lacks_features: bool,
}

impl Node {
    /// Writes what the node reads when it starts.
    pub(super) fn create(
        installation: &Installation,
        folder: &Folder,
        config: &str,
        ports: Ports,
        lacks_features: bool,
        member: Option<Member>,
    ) -> anyhow::Result<Self> {
        let path = folder.path();
        installation.link_applications(&["rabbit", PLUGIN], &path.join("plugins"))?;
        fs::write(path.join("enabled_plugins"), format!("[{PLUGIN}]."))?;
        fs::write(path.join("rabbitmq.conf"), config)?;
        let (cookie, address) = match member {
            Some(Member { address, cookie }) => (cookie, Some(address)),
            None => (format!("{:016x}", rand::random::<u64>()), None),
        };
        let (erl, folder, port) = (installation.erl.clone(), path.into(), ports.distribution);
        Ok(Self { erl, folder, cookie, port, address, lacks_features })
    }

    /// Returns the command that starts the node. It does what the script `rabbitmq-server` does, but becomes the node
    /// instead of waiting for it.
    pub(super) fn start_command(&self) -> Vec<OsString> {
        let folder = |name: &str| self.folder.join(name).into_os_string();
        let variables = [
            ("PATH", env::var_os("PATH").unwrap_or_default()),
            ("HOME", folder("data")),
            ("LANG", "C.UTF-8".into()),
            ("ERL_CRASH_DUMP_SECONDS", "0".into()),
            ("ERL_EPMD_PORT", NO_EPMD_PORT.into()),
            // For the node, and for another that it starts each minute so that this starts a port mapper.
            ("ERL_ZFLAGS", NO_EPMD.into()),
            ("ERL_LIBS", folder("plugins")),
            ("RABBITMQ_PLUGINS_DIR", folder("plugins")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", folder("enabled_plugins")),
            ("RABBITMQ_CONFIG_FILE", folder("rabbitmq.conf")),
            ("RABBITMQ_CONF_ENV_FILE", folder("rabbitmq-env.conf")),
            ("RABBITMQ_MNESIA_BASE", folder("data")),
            ("RABBITMQ_LOG_BASE", folder("data")),
            ("RABBITMQ_NODENAME", self.name().into()),
            ("RABBITMQ_USE_LONGNAME", self.address.is_some().to_string().into()),
        ];
        // The list of those that a new node has.
        let features = self.lacks_features.then(|| ("RABBITMQ_FEATURE_FLAGS", OsString::new()));
        let mut command: Vec<OsString> = ["env", "-i"].map(Into::into).into();
        for (name, value) in variables.into_iter().chain(features) {
            let mut variable = OsString::from(format!("{name}="));
            variable.push(value);
            command.push(variable);
        }
        command.push(self.erl.clone().into());
        let arguments = format!(
            "-noinput -boot start_sasl -s rabbit boot +W w +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none \
             -syslog logger [] -syslog syslog_error_logger false \
             {kind} {name} -kernel inet_dist_use_interface {{{interface}}} {}",
            self.distribution(),
            kind = self.kind_of_name(),
            name = self.name(),
            interface = self.address.as_deref().unwrap_or("127.0.0.1").replace('.', ","),
        );
        command.extend(arguments.split_ascii_whitespace().map(Into::into));
        command
    }

    /// Returns its name among Erlang nodes.
    fn name(&self) -> String {
        self.address.as_ref().map_or_else(|| NAME.to_owned(), |address| format!("rabbit@{address}"))
    }

    const fn kind_of_name(&self) -> &'static str {
        if self.address.is_some() { "-name" } else { "-sname" }
    }

    /// Returns the command that ends the node as SIGTERM does. With that alone it takes five seconds longer, in which
    /// the removed handler asks the application controller for something, which waits for it to end.
    pub(super) fn terminate_command(&self) -> String {
        self.call_command(
            "{gen_event, delete_handler, [rabbit_event, rabbit_mgmt_db_handler, []]}, {init, stop, []}",
        )
    }

    /// Calls a function inside the node; it blocks.
    pub(super) fn call(&self, call: &str) -> anyhow::Result<()> {
        shell(&self.call_command(call)).map(drop)
    }

    /// Deletes a queue, whoever uses it.
    pub(super) fn delete_queue(&self, vhost: &str, queue: &str) -> anyhow::Result<()> {
        let name = self.name();
        let delete = format!(
            "{{ok, _}} = rpc:call('{name}', rabbit_amqqueue, delete, [Q, false, false, <<\"operator\">>])"
        );
        self.with_queue(vhost, queue, &delete)
    }

    /// Stops the process of a classic queue, or lets it go on.
    pub(super) fn suspend_queue(&self, vhost: &str, queue: &str, on: bool) -> anyhow::Result<()> {
        let (name, function) = (self.name(), if on { "suspend" } else { "resume" });
        self.with_queue(
            vhost,
            queue,
            &format!(
                "ok = rpc:call('{name}', sys, {function}, [rpc:call('{name}', amqqueue, get_pid, [Q])])"
            ),
        )
    }

    /// Runs an expression on the record `Q` of a queue.
    fn with_queue(&self, vhost: &str, queue: &str, expression: &str) -> anyhow::Result<()> {
        let name = self.name();
        let script = format!(
            "{{ok, Q}} = rpc:call('{name}', rabbit_amqqueue, lookup, [{{resource, <<\"{vhost}\">>, queue, <<\"{queue}\">>}}]), \
             {expression}, halt()."
        );
        shell(&self.script_command(&script)).map(drop)
    }

    /// Returns the command that calls functions inside the node, each given as `{Module, Function, Arguments}`.
    fn call_command(&self, calls: &str) -> String {
        let script = format!(
            "[case rpc:call('{name}', M, F, A, 60000) of {{badrpc, R}} -> io:format(\"~p\", [R]), halt(1); _ -> ok end \
             || {{M, F, A}} <- [{calls}]], halt().",
            name = self.name(),
        );
        self.script_command(&script)
    }

    fn script_command(&self, script: &str) -> String {
        let host = if self.address.is_some() { "127.0.0.1" } else { "localhost" };
        format!(
            "HOME={folder} ERL_EPMD_PORT={NO_EPMD_PORT} {erl} -noinput -boot start_clean -hidden \
             {kind} purista-{me:016x}@{host} -dist_listen false {distribution} -eval {script}",
            folder = quoted(&self.folder.to_string_lossy()),
            erl = quoted(&self.erl.to_string_lossy()),
            kind = self.kind_of_name(),
            me = rand::random::<u64>(),
            distribution = self.distribution(),
            script = quoted(script),
        )
    }

    /// Nodes find each other at a port that they know: a port mapper (epmd) would be started, and would stay.
    fn distribution(&self) -> String {
        format!("{NO_EPMD} -erl_epmd_port {} -setcookie {}", self.port, self.cookie)
    }
}

/// Quotes a word of a command of the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
