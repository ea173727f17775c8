#!/bin/bash
# What the tests of moves have in common: nodes, jobs, moves, and what is to be seen afterwards.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
#
# To be sourced. A test is one bash script that ends with 0 (passed) or with the first `fail`; whatever it started is
# ended by the exit trap. The runner sets LPM_TOP, LPM_BUILD, LPM_CLUSTER (a cluster that is up) and LPM_RESULTS.
# Waiting is always for something that can be seen (a line, a process, a file), with a deadline.

set -euo pipefail
: "${LPM_TOP:?}" "${LPM_BUILD:?}" "${LPM_CLUSTER:?}" "${LPM_RESULTS:?}"

TEST=$(basename "$0" .test)
WORK=$LPM_RESULTS/$TEST             # every file of the test; the nodes see it at the same path
PROGRAMS=$LPM_BUILD/tests/mpi
OMPI_MIGRATE=$LPM_BUILD/tools/ompi-migrate
HOSTFILE=$WORK/hostfile             # a test may write another one before its first job
BRAKE=$WORK/brake                   # the programs go on as long as this file is there
TRIGGER=$WORK/trigger               # a program's --trigger
LPM_ON=(--mca crs lpm)
JOB_OPTIONS=("${LPM_ON[@]}")        # further options of mpirun; empty: a stock run
JOB_NETWORK=(--mca btl_tcp_if_include eth0)
JOB_AS=()                           # options of `cluster exec` for mpirun: (-u lpmuser)
JOB_WRAPPER=()                      # what mpirun starts instead of the program, with the program as arguments
JOB=""                              # start of the names of the job's files: $JOB.out, $JOB.err, $JOB.pid
JOB_COUNT=0
JOB_EXEC=""                         # our child that stands for mpirun, empty when there is none
JOB_PID=""                          # mpirun's pid in its node
JOB_PROGRAM=""
JOB_CODE=""                         # exit code of the last job that ended
MIGRATE_CODE=""                     # exit code of the last ompi-migrate
declare -A RANK_PID=()              # pid of each rank as first seen
declare -A PLACE=()                 # node of each rank as the test has moved them

say() {
    printf '%s: %s\n' "$TEST" "$*"
}

fail() {
    printf '%s: FAILED: %s\n' "$TEST" "$*" >&2
    exit 1
}

# ---------------------------------------------------------------------- waiting

# wait_for SECONDS WHAT COMMAND...: until the command succeeds; a failure of the test when it does not in time.
wait_for() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if (( SECONDS >= until )); then
            fail "waited in vain for $what"
        fi
        sleep 0.05      # between two looks; the look decides
    done
}

# ------------------------------------------------------------------------ nodes

# on NODE COMMAND...: runs it there as root.
on() {
    "$LPM_TOP/tests/cluster/cluster" --name "$LPM_CLUSTER" exec "$@"
}

all_nodes() {
    "$LPM_TOP/tests/cluster/cluster" --name "$LPM_CLUSTER" hostfile | awk '{ print $1 }'
}

# Everything on a node that a job could leave: processes, files outside the common file system, mounts. criu.kdat is
# the cache of CRIU's kernel probe, which CRIU means to stay.
node_state() {
    # shellcheck disable=SC2016
    on "$1" bash -c '
        processes=$(ps -e -o comm=)
        sort <<<"$processes" | uniq -c
        find /tmp /run /dev/shm -xdev ! -path /run/criu.kdat -printf "%y %p\n" | sort
        cut -d " " -f 5,9- /proc/self/mountinfo | sort'
}

# Takes the state of all nodes before the first job.
remember_nodes() {
    local node
    for node in "${NODES[@]}"; do
        [[ -e $WORK/before.$node ]] || node_state "$node" >"$WORK/before.$node"
    done
}

node_as_before() {
    node_state "$1" >"$WORK/after.$1"
    cmp -s "$WORK/before.$1" "$WORK/after.$1"
}

# After a job: no process, session directory, socket, shared memory or mount is left on any node. What ends by itself
# shortly after mpirun (an sshd session, a daemon) has a little time.
expect_clean() {
    local node until=$((SECONDS + 20))
    for node in "${NODES[@]}"; do
        until node_as_before "$node"; do
            if (( SECONDS >= until )); then
                diff "$WORK/before.$node" "$WORK/after.$node" >&2 || :
                fail "$node is not as it was before the job (see above)"
            fi
            sleep 0.2       # between two looks
        done
    done
}

# ------------------------------------------------------------------------- jobs

