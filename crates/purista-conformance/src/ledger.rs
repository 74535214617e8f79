use std::collections::HashMap;

use parking_lot::Mutex;

/// The books of a run: what was sent, what became of it, and what was handled.
///
/// A message is a number of the trial's own choosing, counting up from each sender's first. Sends whose outcome is not
/// known (a time limit passed) count neither as lost nor as taken over.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    sent: HashMap<u64, Sent>,
    handled: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Ok,
    Failed,
    Unknown,
    Expired,
}

/// What the books show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerReport {
    /// Taken over by the broker and never handled.
    pub lost: Vec<u64>,
    /// Handled more than once.
    pub duplicated: Vec<u64>,
    /// Handled but never sent.
    pub phantom: Vec<u64>,
    /// Handled after one that was sent later.
    pub out_of_order: Vec<u64>,
    /// Handled although their time was over.
    pub expired_but_run: Vec<u64>,
    /// Refused by the broker and handled all the same.
    pub failed_but_run: Vec<u64>,
}

impl Ledger {
    /// Notes a send that the broker took over.
    pub fn ok(&self, number: u64) {
        self.0.lock().sent.insert(number, Sent::Ok);
    }

    /// Notes a send that the broker refused.
    pub fn failed(&self, number: u64) {
        self.0.lock().sent.insert(number, Sent::Failed);
    }

    /// Notes a send of which it is not known whether the broker took it over.
    pub fn unknown(&self, number: u64) {
        self.0.lock().sent.insert(number, Sent::Unknown);
    }

    /// Notes a send whose time is over and which must not be handled.
    pub fn expired(&self, number: u64) {
        self.0.lock().sent.insert(number, Sent::Expired);
    }

    /// Notes a run of a handler.
    pub fn handled(&self, number: u64) {
        self.0.lock().handled.push(number);
    }

    /// Returns how many runs of handlers were noted.
    #[must_use]
    pub fn handled_count(&self) -> usize {
        self.0.lock().handled.len()
    }

    /// Returns whether this number or a later one was handled.
    #[must_use]
    pub fn has_handled_from(&self, number: u64) -> bool {
        self.0.lock().handled.iter().rev().any(|handled| *handled >= number)
    }

    /// Balances the books.
    #[must_use]
    pub fn balance(&self) -> LedgerReport {
        let books = self.0.lock();
        let mut report = LedgerReport::default();
        let mut runs: HashMap<u64, usize> = HashMap::new();
        let mut latest = None;
        for number in &books.handled {
            let run = runs.entry(*number).or_default();
            *run += 1;
            if *run == 2 {
                report.duplicated.push(*number);
            }
            if *run == 1 && latest.is_some_and(|latest| latest > *number) {
                report.out_of_order.push(*number);
            }
            latest = latest.max(Some(*number));
            match books.sent.get(number) {
                None => report.phantom.push(*number),
                Some(Sent::Expired) => report.expired_but_run.push(*number),
                Some(Sent::Failed) => report.failed_but_run.push(*number),
                Some(Sent::Ok | Sent::Unknown) => {}
            }
        }
        report.lost = books
            .sent
            .iter()
            .filter(|(number, sent)| **sent == Sent::Ok && !runs.contains_key(number))
            .map(|(number, _)| *number)
            .collect();
        report.lost.sort_unstable();
        report
    }
}

impl LedgerReport {
    /// Returns whether each message was handled exactly once, whatever the order.
    #[must_use]
    pub fn is_exactly_once(&self) -> bool {
        self.is_at_least_once() && self.duplicated.is_empty()
    }

    /// Returns whether nothing was lost or invented.
    #[must_use]
    pub fn is_at_least_once(&self) -> bool {
        [&self.lost, &self.phantom, &self.expired_but_run, &self.failed_but_run]
            .into_iter()
            .all(Vec::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_fault_is_seen() {
        let ledger = Ledger::default();
        (1..=4).for_each(|number| ledger.ok(number));
        ledger.unknown(5);
        ledger.expired(6);
        ledger.failed(7);
        [1, 3, 2, 2, 6, 7, 8].into_iter().for_each(|number| ledger.handled(number));
        let report = ledger.balance();
        assert_eq!(report.lost, [4]);
        assert_eq!(report.duplicated, [2]);
        assert_eq!(report.out_of_order, [2]);
        assert_eq!(report.expired_but_run, [6]);
        assert_eq!(report.failed_but_run, [7]);
        assert_eq!(report.phantom, [8]);
        assert!(!report.is_at_least_once());
    }

    #[test]
    fn clean_books_balance() {
        let ledger = Ledger::default();
        (1..=100).for_each(|number| {
            ledger.ok(number);
            ledger.handled(number);
        });
        assert_eq!(ledger.balance(), LedgerReport::default());
    }
}
