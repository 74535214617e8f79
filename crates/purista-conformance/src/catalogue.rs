//! The rows of the catalogue: what every adapter must do.

use purista_core::Capability;

/// One behaviour.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Row {
    /// The id, such as `RPC-4`.
    pub id: &'static str,
    /// What holds.
    pub title: &'static str,
    /// Where it is proved.
    pub proof: Proof,
}

/// Where a row is proved.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Proof {
    /// By a trial of this suite.
    Trial,
    /// By a test of the core, as it does not depend on the adapter.
    Core(&'static str),
    /// By nothing yet. An adapter that claims the capability fails the row; for the others it does not apply, and the
    /// text says why.
    Missing(Option<Capability>, &'static str),
}

const fn trial(id: &'static str, title: &'static str) -> Row {
    Row { id, title, proof: Proof::Trial }
}

const fn core(id: &'static str, title: &'static str, test: &'static str) -> Row {
    Row { id, title, proof: Proof::Core(test) }
}

const fn missing(
    id: &'static str,
    title: &'static str,
    capability: Option<Capability>,
    reason: &'static str,
) -> Row {
    Row { id, title, proof: Proof::Missing(capability, reason) }
}

/// All rows.
pub const ROWS: &[Row] = &[
    trial("ENV-1", "every type of message arrives field by field as it was sent"),
    core("ENV-2", "what is absent stays absent", "purista-core tests/envelope.rs"),
    core(
        "ENV-3",
        "messages of the TypeScript original decode, and ours have its form",
        "purista-core tests/envelope.rs",
    ),
    trial("ENV-4", "id, timestamp and sender instance are the bridge's"),
    trial("ENV-6", "a header that contradicts the body is refused"),
    trial("ENV-7", "malformed CloudEvents are refused"),
    trial("RPC-1", "a command answers"),
    trial("RPC-2", "500 calls at once get their own answers"),
    trial("RPC-3", "two callers get only their own answers"),
    trial("RPC-4", "nobody serves the command: the caller hears it at once"),
    trial("RPC-6", "a response that announces an event reaches caller and subscribers"),
    trial("RPC-7", "commands that call commands, five deep, at concurrency 1"),
    trial("RPC-9", "a caller that goes away frees its call at once"),
    trial("CMD-1", "a command is delivered again when its instance dies"),
    trial("TMO-1", "the caller hears of the time limit when it passes"),
    trial("TMO-2", "an answer that comes late disturbs nobody"),
    trial("TMO-3", "a command that waited too long is not executed"),
    trial("TMO-4", "odd time limits are kept or refused"),
    trial("TMO-5", "what a handler calls waits no longer than its own caller"),
    trial("GRP-1", "instances share a subscription"),
    trial("GRP-2", "each instance gets a broadcast"),
    trial("GRP-3", "two subscribers with one filter each get everything"),
    trial("GRP-4", "overlapping subscriptions of one service each get a message once"),
    trial("GRP-5", "survivors finish what a killed member held"),
    trial("GRP-7", "each command is executed by one of two instances"),
    core(
        "MAT-1",
        "the matcher agrees with an oracle on every combination of fields",
        "purista-core tests/matcher.rs",
    ),
    trial("MAT-2", "the bridge delivers what the matcher accepts, for all pairs of fields"),
    trial("MAT-3", "an empty filter value is refused"),
    trial("MAT-4", "names that are equal only after normalising are different"),
    trial("MAT-6", "what the broker routes wrongly is not handled"),
    trial("MAT-8", "a filter that the broker cannot express is matched all the same"),
    trial("DUR-1", "a durable subscription misses nothing while its service is away"),
    trial("DUR-3", "a restart of the broker loses nothing"),
    trial("DUR-4", "a kill of the broker loses nothing"),
    trial("DUR-5", "a session that never had a message survives a restart"),
    trial("DUR-6", "emit returns after the broker took over"),
    trial("DUR-7", "an event that must reach someone is refused when nobody is there"),
    trial("DUR-8", "a durable command waits for its service"),
    trial("DUR-9", "a durable subscription is refused by who has none"),
    trial("ACK-1", "a message is acknowledged after its handler, also when the process dies"),
    trial("ACK-2", "a handler that fails twice is tried again with the same message"),
    trial("ACK-3", "a handler that always fails runs as often as asked"),
    trial("ACK-4", "attempts are apart by the delay"),
    trial("ACK-5", "a dead letter tells all about itself"),
    trial("ACK-6", "a poison message does not stop its neighbours"),
    trial("ACK-7", "a message that kills its process is parked"),
    trial("ACK-9", "a dead letter that cannot be kept is not lost"),
    trial("ACK-10", "an acknowledgement that fails leads to another delivery"),
    trial("ACK-12", "a long handler runs once"),
    trial("ACK-13", "a panic is a failure like any other"),
    trial("ACK-14", "many poison messages at once do not stop others"),
    trial("DLQ-1", "listing dead letters changes nothing"),
    trial(
        "DLQ-2",
        "a dead letter that is sent again reaches the subscriber that failed, and its attempts begin anew",
    ),
    trial("DLQ-3", "dead letters count how often they were sent again, and what cannot be sent stays"),
    trial("DLQ-4", "of dead letters those are given up or sent again that the filter says"),
    trial("DLQ-5", "a kill of the broker while dead letters are sent again loses none"),
    trial("ORD-1", "messages of one sender arrive in order"),
    missing(
        "ORD-3",
        "order by key with parallel keys",
        None,
        "the contract has no order by key; it is asked for at concurrency 1",
    ),
    trial("LIM-1", "as many handlers run as may, and no more"),
    trial("LIM-2", "a slow handler does not fill the memory"),
    trial("LIM-3", "a broker that stops reading becomes back-pressure"),
    trial("LIM-4", "handlers that emit much through small queues do not lock up"),
    trial("LIM-5", "a stuck subscription does not hold up others"),
    trial("LIM-6", "a handler that computes delays nobody"),
    trial("LIF-1", "use before start and after shutdown is refused"),
    trial("LIF-2", "registering works before and after the start"),
    trial("LIF-3", "a registration is live when it returns"),
    trial("LIF-4", "start and shutdown in any order, at once and again"),
    trial("LIF-5", "the same address twice is refused"),
    trial("LIF-6", "after unregistering nothing is delivered, and what runs finishes"),
    trial("LIF-7", "a shutdown lets 50 handlers finish"),
    trial("LIF-8", "what was not started goes to the other instance"),
    trial("LIF-9", "pending calls get their answers during a shutdown"),
    trial("LIF-10", "a handler that outlives the grace period is cancelled, and that is no attempt"),
    trial("LIF-11", "a bridge whose runtime is gone says so at once"),
    trial("NET-1", "a restart of the broker is survived"),
    trial("NET-2", "a kill of the broker is survived"),
    trial("NET-3", "cuts in the stream are survived"),
    trial("NET-4", "a silent peer is noticed"),
    trial("NET-6", "a session that the broker lost is built again"),
    trial("NET-7", "a consumer that the broker cancelled comes back"),
    trial("NET-8", "a broker that is down at the start is an error"),
    trial("NET-9", "flapping leaves one consumer"),
    trial("NET-10", "what waits during an outage is bounded"),
    trial("ERR-1", "a handled error arrives as the service gave it"),
    trial("ERR-2", "an unhandled error tells nothing of its cause"),
    trial("ERR-3", "a panic of a command is answered"),
    trial("HLT-1", "health tells the truth"),
    trial("HLT-2", "a consumer that is gone is unhealthy"),
    trial("HLT-3", "whatever stops a registration from consuming is told, and ends by itself"),
    trial("PAY-1", "empty payloads of each kind stay what they are"),
    trial("PAY-2", "text of every script arrives"),
    trial("PAY-3", "payloads up to the limit arrive, above they are refused"),
    trial("PAY-4", "an answer that is too large is an error for the caller"),
    trial("PAY-6", "deep nesting is refused"),
    trial("PAY-7", "numbers arrive bit for bit, and what JSON cannot say is refused"),
    trial("IDN-1", "no message crosses tenants"),
    trial("IDN-3", "names of every length arrive or are refused"),
    trial("ISO-1", "one caller's forbidden or oversized publish fails only itself"),
    trial("SEC-1", "certificates are checked"),
    trial("SEC-2", "bad credentials are refused"),
    trial("SEC-3", "hostile names reach their exact address only"),
    core("SEC-4", "different addresses have different names at the broker", "purista-core tests/routing.rs"),
    trial("SEC-5", "malformed input is counted and survived"),
    trial("SEC-6", "a forged response is not accepted"),
    trial("SEC-9", "secrets are never shown"),
    trial("OBS-1", "a trace goes along from message to message"),
    trial("OBS-3", "the counters balance"),
    trial("LEK-1", "calls of every ending leave nothing behind"),
    trial("LEK-2", "bridges that come and go leave no task behind"),
    trial("LEK-3", "a shutdown leaves nothing at the broker"),
    trial("WIR-1", "a command of both languages is executed once, by one of them"),
    trial("WIR-2", "the names that the original lets its users choose can be set"),
    trial("WIR-3", "a command has the parameter that its caller gave, or an empty one"),
    trial("WIR-4", "a subscriber of both languages loses nothing"),
    trial("WIR-5", "names that look like a marker meet those of the original"),
    trial("WIR-6", "a caller hears at once that another instance of the original has answered"),
    trial("WIR-7", "a command for a named instance of the original reaches it, or its caller hears at once"),
    trial("WIR-8", "a command that cannot be read is answered"),
    trial("WIR-9", "events meet those of the original whatever letters their names have"),
    trial("WIR-10", "frames of streams are known, and a stream that is opened is refused"),
    missing("STR-1", "a stream arrives in order", None, "the contract has no streams yet"),
    missing("STR-3", "a slow reader of a stream slows its sender", None, "the contract has no streams yet"),
];

/// Returns the row with this id.
#[must_use]
pub fn row(id: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::cases;

    #[test]
    fn each_row_has_the_proof_it_names() {
        let tried: Vec<_> = cases::all().map(|case| case.row).collect();
        let distinct: HashSet<_> = tried.iter().copied().collect();
        assert_eq!(distinct.len(), tried.len(), "a row with two cases");
        for row in ROWS {
            let by_trial = matches!(row.proof, Proof::Trial);
            assert_eq!(distinct.contains(row.id), by_trial, "{}", row.id);
        }
        assert!(tried.iter().all(|id| row(id).is_some()), "a case without a row");
    }

    #[test]
    fn each_capability_names_rows_that_exist() {
        for capability in Capability::ALL {
            for id in capability.proved_by() {
                assert!(row(id).is_some(), "{capability} is proved by {id}, which is no row");
            }
        }
    }
}
