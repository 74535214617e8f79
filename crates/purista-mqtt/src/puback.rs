//! Answers of the broker that the client does not understand.
//!
//! Mosquitto refuses a message that is too large for it with the reason of a packet that is too large, which a PUBACK
//! must not have. The client gives up the connection when it reads one, and with it all that is under way.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    io,
    sync::Arc,
};

use parking_lot::Mutex;

use crate::tapped::Tap;

/// The packet types of what is looked at.
const CONNACK: u8 = 2;
const PUBACK: u8 = 4;

/// The reasons that a PUBACK may have.
const KNOWN: [u8; 9] = [0, 16, 128, 131, 135, 144, 145, 151, 153];

/// What the client reads instead of a reason that it does not know: unspecified error.
const INSTEAD: u8 = 128;

/// The reason of a packet that is too large.
pub(crate) const PACKET_TOO_LARGE: u8 = 0x95;

/// How many reasons of one packet identifier are kept: those of publishes that were given up are never taken.
const KEPT: usize = 8;

/// The reasons that the client does not know, by packet identifier, the oldest first. The client uses an identifier
/// again as soon as it has read its acknowledgement, so another one may come before the first reason is taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct OddReasons(Arc<Mutex<HashMap<u16, VecDeque<u8>>>>);

impl OddReasons {
    fn keep(&self, packet_id: u16, reason: u8) {
        let mut all = self.0.lock();
        let kept = all.entry(packet_id).or_default();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(reason);
    }

    /// Takes the reason of an acknowledgement that the client has read as an unspecified error.
    pub(crate) fn take(&self, packet_id: u16) -> Option<u8> {
        let mut all = self.0.lock();
        let Entry::Occupied(mut kept) = all.entry(packet_id) else { return None };
        let reason = kept.get_mut().pop_front();
        if kept.get().is_empty() {
            kept.remove();
        }
        reason
    }
}

/// Replaces the reasons that the client does not know in a stream of packets.
#[derive(Debug)]
pub(crate) struct KnownReasons {
    scan: Scan,
    odd: OddReasons,
}

impl KnownReasons {
    pub(crate) const fn new(odd: OddReasons) -> Self {
        Self { scan: Scan::Type, odd }
    }
}

/// Where in a packet the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scan {
    Type,
    Length {
        packet: u8,
        length: usize,
        shift: u32,
    },
    /// In the packet identifier of a PUBACK.
    PacketId {
        at: u8,
        id: u16,
        left: usize,
    },
    Reason {
        id: u16,
        left: usize,
    },
    Rest {
        left: usize,
    },
    /// The broker answers as MQTT 3 has it: without properties.
    Outdated,
}

impl Scan {
    const fn rest(left: usize) -> Self {
        if left == 0 { Self::Type } else { Self::Rest { left } }
    }

    /// Reads what has come, and replaces reasons.
    fn read(&mut self, mut bytes: &mut [u8], odd: &OddReasons) {
        while let Some((first, others)) = bytes.split_first_mut() {
            let byte = *first;
            let mut skipped = 0;
            *self = match *self {
                Self::Type => Self::Length { packet: byte >> 4, length: 0, shift: 0 },
                Self::Length { packet, length, shift } => {
                    let length = length | usize::from(byte & 0x7f) << shift;
                    match byte & 0x80 {
                        // Longer ones are malformed, which the client finds.
                        0x80 if shift < 21 => Self::Length { packet, length, shift: shift + 7 },
                        // Without a reason it means success.
                        _ if packet == PUBACK && length > 2 => Self::PacketId { at: 0, id: 0, left: length },
                        _ if packet == CONNACK && length == 2 => Self::Outdated,
                        _ => Self::rest(length),
                    }
                }
                Self::PacketId { at, id, left } => {
                    let (id, left) = (id << 8 | u16::from(byte), left - 1);
                    if at == 0 { Self::PacketId { at: 1, id, left } } else { Self::Reason { id, left } }
                }
                Self::Reason { id, left } => {
                    if !KNOWN.contains(&byte) {
                        odd.keep(id, byte);
                        *first = INSTEAD;
                    }
                    Self::rest(left - 1)
                }
                Self::Outdated => return,
                Self::Rest { left } => {
                    skipped = others.len().min(left - 1);
                    Self::rest(left - 1 - skipped)
                }
            };
            bytes = &mut others[skipped..];
        }
    }
}

impl<S> Tap<S> for KnownReasons {
    fn after(&mut self, read: &mut [u8]) -> io::Result<()> {
        self.scan.read(read, &self.odd);
        match self.scan {
            // The client would wait for the properties.
            Scan::Outdated => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "the broker does not speak MQTT 5"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the bytes are cut, the same comes out.
    #[test]
    fn odd_reasons_are_replaced_and_all_else_stays() {
        let long = [&[0x32, 0x80, 0x02][..], &[0x40; 256]].concat();
        let packets: [&[u8]; 9] = [
            &[0x20, 3, 0, 0, 0],
            &[0x40, 2, 0x12, 0x34],
            &long,
            &[0x40, 3, 0x12, 0x34, 0x87],
            &[0x40, 4, 0x01, 0x02, 0x95, 0],
            &[0xd0, 0],
            &[0x40, 3, 0xff, 0xff, 0x95],
            &[0x40, 3, 0x01, 0x02, 0xa1],
            &[0x40, 0],
        ];
        let came = packets.concat();
        let mut expected = came.clone();
        let at = |needle: &[u8]| came.windows(needle.len()).position(|window| window == needle).unwrap();
        expected[at(&[0x01, 0x02, 0x95]) + 2] = INSTEAD;
        expected[at(&[0xff, 0xff, 0x95]) + 2] = INSTEAD;
        expected[at(&[0x01, 0x02, 0xa1]) + 2] = INSTEAD;
        for step in [1, 2, 3, 5, 7, came.len()] {
            let (odd, mut scan, mut read) = (OddReasons::default(), Scan::Type, came.clone());
            read.chunks_mut(step).for_each(|bytes| scan.read(bytes, &odd));
            assert_eq!((read, scan), (expected.clone(), Scan::Type), "in steps of {step}");
            let taken = [0x0102, 0xffff, 0x1234, 0x0102, 0x0102].map(|id| odd.take(id));
            assert_eq!(taken, [Some(PACKET_TOO_LARGE), Some(PACKET_TOO_LARGE), None, Some(0xa1), None]);
            assert!(odd.0.lock().is_empty());
        }
    }
}
