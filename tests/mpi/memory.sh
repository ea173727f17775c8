# What the tests of memory that follows later have in common.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
# shellcheck shell=bash
#
# To be sourced.

# shellcheck source=tests/mpi/lib.sh
source "${LPM_TOP:?}/tests/mpi/lib.sh"

# memory_start NP OPTION...: the program `memory`, which runs until brake_off.
memory_start() {
    local np=$1
    shift
    brake_on
    job_start "$np" memory --brake "$BRAKE" "$@"
    job_await 0 '^memory: running, ranks on:' out 120
    place_ranks "$np"
}

# memory_end: every page of every rank is right.
memory_end() {
    brake_off
    job_end 0 180
    job_expect '^memory: every page is right$'
}

# pages_say EXPRESSION: whether it is true of the last move's answer (`ompi-migrate --json`); names: the members of
# "pages", and blackout_ms, image_bytes.
pages_say() {
    # shellcheck disable=SC2016
    tail -n 1 "$WORK/migrate.out" | python3 -c '
import collections, json, sys
event = json.loads(sys.stdin.readline())
if event.get("event") != "done":
    sys.exit("the last event is %r" % event)
names = collections.defaultdict(int, event["pages"])
names.update({k: event[k] for k in ("blackout_ms", "image_bytes")})
if not eval(sys.argv[1], {}, names):
    sys.exit("not so: %s, of %r" % (sys.argv[1], dict(names)))
' "$1" || fail "the numbers of the move are not as they should be (see above)"
}

# memory_move RANK NODE [EXPRESSION]: moves, and looks at the numbers.
memory_move() {
    migrate --json --timeout 120 --ranks "$1" --onto "$2" "$JOB_PID"
    [[ $MIGRATE_CODE == 0 ]] || fail "the move of rank $1 to $2 ended with $MIGRATE_CODE: $(tail -n 1 "$WORK/migrate.out")"
    pages_say "${3:-mode == \"lazy\" and missing_pages > 0 and fault_pages + stream_pages >= missing_pages}"
    expect_rank "$1" "$2"
    PLACE[$1]=$2
    say "rank $1 is on $2"
}

# move_in_background RANK NODE: ompi-migrate runs on; its answer is in move.out, its end is seen by move_over.
MOVE_EXEC=""
move_in_background() {
    on n1 "$OMPI_MIGRATE" --json --timeout 300 --ranks "$1" --onto "$2" "$JOB_PID" >"$WORK/move.out" 2>&1 </dev/null &
    MOVE_EXEC=$!
}

phase_ended() {
    grep -q "\"phase\":\"$1\"" "$WORK/move.out" || move_over
}

# await_phase PHASE: until it has ended.
await_phase() {
    wait_for 60 "the end of $1" phase_ended "$1"
    grep -q "\"phase\":\"$1\"" "$WORK/move.out" || fail "the move ended before the end of $1: $(tail -n 1 "$WORK/move.out")"
}

move_over() {
    ! kill -0 "$MOVE_EXEC" 2>/dev/null
}

# move_end CODE: the move in the background ends with this exit code, or one of several (REGEX).
move_end() {
    wait_for 120 "the end of the move" move_over
    MIGRATE_CODE=0
    wait "$MOVE_EXEC" || MIGRATE_CODE=$?
    cp "$WORK/move.out" "$WORK/migrate.out"
    cat "$WORK/move.out" >>"$WORK/migrate.log"
    [[ $MIGRATE_CODE =~ ^($1)$ ]] || fail "the move ended with $MIGRATE_CODE, not with $1: $(tail -n 1 "$WORK/migrate.out")"
}

# brake_link NODE MBIT, free_link NODE: what the node sends takes its time.
brake_link() {
    on "$1" tc qdisc replace dev eth0 root tbf rate "$2mbit" burst 64kb latency 100ms
}

free_link() {
    on "$1" tc qdisc del dev eth0 root
}
