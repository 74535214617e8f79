//! All that is traced or logged in this process, for as long as somebody looks for something in it.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use tracing_subscriber::{
    Layer as _, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

static SEARCHES: Mutex<Vec<Arc<Search>>> = Mutex::new(Vec::new());

/// Whether there is a search. Without one, nothing is formatted, as that would slow down the other trials.
static IS_SEARCHED: AtomicBool = AtomicBool::new(false);

/// A search for a text in what is traced or logged, at every level. It ends when this is dropped.
pub(crate) struct Search {
    text: String,
    found: Mutex<Vec<String>>,
}

/// Owns a [`Search`].
pub(crate) struct Searching(Arc<Search>);

/// Has what is traced or logged come here. Returns whether it does: a process has one place for it.
pub(crate) fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| Lines);
        let searched = lines.with_filter(filter_fn(|_| IS_SEARCHED.load(Ordering::Acquire)));
        tracing_subscriber::registry().with(searched).try_init().is_ok()
    })
}

/// Starts a search.
pub(crate) fn search(text: &str) -> Result<Searching> {
    ensure!(install(), "this row needs all of the tracing output, and another subscriber is there");
    let search = Arc::new(Search { text: text.to_owned(), found: Mutex::default() });
    SEARCHES.lock().push(Arc::clone(&search));
    update();
    Ok(Searching(search))
}

/// Has the places that trace ask again whether somebody wants to know.
fn update() {
    IS_SEARCHED.store(!SEARCHES.lock().is_empty(), Ordering::Release);
    tracing::callsite::rebuild_interest_cache();
}

impl Searching {
    /// Returns the lines that hold the text.
    pub(crate) fn found(&self) -> Vec<String> {
        self.0.found.lock().clone()
    }
}

impl Drop for Searching {
    fn drop(&mut self) {
        SEARCHES.lock().retain(|search| !Arc::ptr_eq(search, &self.0));
        update();
    }
}

/// Where the lines go.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        for search in SEARCHES.lock().iter().filter(|search| text.contains(&search.text)) {
            search.found.lock().push(text.clone().into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_found_at_every_level() {
        tracing::error!("needle: before");
        let search = search("needle: ").unwrap();
        tracing::error!("needle: {}", 1);
        tracing::trace!(field = "needle: 2", "field");
        tracing::info_span!("span", field = "needle: 3").in_scope(|| tracing::debug!("in a span"));
        tracing::error!("other");
        let found = search.found();
        assert_eq!(found.len(), 3, "{found:?}");
        drop(search);
        assert!(!IS_SEARCHED.load(Ordering::Acquire));
    }
}
