#!/bin/bash
# What a move has to empty, and how long that takes, under load; what a third party feels while sends are pending.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
#
# Options: --pending N. To be started by bench/run. Rank 2 of bench/load moves away and back; for vader it starts on the
# node of those that talk with it, and only the moves away empty channels of vader.

# shellcheck source=bench/lib.sh
source "${LPM_TOP:?}/bench/lib.sh"

MOVER=2
PENDING=100000
HELD_MIB=300            # memory of the mover where the hold is to last

# load_start BTL LOAD ARGUMENT...: four ranks; HOME_NODE and AWAY_NODE are between which the mover goes.
load_start() {
    local btl=$1 load=$2
    shift 2
    JOB_OPTIONS=("${LPM_ON[@]}" --mca btl "$(btl_list "$btl")" --mca mpi_yield_when_idle 1)
    LAYOUT=(--host "n1:4,n2:4,n3:4" --map-by node)
    HOME_NODE=n3 AWAY_NODE=n2
    if [[ $btl == vader ]]; then
        LAYOUT=(--host "n1:4,n2:4,n3:4" --map-by slot)
        HOME_NODE=n1
    fi
    brake_on
    bench_start 4 load --load "$load" --brake "$BRAKE" "$@"
    bench_pid
    job_await 0 '^load: running'
}

# moves BTL LOAD: away and back, COUNT times; answers of moves that empty channels of this kind go to a file.
moves() {
    local i file=$WORK/moves.$1.$2
    : >"$file"
    for (( i = 1; i <= COUNT; i++ )); do
        bench_move "$MOVER" "$AWAY_NODE" || return 1
        tail -n 1 "$WORK/migrate.out" >>"$file"
        bench_move "$MOVER" "$HOME_NODE" || return 1
        [[ $1 == vader ]] || tail -n 1 "$WORK/migrate.out" >>"$file"
    done
}

# drain BTL LOAD: 1 when the rank cannot be moved.
drain() {
    say "$1, $2: $COUNT times away and back"
    load_start "$1" "$2" --pending "$PENDING"
    if ! moves "$1" "$2"; then
        not_measured "drain, $1, $2"
        return 1
    fi
    brake_off
    bench_wait
}

# third BTL: round trips of a third party while the mover is away, with and without sends to it.
third() {
    local i pending file=$WORK/third.$1
    : >"$file"
    for (( i = 1; i <= COUNT; i++ )); do
        for pending in 0 "$PENDING"; do
            say "$1, a third party with $pending sends pending: $i of $COUNT"
            load_start "$1" held --pending "$pending" --mib "$HELD_MIB"
            if ! bench_move "$MOVER" "$AWAY_NODE"; then
                not_measured "third party, $1"
                return 0
            fi
            brake_off
            bench_wait
            cat "$JOB.out" >>"$file"
        done
    done
    figures third "$1" "$PENDING" "$file"
}

parse "$@"
set -- ${OPTIONS[@]+"${OPTIONS[@]}"}
while (( $# )); do
    case $1 in
        --pending) PENDING=$(number --pending "${2-}"); shift ;;
        *) usage_error "drain does not know $1" ;;
    esac
    shift
done
COUNT=$(repeats 5 1)
for btl in "${BTLS[@]}"; do
    files=()
    for load in idle flood large burst pending; do
        drain "$btl" "$load" || break
        files+=("$WORK/moves.$btl.$load")
    done
    if (( ${#files[@]} )); then
        figures drain "$btl" "${files[@]}"
        third "$btl"
    fi
done
finish
