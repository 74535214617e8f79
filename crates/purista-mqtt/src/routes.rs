use std::collections::HashMap;

use parking_lot::Mutex;
use rumqttc::Publish;
use tokio::sync::mpsc;

use crate::standing::{Standing, Trouble};

/// The subscription identifier of answers.
pub(crate) const ANSWERS: usize = 1;

/// The subscription identifier of what a client sends to itself.
pub(crate) const ROUND_TRIP: usize = 2;

const FIRST_FREE: usize = 3;

/// Who gets what comes under a subscription identifier.
///
/// A filter is one subscription, however many want it: commands whose names differ only in what topics do not show share
/// theirs. The broker sends one copy then, which goes to one of them.
#[derive(Debug)]
pub(crate) struct Routes(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    next_id: usize,
    routes: HashMap<usize, Route>,
}

#[derive(Debug)]
struct Route {
    filter: String,
    to: Vec<Taker>,
}

#[derive(Debug)]
struct Taker {
    to: mpsc::Sender<Publish>,
    standing: Option<Standing>,
}

impl Route {
    fn is_wanted(&self) -> bool {
        self.to.iter().any(|taker| !taker.to.is_closed())
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self(Mutex::new(Inner { next_id: FIRST_FREE, routes: HashMap::new() }))
    }
}

impl Routes {
    /// Adds who wants a filter; returns its subscription identifier.
    pub(crate) fn add(&self, filter: &str, to: mpsc::Sender<Publish>, standing: Option<&Standing>) -> usize {
        let mut inner = self.0.lock();
        let taker = Taker { to, standing: standing.cloned() };
        if let Some((id, route)) = inner.routes.iter_mut().find(|(_, route)| route.filter == filter) {
            route.to.push(taker);
            return *id;
        }
        let id = inner.next_id;
        inner.next_id += 1;
        inner.routes.insert(id, Route { filter: filter.to_owned(), to: vec![taker] });
        id
    }

    /// Returns whether nobody else wants a filter.
    pub(crate) fn is_last(&self, filter: &str, to: &mpsc::Sender<Publish>) -> bool {
        let inner = self.0.lock();
        let route = inner.routes.values().find(|route| route.filter == filter);
        route.is_some_and(|route| {
            route.to.iter().all(|other| other.to.same_channel(to) || other.to.is_closed())
        })
    }

    /// Returns whether somebody wants what has this identifier.
    pub(crate) fn is_wanted(&self, id: usize) -> bool {
        self.0.lock().routes.get(&id).is_some_and(Route::is_wanted)
    }

    /// Removes who wanted something.
    pub(crate) fn remove(&self, to: &mpsc::Sender<Publish>) {
        self.0.lock().routes.retain(|_, route| {
            route.to.retain(|other| !other.to.same_channel(to));
            !route.to.is_empty()
        });
    }

    /// Returns where something goes.
    pub(crate) fn find(&self, id: usize) -> Option<mpsc::Sender<Publish>> {
        let inner = self.0.lock();
        inner.routes.get(&id)?.to.iter().find(|taker| !taker.to.is_closed()).map(|taker| taker.to.clone())
    }

    /// Returns the subscription identifier of a filter.
    pub(crate) fn id_of(&self, filter: &str) -> Option<usize> {
        let inner = self.0.lock();
        inner.routes.iter().find(|(_, route)| route.filter == filter).map(|(id, _)| *id)
    }

    /// Notes that the broker refuses a subscription.
    pub(crate) fn refused(&self, id: usize) {
        let inner = self.0.lock();
        let takers = inner.routes.get(&id).map_or(&[][..], |route| &route.to);
        takers.iter().filter_map(|taker| taker.standing.as_ref()).for_each(|standing| {
            standing.note(Trouble::Refused, true);
        });
    }

    /// Takes the filter of something away that nobody wants any more, as who wanted it has gone without a word.
    pub(crate) fn take_abandoned(&self, id: usize) -> Option<String> {
        let mut inner = self.0.lock();
        let is_abandoned = inner.routes.get(&id).is_some_and(|route| !route.is_wanted());
        is_abandoned.then(|| inner.routes.remove(&id).map(|route| route.filter)).flatten()
    }

    /// Returns all filters that are wanted with their identifiers.
    pub(crate) fn filters(&self) -> Vec<(usize, String)> {
        let inner = self.0.lock();
        let wanted = inner.routes.iter().filter(|(_, route)| route.is_wanted());
        wanted.map(|(id, route)| (*id, route.filter.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_one_subscription_however_many_want_it() {
        let routes = Routes::default();
        let [(one, _keep_one), (two, _keep_two)] = [mpsc::channel(1), mpsc::channel(1)];
        let id = routes.add("a/+", one.clone(), None);
        assert_eq!(routes.add("a/+", two.clone(), None), id);
        assert_eq!((routes.id_of("a/+"), routes.id_of("b/+")), (Some(id), None));
        assert_ne!(routes.add("b/+", two.clone(), None), id);
        assert!(routes.find(id).is_some_and(|found| found.same_channel(&one)));
        assert!(!routes.is_last("a/+", &one));
        routes.remove(&one);
        assert!(routes.find(id).is_some_and(|found| found.same_channel(&two)));
        assert!(routes.is_last("a/+", &two));
        routes.remove(&two);
        assert!(routes.find(id).is_none() && routes.filters().is_empty());
    }
}
