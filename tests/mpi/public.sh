#!/bin/bash
# Moves during runs of public programs, which do not know of the test: no brake, no report of where a rank is.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
#
# To be sourced after lib.sh. Such a program decides by itself when it ends; the moves go on until then.
# shellcheck disable=SC2004,SC2034,SC2153  # the variables in capitals are those of lib.sh

MOVES=0                             # how many moves the last run had
declare -A MOVED=()                 # how many of them each rank had

# public_need FILE...: programs and files of distribution packages that the test runs.
public_need() {
    local file
    for file in "$@"; do
        [[ -e $file ]] || fail "$file is not there: scripts/setup installs it"
    done
}

# public_start NP PROGRAM ARGUMENT...: starts a program that is not ours; PROGRAM is its path.
public_start() {
    local np=$1 program=$2 PROGRAMS
    shift 2
    PROGRAMS=${program%/*}
    job_start "$np" "${program##*/}" "$@"
}

# public_reference NP PROGRAM ARGUMENT...: a whole run on the stock mpirun, without LPM and without moves.
public_reference() {
    local JOB_OPTIONS=()
    public_start "$@"
    job_end 0 300
}

public_settled_or_over() {
    job_over || rank_settled "$1" "$2"
}

# Whether the last request was turned down as the job ends; whether it ends well is seen by its exit code then. All
# but the first code are those of the tool for an mpirun that is going or has gone: not-enabled is said, too, when its
# socket is gone already.
public_job_ends() {
    tail -n 1 "$WORK/migrate.out" |
        grep -E -q '"code":"(ending|lost|not-listening|not-enabled|no-session|no-such-process)"'
}

# public_try RANK NODE: 0: moved, and the rank is there alone with its old pid. 1: no more moves, the job ends. Else
# the test fails. Ranks that are still in MPI_Init are waited for.
public_try() {
    local rank=$1 node=$2 until=$((SECONDS + 60)) pid
    while true; do
        ! job_over || return 1
        migrate --json --timeout 100 --ranks "$rank" --onto "$node" "$JOB_PID"
        [[ $MIGRATE_CODE != 0 ]] || break
        ! public_job_ends || return 1
        if ! tail -n 1 "$WORK/migrate.out" | grep -q '"code":"not-ready"' || (( SECONDS >= until )); then
            cat "$WORK/migrate.out" "$WORK/migrate.err" >&2
            fail "the move of rank $rank from ${PLACE[$rank]} to $node ended with $MIGRATE_CODE, after $MOVES moves"
        fi
    done
    MOVES=$((MOVES + 1))
    MOVED[$rank]=$((${MOVED[$rank]:-0} + 1))
    FOUND=""
    wait_for 30 "rank $rank on $node alone, a child of the daemon (its pid was ${RANK_PID[$rank]})" \
        public_settled_or_over "$rank" "$node"
    if [[ $FOUND =~ ^"$node "[0-9]+" " ]]; then
        read -r _ pid _ <<<"$FOUND"
        [[ $pid == "${RANK_PID[$rank]}" ]] || fail "rank $rank had pid ${RANK_PID[$rank]} and has $pid"
    fi
    PLACE[$rank]=$node
}

# Sets NODE to one of the nodes where the rank is not.
public_other_node() {
    local node others=()
    for node in "${NODES[@]}"; do
        [[ $node == "${PLACE[$1]}" ]] || others+=("$node")
    done
    NODE=${others[RANDOM % ${#others[@]}]}
}

public_next_second_or_over() {
    (( SECONDS > $1 )) || job_over
}

# public_moves NP AT_LEAST: moves ranks of the job that was started, one after the other until the job ends: in each
# round all of them, in a random order, each to a random other node. The first moves follow each other at once, so that
# enough fall into the run on a fast machine; later there is one per second, or the program would hardly get on with its
# work on a slow one. Then the job has to end well.
public_moves() {
    local np=$1 least=$2 rank order list="" begun until=$((SECONDS + 300))
    MOVES=0
    MOVED=()
    place_ranks "$np"
    while true; do
        order=$(shuf -i "0-$((np - 1))")
        for rank in $order; do
            public_other_node "$rank"
            begun=$SECONDS
            (( begun < until )) || fail "$JOB_PROGRAM has not ended after 300 s and $MOVES moves"
            public_try "$rank" "$NODE" || break 2
            (( MOVES < 2 * least )) || wait_for 10 "the next second" public_next_second_or_over "$begun"
        done
    done
    job_end 0 300
    for (( rank = 0; rank < np; rank++ )); do
        list+=" rank $rank ${MOVED[$rank]:-0},"
    done
    say "$JOB_PROGRAM: $MOVES moves (${list# } no failure)"
    (( MOVES >= least )) ||
        fail "only $MOVES moves fell into the run of $JOB_PROGRAM, not $least: it has to last longer"
}

# public_same WHAT REFERENCE RESULT: two files with results are equal, and not empty.
public_same() {
    [[ -s $2 ]] || fail "$1: no results in the run without moves"
    if ! diff "$2" "$3" >"$WORK/difference"; then
        head -n 40 "$WORK/difference" >&2
        fail "$1: the run with moves (>) gave other results than the run without (<)"
    fi
}