# job_start NP PROGRAM ARGUMENT...: starts one of our programs from n1, in the background.
job_start() {
    local np=$1
    JOB_PROGRAM=$2
    shift 2
    remember_nodes
    JOB_COUNT=$((JOB_COUNT + 1))
    JOB=$WORK/job$JOB_COUNT
    RANK_PID=()
    : >"$JOB.out"
    : >"$JOB.err"
    # shellcheck disable=SC2016
    on n1 ${JOB_AS[@]+"${JOB_AS[@]}"} bash -c 'ulimit -c 0; cd "$1"; echo $$ >"$2.new"; mv "$2.new" "$2"; shift 2; exec "$@"' \
        job "$WORK" "$JOB.pid" mpirun --allow-run-as-root --hostfile "$HOSTFILE" --oversubscribe --map-by node \
        --mca mpi_yield_when_idle 1 --mca oob_tcp_if_include eth0 "${JOB_NETWORK[@]}" \
        ${JOB_OPTIONS[@]+"${JOB_OPTIONS[@]}"} -np "$np" \
        ${JOB_WRAPPER[@]+"${JOB_WRAPPER[@]}"} "$PROGRAMS/$JOB_PROGRAM" "$@" \
        </dev/null >"$JOB.out" 2>"$JOB.err" &
    JOB_EXEC=$!
    wait_for 20 "the pid of mpirun" test -s "$JOB.pid"
    JOB_PID=$(<"$JOB.pid")
}

job_over() {
    ! kill -0 "$JOB_EXEC" 2>/dev/null
}

# job_mark out|err: how many lines the job has printed up to now.
job_mark() {
    wc -l <"$JOB.$1"
}

# job_said MARK REGEX [out|err]: whether a line after the mark matches.
job_said() {
    tail -n "+$(($1 + 1))" "$JOB.${3:-out}" | grep -E -c -e "$2" >"$WORK/said" || :
    [[ $(<"$WORK/said") != 0 ]]
}

job_said_or_over() {
    job_said "$@" || job_over
}

# job_await MARK REGEX [out|err [SECONDS]]: until the running job prints a matching line after the mark.
job_await() {
    local stream=${3:-out}
    wait_for "${4:-30}" "/$2/ on std$stream of the job" job_said_or_over "$1" "$2" "$stream"
    job_said "$1" "$2" "$stream" || fail "the job ended without /$2/ on std$stream"
}

# job_wait [SECONDS]: waits for the end; sets JOB_CODE.
job_wait() {
    wait_for "${1:-60}" "the end of the job" job_over
    JOB_CODE=0
    wait "$JOB_EXEC" || JOB_CODE=$?
    JOB_EXEC=""
}

# job_end CODE [SECONDS]: the job ends with this exit code, no program has found a defect, and nothing is left.
job_end() {
    job_wait "${2:-60}"
    expect_no_defect
    [[ $JOB_CODE == "$1" ]] || fail "mpirun ended with $JOB_CODE, not with $1"
    expect_clean
}

expect_no_defect() {
    ! grep -E -h '^DEFECT:' "$JOB.out" "$JOB.err" >&2 || fail "a program found a defect (see above)"
}

# job_expect REGEX [out|err]: a line of the ended job matches.
job_expect() {
    job_said 0 "$1" "${2:-out}" || fail "no line /$1/ on std${2:-out} of the job"
}

brake_on() {
    rm -f "$TRIGGER"
    : >"$BRAKE"
}

brake_off() {
    rm -f "$BRAKE"
}

# ------------------------------------------------------------------------ ranks

