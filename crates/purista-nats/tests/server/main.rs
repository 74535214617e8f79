//! What holds on a real server beside the conformance suite: services of the TypeScript original as peers, and what is
//! special about NATS.

#[cfg(test)]
mod attempts;
#[cfg(test)]
mod capabilities;
#[cfg(test)]
mod changed_filters;
#[cfg(test)]
mod clusters;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod duplicates;
#[cfg(test)]
mod hand_over;
#[cfg(test)]
mod instances;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod jwt;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod namesakes;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod overflow;
#[cfg(test)]
mod permissions;
#[cfg(test)]
mod several_servers;
#[cfg(test)]
mod shared_settings;
#[cfg(test)]
mod small_servers;
#[cfg(test)]
mod starvation;
#[cfg(test)]
mod stoppages;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod support;
#[cfg(test)]
mod urls;
#[cfg(test)]
mod wiped;
