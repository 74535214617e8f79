//! What the server routes to this connection.
//!
//! A server ends a subscription on its own when permissions change, and says so once, in an error that names the subject.
//! The client knows nothing of that: its subscription stays, and nothing comes any more. So each subscription is a route
//! here, which can be lost and replaced.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use async_nats::Subscriber;
use parking_lot::Mutex;
use purista_core::{Error, ErrorKind};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    consuming::{PartHealth, Why},
    error::error,
};

/// One subscription that has to stay.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) subject: String,
    pub(crate) queue_group: Option<String>,
    /// `None` for the inbox of the connection, which concerns all registrations.
    health: Option<PartHealth>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    is_lost: bool,
    tried: Option<Instant>,
    replacement: Option<Subscriber>,
}

impl Route {
    pub(crate) fn is_lost(&self) -> bool {
        self.state.lock().is_lost
    }

    /// Notes that the server does not route it any more. Returns whether that is news.
    pub(crate) fn lose(&self, cause: &str) -> bool {
        let is_news = !std::mem::replace(&mut self.state.lock().is_lost, true);
        if let (true, Some(health)) = (is_news, &self.health) {
            health.down(Why::NotSubscribed, &cause);
        }
        is_news
    }

    /// Goes on with another subscription.
    pub(crate) fn replace(&self, subscriber: Subscriber) {
        {
            let mut state = self.state.lock();
            state.is_lost = false;
            state.replacement = Some(subscriber);
        }
        self.changed.notify_one();
        if let Some(health) = &self.health {
            health.up(Why::NotSubscribed);
        }
    }

    /// Waits for another subscription. Cancel safe.
    pub(crate) async fn replaced(&self) -> Subscriber {
        loop {
            let replacement = self.state.lock().replacement.take();
            match replacement {
                Some(subscriber) => return subscriber,
                None => self.changed.notified().await,
            }
        }
    }

    pub(crate) const fn is_inbox(&self) -> bool {
        self.health.is_none()
    }

    fn is(&self, subject: &str, queue_group: Option<&str>) -> bool {
        self.subject == subject && self.queue_group.as_deref() == queue_group
    }
}

/// A subscription that was sent to the server, which may refuse it.
#[derive(Debug)]
pub(crate) struct Attempt {
    subject: String,
    queue_group: Option<String>,
    refused: watch::Sender<Option<Error>>,
}

impl Attempt {
    /// Returns why the server refused it, if it did.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.refused.borrow().clone()
    }

    /// Waits until the server refuses it. Cancel safe.
    pub(crate) async fn refused(&self) -> Error {
        let mut refused = self.refused.subscribe();
        let refusal = refused.wait_for(Option::is_some).await.ok().and_then(|refusal| refusal.clone());
        refusal.unwrap_or_else(|| error(ErrorKind::Unexpected, "register"))
    }
}

/// All routes of a connection.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    routes: Mutex<Vec<Weak<Route>>>,
    attempts: Mutex<Vec<Weak<Attempt>>>,
    /// Wakes who restores routes.
    pub(crate) changed: Notify,
    /// Wakes who finds out whether replies can be sent.
    pub(crate) inbox_in_doubt: Notify,
    is_doubtful: AtomicBool,
}

impl Routes {
    /// Begins to subscribe. What the server refuses is noted as long as this is held.
    pub(crate) fn attempt(&self, subject: &str, queue_group: Option<&str>) -> Arc<Attempt> {
        let attempt = Arc::new(Attempt {
            subject: subject.to_owned(),
            queue_group: queue_group.map(str::to_owned),
            refused: watch::Sender::new(None),
        });
        let mut attempts = self.attempts.lock();
        attempts.retain(|attempt| attempt.strong_count() > 0);
        attempts.push(Arc::downgrade(&attempt));
        attempt
    }

    /// Adds a route, for as long as it is held.
    pub(crate) fn add(
        &self,
        subject: String,
        queue_group: Option<String>,
        health: Option<PartHealth>,
    ) -> Arc<Route> {
        let state = Mutex::default();
        let route = Arc::new(Route { subject, queue_group, health, state, changed: Notify::new() });
        let mut routes = self.routes.lock();
        routes.retain(|route| route.strong_count() > 0);
        routes.push(Arc::downgrade(&route));
        route
    }

