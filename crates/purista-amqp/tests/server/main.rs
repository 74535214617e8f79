//! What holds on a real broker beside the conformance suite: services of the TypeScript original as peers, and what is
//! special about RabbitMQ.

#[cfg(test)]
mod alarm;
#[cfg(test)]
mod at_once;
#[cfg(test)]
mod attempts;
#[cfg(test)]
mod bad_publish;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod changed;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod differing;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod lacking;
#[cfg(test)]
mod limits;
mod many_registrations;
#[cfg(test)]
mod races;
#[cfg(test)]
mod removed;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod several_servers;
#[cfg(test)]
mod starvation;
#[cfg(test)]
mod support;
#[cfg(test)]
mod topology;
#[cfg(test)]
mod urls;
