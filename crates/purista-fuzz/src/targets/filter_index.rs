//! The filter index finds what looking at each filter finds, also after some were removed.

use arbitrary::{Arbitrary, Result, Unstructured};
use purista_core::{Filter, FilterIndex};

use crate::{Verdict, names};

const MAX_FILTERS: usize = 12;

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    Verdict::accepted(check(&mut Unstructured::new(data)).unwrap_or(false))
}

/// Returns whether a filter matched.
fn check(bytes: &mut Unstructured<'_>) -> Result<bool> {
    let messages = [names::message(bytes)?, names::message(bytes)?];
    let (mut index, mut known) = (FilterIndex::default(), Vec::<(Filter, usize)>::new());
    let mut any_matched = false;
    for step in 0..MAX_FILTERS {
        if bytes.is_empty() {
            break;
        }
        match u8::arbitrary(bytes)? {
            0..=63 if !known.is_empty() => {
                let (filter, value) = known.swap_remove(bytes.choose_index(known.len())?);
                assert_eq!(index.remove(&filter, |found| *found == value), Some(value));
                assert_eq!(index.remove(&filter, |found| *found == value), None);
            }
            64..=95 if !known.is_empty() => {
                let (filter, _) = known[bytes.choose_index(known.len())?].clone();
                index.insert(filter.clone(), step);
                known.push((filter, step));
            }
            _ => {
                let filter = names::filter(bytes, &messages[step % 2])?;
                index.insert(filter.clone(), step);
                known.push((filter, step));
            }
        }
        assert_eq!((index.len(), index.is_empty()), (known.len(), known.is_empty()));
        for message in &messages {
            let mut found = Vec::new();
            index.for_each_match(message, |value| found.push(*value));
            found.sort_unstable();
            let matching = known.iter().filter(|(filter, _)| filter.matches(message));
            let mut wanted: Vec<_> = matching.map(|(_, value)| *value).collect();
            wanted.sort_unstable();
            assert_eq!(found, wanted);
            any_matched |= !wanted.is_empty();
        }
    }
    if let [(one, _), .., (other, _)] = &known[..] {
        assert_eq!(one.exact() == other.exact(), one == other);
    }
    Ok(any_matched)
}
