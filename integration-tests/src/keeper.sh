# Holds a broker as its child, and ends it when the test process lets go or dies.
#
# Its standard input is a pipe that the test process holds open. The kernel closes that pipe however the test process
# ends, so nothing is left behind even after SIGKILL, when no destructor runs.
#
# Arguments: folder to remove, log file, command that kills the broker or nothing, then the broker's command line.
# Prints the broker's process id. Ends with the broker.
folder=$1 log=$2 kill_command=$3
shift 3

exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- &
broker=$!

(
    while read -r _; do :; done <&3
    trap '' TERM # from here on it must not be stopped half-way
    if [ -n "$kill_command" ]; then
        eval "$kill_command"
    else
        kill -KILL "$broker"
    fi
    # What the broker writes while it dies makes the first attempt fail.
    for _ in 1 2 3 4 5; do
        rm -rf "$folder" && break
        sleep 1
    done
) >/dev/null 2>&1 &
watch=$!

exec 3<&-
echo "$broker"
exec >/dev/null
wait "$broker"
status=$?
kill "$watch" 2>/dev/null # its process id may belong to another process later on
wait
exit "$status"
