//! What a broker of MQTT sends, before the client reads it: reasons that the client does not know are replaced, however the
//! bytes are cut, and nothing else is.

use std::collections::BTreeMap;

use purista_mqtt::fuzzing as mqtt;

use crate::{Verdict, input};

/// The reasons that the specification has for a PUBACK.
const KNOWN: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

/// How many reasons of one packet identifier wait to be taken: the last ones.
const KEPT: usize = 8;

/// Each byte of a stream may come alone, which takes time.
const MAX_STREAM: usize = 1_024;

/// What a client finds in a stream.
#[derive(Debug, Default)]
struct Wanted {
    bytes: Vec<u8>,
    /// All of each packet identifier, in their order.
    odd: BTreeMap<u16, Vec<u8>>,
    /// Until where it reads, if the broker answers as MQTT 3 has it.
    outdated_at: Option<usize>,
    has_acknowledgement: bool,
}

/// Checks one input: the length of a piece, and a stream of packets.
pub fn run(data: &[u8]) -> Verdict {
    let Some((&piece, stream)) = data.split_first() else { return Verdict::Refused };
    let mut stream = input::expand(stream);
    stream.truncate(MAX_STREAM);
    let wanted = wanted(&stream);
    let whole = stream.len().max(1);
    for piece in [usize::from(piece).clamp(1, whole), whole] {
        let read = mqtt::known_reasons(&stream, piece);
        assert_eq!(read.is_outdated, wanted.outdated_at.is_some());
        if let Some(at) = wanted.outdated_at {
            // Nothing of the piece is handed over.
            assert!(read.bytes.len() <= at && at - read.bytes.len() <= piece, "{} {at}", read.bytes.len());
        } else {
            assert_eq!(read.bytes.len(), stream.len());
        }
        assert_eq!(read.bytes, wanted.bytes[..read.bytes.len()]);
        for (id, reasons) in &wanted.odd {
            for reason in &reasons[reasons.len().saturating_sub(KEPT)..] {
                assert_eq!(read.take_odd(*id), Some(*reason), "{id}");
            }
            assert_eq!(read.take_odd(*id), None, "{id}");
        }
    }
    Verdict::accepted(wanted.has_acknowledgement)
}

/// Reads packet by packet, as the specification has it.
fn wanted(stream: &[u8]) -> Wanted {
    let mut wanted = Wanted { bytes: stream.to_vec(), ..Wanted::default() };
    let mut at = 0;
    while let Some(&first) = stream.get(at) {
        at += 1;
        let mut length = 0;
        for digit in 0..4 {
            let Some(&byte) = stream.get(at) else { return wanted };
            at += 1;
            length |= usize::from(byte & 0x7f) << (7 * digit);
            if byte < 0x80 {
                break;
            }
        }
        match first >> 4 {
            2 if length == 2 => {
                wanted.outdated_at = Some(at);
                return wanted;
            }
            4 if length > 2 => {
                if let Some(&[high, low, reason]) = stream.get(at..at + 3) {
                    wanted.has_acknowledgement = true;
                    if !KNOWN.contains(&reason) {
                        wanted.bytes[at + 2] = 0x80;
                        wanted.odd.entry(u16::from_be_bytes([high, low])).or_default().push(reason);
                    }
                }
            }
            _ => {}
        }
        at += length;
    }
    wanted
}
