# Lists the recipes
default:
    @just --list --unsorted

# Formats the code
fmt:
    cargo fmt --all

# Clippy, warnings are errors
lint:
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# Every test, and what they need
test:
    scripts/test.sh

# Starts the brokers in Docker, and waits until they are ready
up:
    docker compose up --detach --wait

# Stops the brokers; their data stay (`docker compose down --volumes` removes them)
down:
    docker compose down

# What the brokers log: `just logs`, or `just logs nats`
[positional-arguments]
logs *args:
    docker compose logs --follow "$@"

# The documentation, warnings are errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features --locked

# The benchmarks: `just bench`, or `just bench -p CRATE`
[positional-arguments]
bench *args:
    cargo bench --locked "$@"

# Kills a broker and breaks its network under load: `just faults nats`, or `just faults amqp --cycles 100 --faults 1000`
[positional-arguments]
faults *args:
    cargo run --locked --release -p purista-integration-tests --example fault_run -- "$@"

# The example: `just quickstart Ada ada@example.com`, or after `just up`: `just quickstart --bridge nats://localhost:4222`
[positional-arguments]
quickstart *args:
    cargo run --locked --all-features -p purista-examples --example quickstart -- "$@"

# Fuzzes where foreign bytes are read: `just fuzz all`, or `just fuzz envelope` (needs: cargo install cargo-fuzz --locked)
[positional-arguments]
fuzz *args:
    fuzz/run "$@"

# The model checks of pending calls and drain
loom:
    RUSTFLAGS="--cfg purista_loom" CARGO_TARGET_DIR=target/loom cargo test --locked --release -p purista-core --test loom

# Licences, bans and sources (needs: cargo install cargo-deny --locked)
deny:
    cargo deny --locked check --hide-inclusion-graph bans licenses sources

# Known vulnerabilities (needs cargo-deny and the network)
advisories:
    cargo deny --locked check advisories

# Writes docs/capabilities.md from a conformance run of every adapter
capabilities:
    cargo test --locked --workspace --no-fail-fast --test 'conformance*'

# Everything that a change must pass
ci:
    .ci/run
