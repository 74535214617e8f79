//! What holds beside a real sidecar, in addition to the conformance suite.

#[cfg(test)]
mod app_channel;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod events;
#[cfg(test)]
mod health;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod support;
#[cfg(test)]
mod urls;
