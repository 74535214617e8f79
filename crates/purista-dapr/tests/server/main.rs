//! What holds beside a real sidecar, in addition to the conformance suite.

#[cfg(test)]
mod app_channel;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod events;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod support;