    fn live(&self) -> Vec<Arc<Route>> {
        self.routes.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Notes that the server refuses a subscription, or has ended it. Returns whether it was one that was just sent.
    pub(crate) fn refused(&self, subject: &str, queue_group: Option<&str>, text: &str) -> bool {
        let refusal = error(ErrorKind::Forbidden, "register").with_context(text);
        let mut was_sent = false;
        for attempt in self.attempts.lock().iter().filter_map(Weak::upgrade) {
            if attempt.subject == subject && attempt.queue_group.as_deref() == queue_group {
                attempt.refused.send_replace(Some(refusal.clone()));
                was_sent = true;
            }
        }
        self.lose_where(|route| route.is(subject, queue_group), text);
        was_sent
    }

    /// Notes that the server refuses a subscription without a word of which one.
    pub(crate) fn refused_one(&self, refusal: &Error) {
        let attempts: Vec<_> = self.attempts.lock().iter().filter_map(Weak::upgrade).collect();
        if attempts.is_empty() {
            // It is one that the client has sent again, on a new connection.
            return self.doubt();
        }
        for attempt in attempts {
            attempt.refused.send_replace(Some(refusal.clone()));
        }
    }

    /// Loses routes. Returns whether there were any.
    pub(crate) fn lose_where(&self, is_it: impl Fn(&Route) -> bool, cause: &str) -> bool {
        let mut lost = false;
        for route in self.live() {
            lost |= is_it(&route) && route.lose(cause);
        }
        if lost {
            self.changed.notify_one();
        }
        lost
    }

    /// Notes that the server may have ended subscriptions unheard.
    pub(crate) fn doubt(&self) {
        if !self.is_doubtful.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }

    /// Returns whether the server may have ended subscriptions unheard, and forgets it.
    pub(crate) fn take_doubt(&self) -> bool {
        self.is_doubtful.swap(false, Ordering::AcqRel)
    }

    /// Returns lost routes but the inbox, at most so many: those that were tried longest ago.
    pub(crate) fn lost(&self, most: usize) -> Vec<Arc<Route>> {
        let mut lost = self.live();
        lost.retain(|route| !route.is_inbox() && route.is_lost());
        lost.sort_by_key(|route| route.state.lock().tried);
        lost.truncate(most);
        lost.iter().for_each(|route| route.state.lock().tried = Some(Instant::now()));
        lost
    }

    /// Loses all routes that are not among those which the server has.
    pub(crate) fn compare(&self, at_server: impl Iterator<Item = (String, Option<String>)>) {
        let mut counts: HashMap<(String, Option<String>), usize> = HashMap::new();
        at_server.for_each(|known| *counts.entry(known).or_default() += 1);
        let mut wanted: HashMap<(String, Option<String>), usize> = HashMap::new();
        let live = self.live();
        for route in live.iter().filter(|route| !route.is_lost()) {
            *wanted.entry((route.subject.clone(), route.queue_group.clone())).or_default() += 1;
        }
        wanted.retain(|known, count| counts.get(known).copied().unwrap_or_default() < *count);
        let is_missing =
            |route: &Route| wanted.contains_key(&(route.subject.clone(), route.queue_group.clone()));
        self.lose_where(is_missing, "the server does not know the subscription");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(routes: &Routes, subject: &str, group: Option<&str>) -> Arc<Route> {
        routes.add(subject.to_owned(), group.map(str::to_owned), None)
    }

    #[test]
    fn a_refusal_loses_the_route_that_it_names() {
        let routes = Routes::default();
        let [plain, grouped] = [route(&routes, "a", None), route(&routes, "a", Some("g"))];
        let attempt = routes.attempt("a", Some("g"));
        routes.refused("a", Some("g"), "no");
        assert!((!plain.is_lost()) && grouped.is_lost());
        assert_eq!(attempt.refusal().unwrap().kind(), ErrorKind::Forbidden);
        routes.refused("b", None, "no");
        assert!(!plain.is_lost());
    }

    #[test]
    fn what_the_server_does_not_know_is_lost() {
        let routes = Routes::default();
        let twice = [route(&routes, "a", None), route(&routes, "a", None)];
        let once = route(&routes, "b", Some("g"));
        let known = |what: &[(&str, Option<&str>)]| {
            let known = what.iter().map(|(subject, group)| ((*subject).into(), group.map(str::to_owned)));
            known.collect::<Vec<_>>().into_iter()
        };
        routes.compare(known(&[("a", None), ("a", None), ("b", Some("g")), ("c", None)]));
        assert!(!twice[0].is_lost() && !once.is_lost());
        routes.compare(known(&[("a", None), ("b", None)]));
        assert!(twice.iter().all(|route| route.is_lost()) && once.is_lost());
        assert!(!routes.take_doubt());
        routes.doubt();
        assert!(routes.take_doubt());
    }
}
