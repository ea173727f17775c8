#!/bin/bash
# How long a rank with much memory stands still when it moves, and a process without MPI that stock criu moves.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
#
# Options: --sizes LIST, --pages LIST, --use LIST. To be started by bench/run. The rank moves to and fro. Stock criu
# gets a new process for each move: lazily restored, it would have no huge pages left.

# shellcheck source=bench/pages.sh
source "${LPM_TOP:?}/bench/pages.sh"

CRIU=$(<"${LPM_DEPS:-$LPM_TOP/.deps}/criu-program")
IMAGES=/dev/shm/lpm-bench       # a directory of each node's own
FIRST_PID=3000000               # of no process of any node

# stock_start USE HOW: a process on n2 whose pid is free on n3.
stock_start() {
    STOCK_OUT=$NAME.$2.out
    : >"$STOCK_OUT"
    # shellcheck disable=SC2016
    on n2 bash -c 'echo "$1" >/proc/sys/kernel/ns_last_pid; out=$2; shift 2; setsid "$@" </dev/null >"$out" 2>&1 &' \
        start "$FIRST_PID" "$STOCK_OUT" "$PROGRAMS/alone" "${MEMORY[@]}" --use "$1" --brake "$BRAKE" --out "$NAME.$2"
    wait_for 60 "the process" grep -q '^memory: ready' "$STOCK_OUT"
    STOCK_PID=$(sed -n 's/^memory: ready //p' "$STOCK_OUT")
}

# stock_move HOW: from n2 to n3, until all memory is there.
stock_move() {
    local rc=0 target
    : >"$WORK/target.out"
    on n3 python3 "$LPM_TOP/bench/stock_criu.py" target "$1" "$CRIU" "$IMAGES" </dev/null >"$WORK/target.out" &
    target=$!
    wait_for 10 "the target of criu" grep -q ' ready ' "$WORK/target.out"
    timed "$1" on n2 timeout 120 python3 "$LPM_TOP/bench/stock_criu.py" source "$1" "$CRIU" "$IMAGES" "$STOCK_PID" n3 \
        "$PROGRAMS/small_pipes.so" </dev/null || rc=1
    wait "$target" || rc=1
    return "$rc"
}

# stock USE HOW: COUNT times.
stock() {
    local i rc=0
    say "$WHAT: $COUNT moves of stock criu, $2"
    for (( i = 1; i <= COUNT && rc == 0; i++ )); do
        brake_on
        stock_start "$1" "$2"
        stock_move "$2" || rc=1
        brake_off
        (( rc != 0 )) || wait_for 20 "the end of the process" grep -q '^memory: over' "$STOCK_OUT"
        on n2 rm -rf "$IMAGES"
        on n3 rm -rf "$IMAGES"
    done
    if (( rc != 0 )); then
        INCOMPLETE=$((INCOMPLETE + 1))
        say "NOT MEASURED: stock criu, $2, $WHAT"
    fi
}

parse_pages "$@"
for node in n2 n3; do
    on "$node" "$CRIU" check </dev/null >&2 || :        # the kernel is probed before, as LPM does it
done
for mib in "${SIZES[@]}"; do
    for pages in "${PAGES[@]}"; do
        for use in "${USES[@]}"; do
            memory_is "$mib" "$pages" "$use"
            memory_moves "$use" || continue
            for how in lazy eager server; do
                stock "$use" "$how"
            done
            figures blackout "$NAME"
        done
    done
done
figures growth "$FIGURES"
finish
