# What the measurements have in common: options, jobs, figures. Nodes, waiting and moves are those of the tests.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
# shellcheck shell=bash
#
# To be sourced by a script that bench/run has started. Figures go through `figures` to stdout, everything else to
# stderr.

# shellcheck source=tests/mpi/lib.sh
source "${LPM_TOP:?}/tests/mpi/lib.sh"

TEST=bench                          # as what the messages of the tests' functions come
PROGRAMS=$LPM_BUILD/bench
OMPI_MIGRATE=$(type -P ompi-migrate) || OMPI_MIGRATE=$LPM_BUILD/tools/ompi-migrate
FIGURES=$LPM_RESULTS/figures.json   # all that was printed
JOB_LIMIT=300                       # seconds that any job may take
QUICK=""
TABLE=""
REPEATS=""
BTLS=(tcp vader)
OPTIONS=()                          # those that are not for all measurements
INCOMPLETE=0                        # what could not be measured
LAYOUT=()                           # options of mpirun: where the ranks start

say() {
    printf '%s: %s\n' "$TEST" "$*" >&2
}

usage_error() {
    say "$*; see bench/run --help"
    exit 2
}

# parse ARGUMENT...: the options that all measurements have; what is left is in OPTIONS.
parse() {
    local btl
    while (( $# )); do
        case $1 in
            --quick) QUICK=1 ;;
            --table) TABLE=1 ;;
            --repeats) REPEATS=${2-}; shift ;;
            --btl) IFS=, read -r -a BTLS <<<"${2-}"; shift ;;
            *) OPTIONS+=("$1") ;;
        esac
        shift || usage_error "an option lacks its value"
    done
    [[ -z $REPEATS || $REPEATS =~ ^[1-9][0-9]{0,3}$ ]] || usage_error "--repeats needs a number"
    for btl in ${BTLS[@]+"${BTLS[@]}"}; do
        [[ $btl == tcp || $btl == vader ]] || usage_error "--btl knows tcp and vader"
    done
}

# number OPTION VALUE: the value, if it is one.
number() {
    [[ $2 =~ ^[0-9]{1,9}$ ]] || usage_error "$1 needs a number"
    printf '%s\n' "$2"
}

# repeats NORMAL QUICK: how often to measure.
repeats() {
    printf '%s\n' "${REPEATS:-$([[ -n $QUICK ]] && echo "$2" || echo "$1")}"
}

# The MCA parameter btl that lets ranks of one node talk by vader, or nobody.
btl_list() {
    [[ $1 == vader ]] && echo self,vader,tcp || echo self,tcp
}

# ------------------------------------------------------------------------- jobs

# bench_start NP PROGRAM ARGUMENT...: in the background. Without the options of the tests that cost time (yielding), and
# without a look at the nodes afterwards.
bench_start() {
    local np=$1
    JOB_PROGRAM=$2
    shift 2
    JOB_COUNT=$((JOB_COUNT + 1))
    JOB=$WORK/job$JOB_COUNT
    : >"$JOB.out"
    : >"$JOB.err"
    # shellcheck disable=SC2016
    timeout --kill-after=15 "$JOB_LIMIT" "$LPM_TOP/tests/cluster/cluster" --name "$LPM_CLUSTER" \
        exec n1 bash -c 'ulimit -c 0; cd "$1"; echo $$ >"$2.new"; mv "$2.new" "$2"; shift 2; exec "$@"' \
        job "$WORK" "$JOB.pid" mpirun --allow-run-as-root --bind-to none "${LAYOUT[@]}" \
        --mca oob_tcp_if_include eth0 --mca btl_tcp_if_include eth0 ${JOB_OPTIONS[@]+"${JOB_OPTIONS[@]}"} \
        -np "$np" "$PROGRAMS/$JOB_PROGRAM" "$@" </dev/null >"$JOB.out" 2>"$JOB.err" &
    JOB_EXEC=$!
}

# bench_pid: waits until mpirun's pid is known.
bench_pid() {
    wait_for 20 "the pid of mpirun" test -s "$JOB.pid"
    JOB_PID=$(<"$JOB.pid")
}

# bench_wait: nothing runs meanwhile that could disturb the job.
bench_wait() {
    JOB_CODE=0
    wait "$JOB_EXEC" || JOB_CODE=$?
    JOB_EXEC=""
    expect_no_defect
    [[ $JOB_CODE == 0 ]] || fail "mpirun ended with $JOB_CODE: $(tail -n 5 "$JOB.err")"
}

# bench_abandon: ends the job of which a rank could not be moved.
bench_abandon() {
    kill -TERM "$JOB_EXEC" 2>/dev/null || :
    wait "$JOB_EXEC" || :
    JOB_EXEC=""
}

# bench_move RANK NODE: moves, and leaves the answer in migrate.out; fails without a word when the rank does not move.
bench_move() {
    migrate --json --timeout 60 --ranks "$1" --onto "$2" "$JOB_PID"
    [[ $MIGRATE_CODE == 0 ]]
}

# timed NAME COMMAND...: runs it, and notes begin and end in the file WINDOWS.
timed() {
    local name=$1 rc=0
    shift
    BEGIN=$EPOCHREALTIME
    "$@" || rc=$?
    END=$EPOCHREALTIME
    (( rc != 0 )) || printf '%s %s %s\n' "$name" "$BEGIN" "$END" >>"$WINDOWS"
    return "$rc"
}

# not_measured WHAT: what is there to do when a rank could not be moved. The exit code will tell.
not_measured() {
    bench_abandon
    INCOMPLETE=$((INCOMPLETE + 1))
    say "NOT MEASURED: $*: $(tail -n 1 "$WORK/migrate.out")"
}

# ---------------------------------------------------------------------- figures

# figures COMMAND ARGUMENT...: of figures.py, whose JSON is kept and printed.
figures() {
    python3 "$LPM_TOP/bench/figures.py" "$@" | tee -a "$FIGURES" >"$WORK/figures.new"
    [[ -n $TABLE ]] || cat "$WORK/figures.new"
}

# The end of every measurement.
finish() {
    touch "$FIGURES"
    if [[ -n $TABLE ]]; then
        python3 "$LPM_TOP/bench/figures.py" table "$FIGURES"
    else
        python3 "$LPM_TOP/bench/figures.py" table "$FIGURES" >&2
    fi
    (( INCOMPLETE == 0 )) || say "$INCOMPLETE measurements are missing, see above"
    exit $((INCOMPLETE > 0))
}
