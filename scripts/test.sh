#!/usr/bin/env bash
# Runs every test of the workspace; the last line reads "N passed, N failed, N skipped".
#
# It needs a clone, Rust and a C compiler. What is missing is installed where that is possible without asking,
# and otherwise named together with the command that installs it. To run one test, use `cargo test` directly.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin" # a shell older than the Rust installation does not have it yet

die() {
    printf 'scripts/test.sh: %s\n' "$*" >&2
    exit 1
}

(($# == 0)) || die "takes no arguments; to run one test, use: cargo test -p CRATE NAME"

# --- What the tests need: one need_* function for each thing ------------------------------------------------

as_root() {
    if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

# Installs Debian packages, or says how.
apt_install() {
    if ! command -v apt-get >/dev/null; then
        die "please install the equivalent of these Debian packages: $*"
    fi
    as_root true 2>/dev/null || die "please run: sudo apt-get install -y $*"
    as_root apt-get update -qq </dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null
}

need_c_compiler() {
    command -v cc >/dev/null || apt_install gcc libc6-dev
}

need_rust() {
    local wanted found
    command -v cargo >/dev/null || die "Rust is missing; install it as https://rustup.rs says, then run this again"
    # rustup fetches the toolchain of rust-toolchain.toml by itself, unless it was told not to.
    cargo --version >/dev/null || rustup toolchain install || die "the toolchain of rust-toolchain.toml is missing"
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    found=$(cargo --version | cut -d ' ' -f 2)
    printf '%s\n' "$wanted" "$found" | sort -C -V ||
        die "Rust $wanted or newer is needed, this is $found; run: rustup update"
}

# The tests start servers of their own, and those that break nothing use the one at PURISTA_NATS_URL if that is set.
nats_server_version=2.15.2
need_nats_server() {
    local module=github.com/nats-io/nats-server/v2@v$nats_server_version
    local bin=${XDG_CACHE_HOME:-$HOME/.cache}/purista-rs/nats-server-$nats_server_version/bin
    [[ -z ${PURISTA_NATS_URL:-} ]] || return 0
    if [[ -z ${PURISTA_NATS_SERVER:-} ]]; then
        if ! PURISTA_NATS_SERVER=$(PATH=$PATH:$bin command -v nats-server); then
            { command -v go >/dev/null && GOBIN=$bin go install "$module"; } || (apt_install nats-server) ||
                die "nats-server is missing; run: go install $module (or set PURISTA_NATS_URL)"
            PURISTA_NATS_SERVER=$(PATH=$bin:$PATH:/usr/sbin command -v nats-server) # Debian's is not for users
        fi
    fi
    export PURISTA_NATS_SERVER
}

# As for NATS, with PURISTA_AMQP_URL. The tests start nodes as they need them, and not the service of the system.
need_rabbitmq_server() {
    [[ -z ${PURISTA_AMQP_URL:-}${PURISTA_RABBITMQ_SERVER:-} ]] || return 0
    [[ ! -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || return 0 # Debian's on the PATH is a wrapper, and not for users
    ! command -v rabbitmq-server >/dev/null || return 0
    apt_install rabbitmq-server
    as_root service rabbitmq-server stop >/dev/null 2>&1 || true # where there is an init system, it was started
}

# The tests start servers of their own, and not the service of the system.
need_mosquitto() {
    [[ -z ${PURISTA_MOSQUITTO:-} ]] || return 0
    ! PATH=$PATH:/usr/sbin command -v mosquitto >/dev/null || return 0 # Debian's is not for users
    apt_install mosquitto
    as_root service mosquitto stop >/dev/null 2>&1 || true # where there is an init system, it was started
}

# The tests start sidecars of their own. Only its sources can be had as a module, and with all its components it takes
# long to build.
need_daprd() {
    local sources=integration-tests/daprd version sum
    [[ -z ${PURISTA_DAPRD:-} ]] || return 0
    ! command -v daprd >/dev/null || return 0
    version=$(sed -n 's|.*github.com/dapr/dapr v||p' "$sources/go.mod")
    sum=$(cd "$sources" && cat main.go go.mod go.sum | cksum | cut -d ' ' -f 1)
    PURISTA_DAPRD=${XDG_CACHE_HOME:-$HOME/.cache}/purista-rs/daprd-$version-$sum/bin/daprd
    if [[ ! -x $PURISTA_DAPRD ]]; then
        command -v go >/dev/null || die "daprd is missing; install Go, which builds it, or set PURISTA_DAPRD"
        printf 'building daprd %s; it takes some minutes, once\n' "$version"
        go build -C "$sources" -o "$PURISTA_DAPRD" \
            -ldflags "-s -w -X github.com/dapr/dapr/pkg/buildinfo.version=$version" .
    fi
    export PURISTA_DAPRD
}

# Gives a process another wall clock.
need_faketime() {
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || apt_install faketime
}

need_c_compiler
need_rust
need_faketime
need_nats_server
need_rabbitmq_server
need_mosquitto
need_daprd

# --- Running and counting -----------------------------------------------------------------------------------

export RUST_BACKTRACE=0 # handlers panic on purpose, and to print where takes longer than what is tried

target=${CARGO_TARGET_DIR:-target}
log=$target/test.log
mkdir -p "$target"
: >"$log"
work=$(mktemp -d)
part=$work/part
wrong=()
started=()

# start LOG COMMAND...: starts a process beside this one, which ends with this script, and after five minutes anyway.
start() {
    local log=$1
    shift
    timeout --kill-after=15 300 "$@" </dev/null >"$log" 2>&1 &
    started+=($!)
}

clean_up() {
    ((${#started[@]} == 0)) || kill "${started[@]}" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap clean_up EXIT

# Adds up the "test result:" lines that cargo's test runner and libtest-mimic print: "PASSED FAILED SKIPPED".
tally() {
    awk '{ gsub(/\033\[[0-9;]*m/, "") }
        /^test result: / {
            for (i = 2; i <= NF; i++) {
                if ($i == "passed;") passed += $(i - 1)
                if ($i == "failed;") failed += $(i - 1)
                if ($i == "ignored;") skipped += $(i - 1)
            }
        }
        END { printf "%d %d %d\n", passed, failed, skipped }' "$1"
}

# check TITLE COMMAND...: shows and logs what the command prints; notes the title if the command fails.
check() {
    local title=$1
    shift
    printf '\n=== %s\n' "$title"
    "$@" 2>&1 | tee "$part" || wrong+=("$title")
    cat "$part" >>"$log"
}

# tests TITLE COMMAND...: a check that must also have run a test.
tests() {
    local passed failed
    check "$@"
    read -r passed failed _ < <(tally "$part")
    ((passed + failed > 0)) || wrong+=("$1: no test ran")
}

# --- The tests ----------------------------------------------------------------------------------------------

# lines COUNT PATTERN FILE...: waits until so many lines match, for 30 seconds at the most.
lines() {
    local count=$1 pattern=$2
    shift 2
    for _ in {1..300}; do
        (($(cat "$@" 2>/dev/null | grep -Ec -- "$pattern") < count)) || return 0
        sleep 0.1
    done
    printf 'not %d times: %s\n' "$count" "$pattern"
    tail -v "$@"
    return 1
}

quickstart=(cargo run --quiet --locked --example quickstart --)

# The command of the README, with good input: it builds what needs no broker, and a bridge that is not built says how to add it.
quickstart() {
    local output status=0
    cargo build --locked --example quickstart && timeout 60 "${quickstart[@]}" Ada ada@example.com || return
    output=$(timeout 60 "${quickstart[@]}" --bridge nats://localhost 2>&1) || status=$?
    printf '%s\n' "$output"
    ((status == 1)) && grep -q 'needs the feature `nats`' <<<"$output"
}

# From here on with the bridges for brokers.
build_for_brokers() {
    cargo build --locked --workspace --all-features --examples
}

# Without an e-mail the service answers with a handled error. The example shows it; it must not panic (status 101).
quickstart_without_email() {
    local output status=0
    output=$(timeout 60 "${quickstart[@]}" Ada 2>&1) || status=$?
    printf '%s\n' "$output"
    ((status < 101)) && grep -Eqi 'handled error|answered 400' <<<"$output"
}

# Finds a NATS server for the quickstart, or starts one on a free port, which it tells in its log.
serve_nats() {
    nats_url=${PURISTA_NATS_URL:-}
    [[ -z $nats_url ]] || return 0
    start "$work/nats.log" "$PURISTA_NATS_SERVER" --addr 127.0.0.1 --port -1 --jetstream --store_dir "$work/nats"
    lines 1 'Server is ready' "$work/nats.log" || return 0
    nats_url=$(sed -n 's|.*Listening for client connections on |nats://|p' "$work/nats.log")
}

# As for NATS. The harness of the tests above knows how a node starts fast, and ends with whoever started it.
serve_rabbitmq() {
    amqp_url=${PURISTA_AMQP_URL:-}
    [[ -z $amqp_url ]] || return 0
    start "$work/rabbitmq.log" "$target/debug/examples/rabbitmq"
    lines 1 '^amqp://' "$work/rabbitmq.log" || return 0
    amqp_url=$(grep '^amqp://' "$work/rabbitmq.log")
}

# As for RabbitMQ.
serve_mosquitto() {
    mqtt_url=
    start "$work/mosquitto.log" "$target/debug/examples/mosquitto"
    lines 1 '^mqtt://' "$work/mosquitto.log" || return 0
    mqtt_url=$(grep '^mqtt://' "$work/mosquitto.log")
}

# Sidecars of two applications that serve, and of one that calls.
serve_dapr() {
    dapr_urls=('' '' '')
    start "$work/dapr.log" "$target/debug/examples/dapr" "$amqp_url"
    lines 3 '^dapr://' "$work/dapr.log" || return 0
    # The audit of the quickstart names no event, and Dapr has no wildcards.
    mapfile -t dapr_urls < <(sed -n 's/^dapr:.*/&?all_messages_topic=purista-all-messages/p' "$work/dapr.log")
}

# quickstart_over URL: serves and calls in one process.
quickstart_over() {
    timeout 60 "${quickstart[@]}" Ada ada@example.com --bridge "$1"
}

# quickstart_across_processes URL LOG...: two processes serve, with these logs, and others call: each call is answered,
# and each welcome mail is sent by one of the two.
quickstart_across_processes() {
    local name names=(ada-$RANDOM bob-$RANDOM cleo-$RANDOM dan-$RANDOM eve-$RANDOM)
    local url=$1 logs=("${@:2}")
    lines 2 'serving' "${logs[@]}" || return
    for name in "${names[@]}"; do
        timeout 60 "${quickstart[@]}" --call "$name" "$name@example.com" --bridge "$url" || return
    done
    for name in "${names[@]}"; do
        lines 1 "welcome mail goes to $name@" "${logs[@]}" || return
    done
    kill "${servers[@]}"
    lines 2 'everything finished: true' "${logs[@]}" || return
    cat "${logs[@]}"
    for name in "${names[@]}"; do
        (($(cat "${logs[@]}" | grep -c "welcome mail goes to $name@") == 1)) || return
    done
}

# quickstart_with BROKER URL URL URL: the checks over one broker, found by two that serve and by one that calls.
quickstart_with() {
    local broker=$1 served=("$2" "$3") url=$4 number
    local logs=("$work/$broker-1.log" "$work/$broker-2.log")
    check "quickstart over $broker" quickstart_over "$2"
    for number in 0 1; do
        start "${logs[number]}" "${quickstart[@]}" --serve --bridge "${served[number]}"
    done
    servers=("${started[@]: -2}")
    check "quickstart across processes over $broker" quickstart_across_processes "$url" "${logs[@]}"
}

# printed NAME FILE: compares what an example printed with examples/output/NAME.txt. What runs at the same time prints in any
# order.
printed() {
    cat "$2"
    diff <(sort "examples/output/$1.txt") <(sort "$2")
}

# example NAME ARGUMENT...: runs an example, which must succeed and print what it should.
example() {
    timeout 60 "$target/debug/examples/$1" "${@:2}" >"$work/example.log" || return
    printed "$1" "$work/example.log"
}

# The one that ends when it is told to.
example_shutdown() {
    local pid
    timeout 60 "$target/debug/examples/shutdown" >"$work/example.log" &
    pid=$!
    lines 1 '^began' "$work/example.log" || return
    kill "$pid"
    wait "$pid" || return
    printed shutdown "$work/example.log"
}

tests "unit, integration, documentation and conformance tests" \
    cargo test --workspace --all-features --locked --no-fail-fast

# The model checks replace the synchronisation types of the core: a build of its own.
tests "model checks" \
    env RUSTFLAGS="${RUSTFLAGS:-} --cfg purista_loom" CARGO_TARGET_DIR="$target/loom" \
    cargo test --locked --release -p purista-core --test loom

check "quickstart" quickstart
check "quickstart without an e-mail" quickstart_without_email
check "quickstart with the bridges for brokers" build_for_brokers
quickstart=("$target/debug/examples/quickstart")
for name in errors dead_letter fan_out tenants http; do
    check "example $name" example "$name"
done
check "example shutdown" example_shutdown
serve_nats
check "example durable" example durable "$nats_url"
quickstart_with NATS "$nats_url"{,,}
serve_rabbitmq
quickstart_with RabbitMQ "$amqp_url"{,,}
serve_mosquitto
quickstart_with MQTT "$mqtt_url"{,,}
check "example two_brokers" example two_brokers "$nats_url" "$mqtt_url"
serve_dapr
quickstart_with Dapr "${dapr_urls[@]}"

# --- The summary --------------------------------------------------------------------------------------------

# What each failed test says: its first lines, without what a broker tells in its log as long as all is well.
reasons() {
    awk '{ gsub(/\033\[[0-9;]*m/, "") }
        /^failures:$/ { left = 0 }
        /^---- .* ----$/ { left = 8 }
        left > 0 && NF && !/level=(info|warning)/ { print "FAILED:   " substr($0, 1, 300); left-- }' "$1"
}

printf '\n=== summary\n'
((${#wrong[@]} == 0)) || printf 'FAILED: %s\n' "${wrong[@]}" | tee -a "$log"
sed -nE 's/\x1b\[[0-9;]*m//g; s/^test (.*[^ ]) +\.\.\. FAILED.*/FAILED: \1/p' "$log" >"$part"
reasons "$log" >>"$part"
cat "$part"
cat "$part" >>"$log"
read -r passed failed skipped < <(tally "$log")
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped" | tee -a "$log"
((${#wrong[@]} == 0 && failed == 0))
