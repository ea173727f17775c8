#!/bin/bash
# How long ranks stand still when one of their job moves: the mover, those that talk with it, all others.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
#
# To be started by bench/run. Rank 2 moves between two nodes. Every move is followed by a time just as long in which a
# process sleeps on the node where ompi-migrate ran: what is left is the difference that the move makes.

# shellcheck source=bench/lib.sh
source "${LPM_TOP:?}/bench/lib.sh"

MOVER=2
RANKS=9         # by node: 0 3 6 on n1, 1 4 7 on n2, 2 5 8 on n3
declare -A CHANNELS=(
    # two peers that talk with the mover and one more rank each, and uninvolved pairs: between nodes, or within
    [tcp]="0-1 1-2 2-3 3-7 4-5 6-8"
    [vader]="0-1 1-2 2-3 3-6 4-7 5-8"
)

all_ready() {
    [[ $(grep -c '^stall: ready' "$JOB.out") == "$RANKS" ]]
}

# windows BTL: moves to and fro, each with a quiet time.
windows() {
    local i btl=$1
    for (( i = 1; i <= COUNT; i++ )); do
        timed move bench_move "$MOVER" "$( (( i % 2 )) && echo n2 || echo n3)" || return 1
        tail -n 1 "$WORK/migrate.out" >>"$WORK/moves.$btl"
        on n1 sleep 0.5         # what follows a move belongs to neither
        timed quiet on n1 sleep "$(awk -v a="$BEGIN" -v b="$END" 'BEGIN { print b - a }')"
    done
}

stall() {
    local channel arguments=()
    for channel in ${CHANNELS[$1]}; do
        arguments+=(--channel "$channel")
    done
    JOB_OPTIONS=("${LPM_ON[@]}" --mca btl "$(btl_list "$1")" --mca mpi_yield_when_idle 1)
    LAYOUT=(--host "n1:4,n2:4,n3:4" --map-by node)
    : >"$WORK/moves.$1"
    brake_on
    bench_start "$RANKS" stall "${arguments[@]}" --brake "$BRAKE" --out "$WORK/gaps.$1"
    bench_pid
    wait_for 60 "all ranks" all_ready
    say "$1: $COUNT moves"
    WINDOWS=$WORK/windows.$1
    : >"$WINDOWS"
    if ! windows "$1"; then
        not_measured "stall, $1"
        return 0
    fi
    brake_off
    bench_wait
    figures stall "$1" "$MOVER" "$WORK/gaps.$1" "$WINDOWS" "$WORK/moves.$1"
}

parse "$@"
(( ${#OPTIONS[@]} == 0 )) || usage_error "stall does not know ${OPTIONS[*]}"
COUNT=$(repeats 20 2)
for btl in "${BTLS[@]}"; do
    stall "$btl"
done
finish