# Ranks on a node, one line each: rank, pid, name of the parent process.
ranks_on() {
    # shellcheck disable=SC2016
    on "$1" bash -c '
        { grep -zaosH "^OMPI_COMM_WORLD_RANK=[0-9]*" /proc/[0-9]*/environ || :; } | tr "\0" "\n" |
        while read -r line; do
            pid=${line#/proc/} pid=${pid%%/*}
            read -r name 2>/dev/null <"/proc/$pid/comm" || continue
            [[ $name == "$1" ]] || continue
            parent=$(awk "/^PPid:/ { print \$2 }" "/proc/$pid/status" 2>/dev/null) || continue
            read -r parent 2>/dev/null <"/proc/$parent/comm" || continue
            echo "${line##*=} $pid $parent"
        done' ranks "$JOB_PROGRAM"
}

# Where the processes of one rank are in the cluster: "node pid parent", one line each.
find_rank() {
    local node
    for node in "${NODES[@]}"; do
        ranks_on "$node" | awk -v node="$node" -v rank="$1" '$1 == rank { print node, $2, $3 }'
    done
}

rank_settled() {
    FOUND=$(find_rank "$1")
    [[ $FOUND =~ ^"$2 "[0-9]+" "(mpirun|orted)$ ]]
}

# expect_rank RANK NODE: exactly one process of the rank exists in the whole cluster; it is on this node, a child of
# the daemon there, and has the pid that the rank had when it was first looked for.
expect_rank() {
    local until=$((SECONDS + 10)) pid
    FOUND=""
    until rank_settled "$1" "$2"; do
        if (( SECONDS >= until )); then
            fail "rank $1 has to be on $2 as a child of the daemon; there is: ${FOUND:-nothing}"
        fi
        sleep 0.2           # between two looks
    done
    read -r _ pid _ <<<"$FOUND"
    : "${RANK_PID[$1]:=$pid}"
    [[ ${RANK_PID[$1]} == "$pid" ]] || fail "rank $1 had pid ${RANK_PID[$1]} and has $pid"
}

# place_ranks NP: PLACE as mpirun --map-by node deals the ranks out to the nodes of the hostfile.
place_ranks() {
    local rank hosts
    mapfile -t hosts < <(awk '{ print $1 }' "$HOSTFILE")
    PLACE=()
    for (( rank = 0; rank < $1; rank++ )); do
        PLACE[$rank]=${hosts[rank % ${#hosts[@]}]}
        expect_rank "$rank" "${PLACE[$rank]}"
    done
}

# ------------------------------------------------------------------------ moves

# migrate ARGUMENT...: ompi-migrate on n1; its output in $WORK/migrate.out and .err, its code in MIGRATE_CODE.
migrate() {
    MIGRATE_CODE=0
    on n1 "$OMPI_MIGRATE" "$@" >"$WORK/migrate.out" 2>"$WORK/migrate.err" </dev/null || MIGRATE_CODE=$?
    {
        printf '%s\n' "== ompi-migrate $*: $MIGRATE_CODE"
        cat "$WORK/migrate.out" "$WORK/migrate.err"
    } >>"$WORK/migrate.log"
}

# move RANK NODE: has to succeed; afterwards the rank is there and nowhere else.
move() {
    migrate --verbose --timeout 60 --ranks "$1" --onto "$2" "$JOB_PID"
    if [[ $MIGRATE_CODE != 0 ]]; then
        cat "$WORK/migrate.out" "$WORK/migrate.err" >&2
        fail "the move of rank $1 to $2 ended with $MIGRATE_CODE"
    fi
    expect_rank "$1" "$2"
    PLACE[$1]=$2
    say "rank $1 is on $2"
}

# other_node RANK: the node behind the one where ompi-migrate says that the rank is; RANK may be JOB.RANK.
other_node() {
    local i node
    migrate --list "$JOB_PID"
    node=$(sed -n "s/^rank $1 on \([^:]*\):.*/\1/p" "$WORK/migrate.out")
    for i in "${!NODES[@]}"; do
        [[ ${NODES[i]} != "$node" ]] || printf '%s\n' "${NODES[(i + 1) % ${#NODES[@]}]}"
    done
}

# move_on RANK: to its other_node.
move_on() {
    local node
    node=$(other_node "$1")
    [[ -n $node ]] || fail "ompi-migrate does not know where rank $1 is: $(<"$WORK/migrate.out")"
    migrate --verbose --timeout 90 --ranks "$1" --onto "$node" "$JOB_PID"
    [[ $MIGRATE_CODE == 0 ]] || fail "the move of rank $1 to $node ended with $MIGRATE_CODE: $(<"$WORK/migrate.err")"
    say "rank $1 is on $node"
}

# expect_refused EXIT CODE REGEX ARGUMENT...: the request is refused with this exit code, a message that matches and a
# remedy; with --json the same as one error event with this code (CODE may be a regex).
expect_refused() {
    local exit=$1 code=$2 text=$3
    shift 3
    migrate "$@"
    [[ $MIGRATE_CODE == "$exit" ]] || fail "ompi-migrate $* ended with $MIGRATE_CODE, not with $exit"
    grep -E -q -i -e "^ompi-migrate: .*($text)" "$WORK/migrate.err" ||
        fail "ompi-migrate $*: no message with /$text/ but: $(<"$WORK/migrate.err")"
    grep -E -q -e '^ +remedy: .+' "$WORK/migrate.err" || fail "ompi-migrate $*: no remedy: $(<"$WORK/migrate.err")"
    migrate --json "$@"
    [[ $MIGRATE_CODE == "$exit" ]] || fail "ompi-migrate --json $* ended with $MIGRATE_CODE, not with $exit"
    expect_last_event error "$code"
    say "refused as it should be: ompi-migrate $*"
}

# expect_rolled_back PHASE REGEX ARGUMENT...: the move fails in this phase with a message that matches, exit code 1.
expect_rolled_back() {
    local phase=$1 text=$2
    shift 2
    migrate "$@"
    [[ $MIGRATE_CODE == 1 ]] || fail "ompi-migrate $* ended with $MIGRATE_CODE, not with 1: $(<"$WORK/migrate.err")"
    grep -E -q -i -e "^ompi-migrate: .*($text)" "$WORK/migrate.err" ||
        fail "ompi-migrate $*: no message with /$text/ but: $(<"$WORK/migrate.err")"
    grep -E -q -e "phase: ($phase)" "$WORK/migrate.err" || fail "ompi-migrate $*: not in $phase: $(<"$WORK/migrate.err")"
    grep -E -q -e '^ +remedy: .+' "$WORK/migrate.err" || fail "ompi-migrate $*: no remedy: $(<"$WORK/migrate.err")"
    say "failed and rolled back as it should be: ompi-migrate $*"
}

# expect_last_event EVENT [CODE]: the last line of ompi-migrate --json.
expect_last_event() {
    # shellcheck disable=SC2016
    tail -n 1 "$WORK/migrate.out" | python3 -c '
import json, re, sys
event = json.loads(sys.stdin.readline())
if event.get("event") != sys.argv[1]:
    sys.exit("the last event is %r" % event)
if event["event"] == "error":
    for member in "code", "message", "remedy":
        if not event.get(member):
            sys.exit("an error without %s: %r" % (member, event))
    if not re.fullmatch(sys.argv[2], event["code"]):
        sys.exit("the code is %s, not %s" % (event["code"], sys.argv[2]))
' "$1" "${2:-.*}" || fail "ompi-migrate --json: wrong last event (see above)"
}

# ----------------------------------------------------------------------- Jacobi

JACOBI_SIZE=(--rows 240 --cols 200)

jacobi_result() {
    sed -n 's/^jacobi: result //p' "$JOB.out"
}

# jacobi_reference NP ITERATIONS: sets REFERENCE by a run on the stock mpirun, without LPM and without moves.
jacobi_reference() {
    local JOB_OPTIONS=()
    job_start "$1" jacobi "${JACOBI_SIZE[@]}" --iters "$2" --report 0
    job_end 0 120
    REFERENCE=$(jacobi_result)
    [[ $REFERENCE =~ ^[0-9a-f]{16}$ ]] || fail "the run without moves gave no result"
    say "$1 ranks, $2 iterations without moves: $REFERENCE"
}

# jacobi_start NP ITERATIONS [OPTION...]: a run that takes at least 60 ms per iteration until brake_off, so that it is not through before the test is.
jacobi_start() {
    local np=$1 iterations=$2
    shift 2
    brake_on
    job_start "$np" jacobi "${JACOBI_SIZE[@]}" --iters "$iterations" --report 5 --pace-us 60000 --brake "$BRAKE" "$@"
    job_await 0 '^jacobi: iteration .*ranks on:'
    place_ranks "$np"
}

# jacobi_move RANK NODE: moves, then waits until the solver itself has gone on and says that the rank is there.
jacobi_move() {
    local mark
    move "$1" "$2"
    mark=$(job_mark out)
    job_await "$mark" "^jacobi: iteration .*ranks on:.* $1@$2( |\$)"
}

# jacobi_end: the rest of the iterations; the result has to be the reference, bit by bit.
jacobi_end() {
    local result
    ! job_over || fail "the solver was through before the moves were: more iterations are needed"
    brake_off
    job_end 0 120
    result=$(jacobi_result)
    [[ $result == "$REFERENCE" ]] || fail "result $result after the moves, $REFERENCE without"
    say "the same result after the moves: $result"
}

# ------------------------------------------------------------- start and ending

# Ends what is left of a failed test on a node: processes there are the nodes' own, not the machine's.
stop_leftovers() {
    # shellcheck disable=SC2016
    on "$1" bash -c 'for name; do pkill -KILL -x "$name"; done; :' \
        stop mpirun orted common_block jacobi allpairs computing late memory onesided ports spawn storm view criu lpm-helper lpm-holder \
        </dev/null >>"$WORK/leftovers.log" 2>&1 || say "could not clean up on $1"
}

on_exit() {
    local code=$? node file
    trap - EXIT
    set +e
    brake_off
    if (( code != 0 && code != 77 )); then
        for file in "$JOB.out" "$JOB.err" "$WORK/migrate.log"; do
            [[ ! -s $file ]] || { echo "--- end of $file"; tail -n 15 "$file"; } >&2
        done
        for node in "${NODES[@]}"; do
            stop_leftovers "$node"
        done
    fi
    [[ -z $JOB_EXEC ]] || wait "$JOB_EXEC"
    exit "$code"
}

rm -rf -- "${WORK:?}"
mkdir -p "$WORK"
mapfile -t NODES < <(all_nodes)
(( ${#NODES[@]} > 0 )) || fail "cluster $LPM_CLUSTER is not up"
"$LPM_TOP/tests/cluster/cluster" --name "$LPM_CLUSTER" hostfile >"$HOSTFILE"
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
