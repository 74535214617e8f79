//! How large a packet is, and which ones the broker may not take.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rumqttc::PublishProperties;
use tokio::time::Instant;

/// Returns how many bytes a message has on the wire.
pub(crate) fn packet_size(topic: &str, payload: usize, properties: &PublishProperties) -> usize {
    let beside = properties_size(properties);
    // Topic and packet identifier have two bytes each beside what they hold.
    let rest = 4 + topic.len() + variable(beside) + beside + payload;
    1 + variable(rest) + rest
}

fn properties_size(properties: &PublishProperties) -> usize {
    let PublishProperties {
        payload_format_indicator,
        message_expiry_interval,
        topic_alias,
        response_topic,
        correlation_data,
        user_properties,
        subscription_identifiers,
        content_type,
    } = properties;
    let text = |length: usize| 3 + length;
    payload_format_indicator.map_or(0, |_| 2)
        + message_expiry_interval.map_or(0, |_| 5)
        + topic_alias.map_or(0, |_| 3)
        + response_topic.as_ref().map_or(0, |topic| text(topic.len()))
        + correlation_data.as_ref().map_or(0, |data| text(data.len()))
        + user_properties.iter().map(|(name, value)| text(name.len()) + 2 + value.len()).sum::<usize>()
        + subscription_identifiers.iter().map(|id| 1 + variable(*id)).sum::<usize>()
        + content_type.as_ref().map_or(0, |content_type| text(content_type.len()))
}

/// Returns how many bytes a number of variable length has.
const fn variable(number: usize) -> usize {
    match number {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

/// What is known of the sizes that a broker takes which does not tell. If it ends the connection because a packet is too
/// large, it was the largest one under way: the others need not suffer for it.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    /// The largest one that it took.
    taken: AtomicUsize,
    /// Those under way that are larger, with how many of each. One that nobody waits for any more stays: it is still
    /// under way.
    in_doubt: Mutex<BTreeMap<usize, usize>>,
    /// The largest one that was under way when the connection was lost.
    suspect: OnceLock<usize>,
}

impl Sizes {
    /// Returns whether it is known that the broker takes a size.
    pub(crate) fn is_taken(&self, size: usize) -> bool {
        size <= self.taken.load(Ordering::Acquire)
    }

    /// Notes that a packet is sent.
    pub(crate) fn begin(&self, size: usize) {
        if !self.is_taken(size) {
            *self.in_doubt.lock().entry(size).or_default() += 1;
        }
    }

    /// Notes that the broker took a packet.
    pub(crate) fn took(&self, size: usize) {
        if self.taken.fetch_max(size, Ordering::AcqRel) < size {
            let mut in_doubt = self.in_doubt.lock();
            *in_doubt = in_doubt.split_off(&(size + 1));
        }
    }

    /// Notes that the broker refused a packet.
    pub(crate) fn refused(&self, size: usize) {
        let mut in_doubt = self.in_doubt.lock();
        if let Some(count) = in_doubt.get_mut(&size) {
            *count -= 1;
            if *count == 0 {
                in_doubt.remove(&size);
            }
        }
    }

    /// Notes that the connection is lost.
    pub(crate) fn lost(&self) {
        if let Some((largest, _)) = self.in_doubt.lock().last_key_value() {
            let _once = self.suspect.set(*largest);
        }
    }

    /// Returns whether a packet is what the connection may be lost for.
    pub(crate) fn is_suspect(&self, size: usize) -> bool {
        self.suspect.get() == Some(&size)
    }
}

/// How long a size is not tried again for which connections were lost. The broker may be configured anew.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The least size for which connections were lost, as a broker ends them that does not tell what it takes.
#[derive(Debug, Default)]
pub(crate) struct RefusedSizes {
    /// Whether there was one at all, as each message asks.
    is_any: AtomicBool,
    least: Mutex<Option<(usize, Instant)>>,
}

impl RefusedSizes {
    /// Notes that a connection was lost for a size.
    pub(crate) fn note(&self, size: usize) {
        self.is_any.store(true, Ordering::Release);
        let mut least = self.least.lock();
        if least.is_none_or(|(known, until)| size < known || until <= Instant::now()) {
            *least = Some((size, Instant::now() + REMEMBERED));
        }
    }

    /// Returns the largest size that may be tried.
    pub(crate) fn limit(&self) -> usize {
        if !self.is_any.load(Ordering::Acquire) {
            return usize::MAX;
        }
        let least = *self.least.lock();
        least.filter(|(_, until)| *until > Instant::now()).map_or(usize::MAX, |(size, _)| size - 1)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rumqttc::{Publish, QoS};

    use super::*;

    #[test]
    fn sizes_are_those_of_the_client() {
        let with = |text: usize| PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(1),
            topic_alias: Some(1),
            response_topic: Some("t".repeat(text)),
            correlation_data: Some(Bytes::from(vec![0; text])),
            user_properties: vec![("name".to_owned(), "v".repeat(text)); 3],
            subscription_identifiers: vec![1, 128, 16_384],
            content_type: Some("c".repeat(text)),
        };
        let all = [PublishProperties::default(), with(0), with(10), with(5_000)];
        for properties in all {
            for payload in [0, 1, 100, 127, 16_000, 3_000_000] {
                let topic = "a/b/c";
                let mut packet =
                    Publish::new(topic, QoS::AtLeastOnce, vec![0; payload], Some(properties.clone()));
                packet.pkid = 1;
                assert_eq!(packet_size(topic, payload, &properties), packet.size(), "{payload}");
            }
        }
    }

    #[test]
    fn the_largest_that_is_in_doubt_is_the_suspect() {
        let sizes = Sizes::default();
        [100, 300, 200, 300].into_iter().for_each(|size| sizes.begin(size));
        sizes.took(100);
        sizes.begin(50);
        sizes.refused(300);
        sizes.lost();
        assert_eq!([50, 100, 200, 300].map(|size| sizes.is_suspect(size)), [false, false, false, true]);

        let sizes = Sizes::default();
        [100, 200].into_iter().for_each(|size| sizes.begin(size));
        sizes.took(200);
        sizes.lost();
        assert!([100, 200].into_iter().all(|size| sizes.is_taken(size) && !sizes.is_suspect(size)));
    }

    #[tokio::test(start_paused = true)]
    async fn sizes_that_were_refused_are_tried_again_after_a_time() {
        let refused = RefusedSizes::default();
        assert_eq!(refused.limit(), usize::MAX);
        [300, 200, 400].into_iter().for_each(|size| refused.note(size));
        assert_eq!(refused.limit(), 199);
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(refused.limit(), usize::MAX);
        refused.note(400);
        assert_eq!(refused.limit(), 399);
    }
}
