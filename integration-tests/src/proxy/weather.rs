use std::time::Duration;

use purista_conformance::NetworkFault;

/// What is wrong with the network. What happens once is counted, so that nobody misses it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) lasting: Lasting,
    pub(super) resets: u64,
    pub(super) closes: u64,
    pub(super) cuts: u64,
    /// After how many bytes connections are cut that are older than the last cut.
    pub(super) cut_after: Option<usize>,
}

/// What is wrong until it is mended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lasting {
    #[default]
    Nothing,
    Down,
    Silence,
    Stall,
    Delay(Duration),
    Throttle(usize),
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToBroker,
    ToBridge,
}

impl Weather {
    pub(super) const fn turn(&mut self, fault: NetworkFault) {
        match fault {
            NetworkFault::Reset => self.resets += 1,
            NetworkFault::Close => self.closes += 1,
            NetworkFault::CutAfter(bytes) => {
                self.cuts += 1;
                self.cut_after = Some(bytes);
            }
            NetworkFault::Silence => self.lasting = Lasting::Silence,
            NetworkFault::Stall => self.lasting = Lasting::Stall,
            NetworkFault::Delay(time) => self.lasting = Lasting::Delay(time),
            NetworkFault::Throttle(bytes) => self.lasting = Lasting::Throttle(bytes),
            // A fault that is new in the suite and not here: it must not pass for a network that works.
            NetworkFault::Down | _ => {
                // Counted too, for connections that look only after it is mended.
                self.resets += 1;
                self.lasting = Lasting::Down;
            }
        }
    }

    pub(super) const fn clear(&mut self) {
        self.lasting = Lasting::Nothing;
        self.cut_after = None;
    }

    /// Returns whether bytes may go this way, however slowly.
    pub(super) const fn flows(&self, direction: Direction) -> bool {
        match self.lasting {
            Lasting::Down | Lasting::Silence | Lasting::Throttle(0) => false,
            Lasting::Stall => matches!(direction, Direction::ToBridge),
            Lasting::Nothing | Lasting::Delay(_) | Lasting::Throttle(_) => true,
        }
    }
}
