#!/bin/bash
# A job that never moves costs what it costs without LPM; after moves, what it costs when started like that.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
#
# Options: --after-moves. To be started by bench/run.
#
# Each repeat is a launch of each side, one right after the other, in an order that changes from repeat to repeat; the
# ratios are taken within a repeat. One side is the baseline a second time: its ratio is what the machine's noise alone
# makes.

# shellcheck source=bench/lib.sh
source "${LPM_TOP:?}/bench/lib.sh"

ORDERS=("subject base again" "base again subject" "again subject base"
        "base subject again" "subject again base" "again base subject")

# batches BTL KIND: options of pingpong, so that a batch is shorter than a time slice of the scheduler.
batches() {
    case $1.$2 in
        tcp.pair) echo --rounds "$ROUNDS" --seconds 6 --iterations 50 --windows 1 ;;
        vader.pair) echo --rounds "$ROUNDS" --seconds 6 --iterations 1000 --windows 8 ;;
        tcp.all) echo --rounds "$ROUNDS" --seconds 6 --iterations 20 --collective ;;
        vader.all) echo --rounds "$ROUNDS" --seconds 6 --iterations 50 --collective ;;
    esac
}

keep() {
    mv "$JOB.out" "$WORK/$1.out"
}

# measure BTL KIND SIDE REPEAT: one launch.
measure() {
    local btl=$1 kind=$2 side=$3 np=2
    local -a options
    LAYOUT=(--host "n1:4,n2:4" --map-by "$([[ $btl == vader ]] && echo slot || echo node)")
    JOB_OPTIONS=(--mca btl "$(btl_list "$btl")")
    [[ $side != subject ]] || JOB_OPTIONS+=("${LPM_ON[@]}")
    if [[ $kind == all ]]; then
        np=4
        JOB_OPTIONS+=(--mca mpi_yield_when_idle 1)      # more ranks than CPUs
    fi
    read -r -a options <<<"$(batches "$btl" "$kind")"
    bench_start "$np" pingpong "${options[@]}"
    bench_wait
    keep "$btl.$kind.$side.$4"
}

# layout_moved BTL SIDE: the subject's rank 1 starts elsewhere. All three nodes get a daemon on every side.
layout_moved() {
    local order="n1:4,n2:4,n3:4" by=node
    if [[ $1 == tcp && $2 == subject ]]; then
        order="n1:4,n3:4,n2:4"
    elif [[ $1 == vader && $2 != subject ]]; then
        by=slot
    fi
    LAYOUT=(--host "$order" --map-by "$by")
}

# measure_moved BTL KIND SIDE REPEAT: one launch under LPM; rank 1 of the subject moves to where the others' starts. 1
# when it cannot be moved.
measure_moved() {
    local side=$3 end=n2
    local -a options
    [[ $1 == tcp ]] || end=n1
    layout_moved "$1" "$side"
    JOB_OPTIONS=(--mca btl "$(btl_list "$1")" "${LPM_ON[@]}")
    brake_on
    read -r -a options <<<"$(batches "$1" "$2")"
    bench_start 2 pingpong "${options[@]}" --brake "$BRAKE"
    bench_pid
    job_await 0 '^pingpong: ready'
    [[ $side != subject ]] || bench_move 1 "$end" || return 1
    brake_off
    bench_wait
    job_said 0 "^pingpong: measuring, ranks on: 0@n1 1@$end" || fail "the ranks are not where they should be"
    keep "$1.$2.$side.$4"
}

# compare COMMAND BTL KIND: all repeats, and their figures.
compare() {
    local repeat side
    for (( repeat = 1; repeat <= COUNT; repeat++ )); do
        say "$2, $3: repeat $repeat of $COUNT"
        for side in ${ORDERS[repeat % ${#ORDERS[@]}]}; do
            if ! "$1" "$2" "$3" "$side" "$repeat"; then
                not_measured "$NAME, $2"
                return 0
            fi
        done
    done
    figures steady "$WORK" "$2" "$3" "$NAME" "$BASELINE"
}

parse "$@"
NAME=steady BASELINE="stock mpirun" AFTER_MOVES=""
for option in ${OPTIONS[@]+"${OPTIONS[@]}"}; do
    case $option in
        --after-moves) AFTER_MOVES=1 NAME=steady-after-moves BASELINE="started there" ;;
        *) usage_error "steady does not know $option" ;;
    esac
done
COUNT=$(repeats 18 2)
ROUNDS=$([[ -n $QUICK ]] && echo 20 || echo 100)
for btl in "${BTLS[@]}"; do
    if [[ -n $AFTER_MOVES ]]; then
        compare measure_moved "$btl" pair
    else
        compare measure "$btl" pair
        compare measure "$btl" all
    fi
done
finish
