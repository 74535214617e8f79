//! What the log of a server tells of its clients. It is written before the client is answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use anyhow::Context as _;

/// What is put into the log when the server starts and has no file of data.
pub(super) const WITHOUT_DATA: &str = "no data";

/// A subscription of a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Subscription {
    /// The identifier of the client.
    pub client: String,
    /// Its topic filter, with `$share/` and the name of the group if it is shared.
    pub filter: String,
}

/// Reads the log from where it stopped the last time.
#[derive(Debug)]
pub(super) struct Log {
    file: PathBuf,
    read: u64,
    sessions: Sessions,
}

impl Log {
    pub(super) fn new(file: PathBuf, kept: Option<fn(&str) -> bool>) -> Self {
        Self { file, read: 0, sessions: Sessions { kept, ..Sessions::default() } }
    }

    /// Reads what is new, and returns what there is now.
    pub(super) fn sessions(&mut self) -> anyhow::Result<&Sessions> {
        let mut file = File::open(&self.file).context("log")?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        for line in String::from_utf8_lossy(&bytes[..complete]).lines() {
            self.sessions.note(line);
        }
        self.read += u64::try_from(complete)?;
        Ok(&self.sessions)
    }
}

/// The sessions of a server.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    kept: Option<fn(&str) -> bool>,
    now: BTreeMap<String, Session>,
    /// What the server finds when it starts again.
    saved: BTreeMap<String, Session>,
    /// Whether something changed since it was saved.
    changed: bool,
}

#[derive(Clone, Debug, Default)]
struct Session {
    connected: bool,
    clean_start: bool,
    filters: BTreeSet<String>,
}

impl Sessions {
    pub(super) fn connected(&self) -> impl Iterator<Item = &str> {
        self.now.iter().filter(|(_, session)| session.connected).map(|(client, _)| client.as_str())
    }

    pub(super) fn subscriptions(&self) -> impl Iterator<Item = Subscription> {
        self.now.iter().flat_map(|(client, session)| {
            session
                .filters
                .iter()
                .map(|filter| Subscription { client: client.clone(), filter: filter.clone() })
        })
    }

    fn note(&mut self, line: &str) {
        if line.starts_with("New connection from ") {
            return;
        }
        if line.starts_with("Saving in-memory database to ") {
            return self.save();
        }
        if line == WITHOUT_DATA {
            self.saved.clear();
        } else if line.starts_with("mosquitto version ") {
            if line.ends_with(" starting") {
                self.now = self.saved.clone();
            }
        } else if let Some((_, client)) =
            line.strip_prefix("New client connected from ").and_then(|rest| rest.split_once(" as "))
        {
            self.connect(client);
        } else if let Some(client) = between(line, "Expiring client ", " due to timeout.") {
            self.now.remove(client);
        } else if let Some(rest) = line.strip_prefix("Bad socket read/write on client ") {
            self.disconnect(rest.rsplit_once(": ").map_or(rest, |(client, _)| client));
        } else if let Some((client, rest)) =
            line.strip_prefix("Client ").and_then(|rest| self.client_of(rest))
        {
            // The client that takes over comes next.
            if rest != "already connected, closing old connection." {
                self.disconnect(&client);
            }
        } else if let Some((client, rest)) = self.client_of(line) {
            self.subscribe(&client, rest);
        } else {
            return;
        }
        self.changed = true;
    }

    /// Notes what a client that connects says: `NAME (p5, c0, k60).`
    fn connect(&mut self, line: &str) {
        let Some((client, options)) = line.rsplit_once(" (p") else { return };
        let clean_start = options.contains(", c1,");
        let before = self.now.remove(client).filter(|before| !clean_start && self.is_kept(client, before));
        let filters = before.map(|before| before.filters).unwrap_or_default();
        self.now.insert(client.to_owned(), Session { connected: true, clean_start, filters });
    }

    fn disconnect(&mut self, client: &str) {
        let Some(mut session) = self.now.remove(client) else { return };
        session.connected = false;
        if self.is_kept(client, &session) {
            self.now.insert(client.to_owned(), session);
        }
    }

    /// Notes a subscription, `QOS FILTER`, or the end of one, `FILTER`.
    fn subscribe(&mut self, client: &str, line: &str) {
        let Some(session) = self.now.get_mut(client) else { return };
        match line.split_once(' ') {
            Some(("0" | "1" | "2", filter)) => session.filters.insert(filter.to_owned()),
            _ => session.filters.remove(line),
        };
    }

    fn is_kept(&self, client: &str, session: &Session) -> bool {
        self.kept.map_or(!session.clean_start, |kept| kept(client))
    }

    /// Notes that the server wrote its file of data, which has no session that is begun with a clean start.
    fn save(&mut self) {
        if !self.changed {
            return;
        }
        let sessions = self.now.iter();
        let saved =
            sessions.filter(|(client, session)| !session.clean_start && self.is_kept(client, session));
        self.saved = saved
            .map(|(client, session)| (client.clone(), Session { connected: false, ..session.clone() }))
            .collect();
        self.changed = false;
    }

    /// Splits a line that begins with the name of a connected client, which may have spaces itself.
    fn client_of<'a>(&self, line: &'a str) -> Option<(String, &'a str)> {
        let names = self.connected().filter_map(|client| {
            let rest = line.strip_prefix(client)?.strip_prefix(' ')?;
            Some((client, rest))
        });
        let (client, rest) = names.max_by_key(|(client, _)| client.len())?;
        Some((client.to_owned(), rest))
    }
}

fn between<'a>(line: &'a str, start: &str, end: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(sessions: &mut Sessions, log: &str) -> (Vec<String>, Vec<String>) {
        log.lines().for_each(|line| sessions.note(line));
        let subscriptions =
            sessions.subscriptions().map(|Subscription { client, filter }| format!("{client} {filter}"));
        (sessions.connected().map(Into::into).collect(), subscriptions.collect())
    }

    #[test]
    fn names_and_filters_may_have_spaces() {
        let log = "mosquitto version 2.0.11 starting\n\
                   New client connected from 127.0.0.1:1 as a (p5, c1, k60).\n\
                   New client connected from 127.0.0.1:2 as a 1 (p2, c0, k60, u'x').\n\
                   a 1 2 b c\n\
                   a 1 $share/g/ b\n\
                   a 0 d\n\
                   a 1 e\n\
                   Client a disconnected.\n\
                   Bad socket read/write on client nobody: Success.\n";
        let (connected, subscriptions) = replay(&mut Sessions::default(), log);
        assert_eq!(connected, ["a 1"]);
        assert_eq!(subscriptions, ["a 1 b c"]);
    }
}
