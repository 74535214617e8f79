//! What holds on a real broker beside the conformance suite: services of the TypeScript original as peers, and what is
//! special about MQTT.

#[cfg(test)]
mod attempts;
#[cfg(test)]
mod bad_publish;
#[cfg(test)]
mod client;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod differing;
#[cfg(test)]
mod durable;
#[cfg(test)]
mod hand_over;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod instances;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod latency;
#[cfg(test)]
mod lesser_brokers;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod namesakes;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod several_servers;
#[cfg(test)]
mod starvation;
#[cfg(test)]
mod support;
#[cfg(test)]
mod take_over;
#[cfg(test)]
mod urls;
#[cfg(test)]
mod wiped;
