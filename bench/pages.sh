# What the measurements of memory that moves have in common: which memory, the rank that has it, its moves.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
# shellcheck shell=bash disable=SC2034 # used by those who source this
#
# To be sourced by a script that bench/run has started. Rank 1 of bench/memory moves to and fro between n2 and n3; rank
# 0 answers it from n1.

# shellcheck source=bench/lib.sh
source "${LPM_TOP:?}/bench/lib.sh"

MOVER=1
SIZES=()                # MiB
PAGES=(4k thp)
USES=(idle random write)

# list OPTION VALUE KNOWN: sets LIST; KNOWN is a regex that each entry has to match.
list() {
    local entry
    IFS=, read -r -a LIST <<<"$2"
    (( ${#LIST[@]} > 0 )) || usage_error "$1 needs a list"
    for entry in "${LIST[@]}"; do
        [[ $entry =~ ^($3)$ ]] || usage_error "$1 does not know $entry"
    done
}

# parse_pages ARGUMENT...: sets what to measure, and COUNT.
parse_pages() {
    parse "$@"
    set -- ${OPTIONS[@]+"${OPTIONS[@]}"}
    while (( $# )); do
        case $1 in
            --sizes) list "$1" "${2-}" '[1-9][0-9]{0,4}'; SIZES=("${LIST[@]}"); shift ;;
            --pages) list "$1" "${2-}" '4k|thp'; PAGES=("${LIST[@]}"); shift ;;
            --use) list "$1" "${2-}" 'idle|random|write'; USES=("${LIST[@]}"); shift ;;
            *) usage_error "$TEST does not know $1" ;;
        esac
        shift
    done
    if (( ${#SIZES[@]} == 0 )); then
        SIZES=(16 256)
        [[ -n $QUICK ]] || SIZES+=(1024 4096)
    fi
    COUNT=$(repeats 5 2)
}

# memory_is MIB PAGES USE: what is measured next; its files begin with $NAME.
memory_is() {
    MEMORY=(--mib "$1")
    [[ $2 != thp ]] || MEMORY+=(--huge)
    NAME=$WORK/$1.$2.$3
    WHAT="$1 MiB, $2 pages, $3"
    WINDOWS=$NAME.windows
    : >"$WINDOWS"
}

# memory_moves USE OPTION...: a job whose mover notes its gaps, and COUNT moves of it; their answers go to a file. 1
# when the rank could not be moved.
memory_moves() {
    local i use=$1
    shift
    # shellcheck disable=SC2054
    JOB_OPTIONS=("${LPM_ON[@]}" --mca btl self,tcp --mca mpi_yield_when_idle 1)
    LAYOUT=(--host "n1:1,n2:1,n3:1" --map-by node)
    brake_on
    : >"$NAME.moves"
    bench_start 2 memory "${MEMORY[@]}" --use "$use" --brake "$BRAKE" --out "$NAME.lpm" "$@"
    bench_pid
    job_await 0 '^memory: ready' out 60
    say "$WHAT: $COUNT moves"
    for (( i = 1; i <= COUNT; i++ )); do
        if ! timed lpm bench_move "$MOVER" "$( (( i % 2 )) && echo n3 || echo n2)"; then
            not_measured "$TEST, $WHAT"
            return 1
        fi
        tail -n 1 "$WORK/migrate.out" >>"$NAME.moves"
        on n1 sleep 0.5         # a gap that ends behind the answer is this move's, not the next one's
    done
    brake_off
    bench_wait
}

# pump HOW OPTION...: what HOW prints, COUNT times, of a connection between the nodes between which the rank moves.
pump() {
    local i how=$1 server
    shift
    : >"$WORK/serve.out"
    on n2 "$PROGRAMS/pump" serve --times "$COUNT" "${MEMORY[@]}" </dev/null >"$WORK/serve.out" &
    server=$!
    wait_for 60 "the pump" grep -q '^pump: ready' "$WORK/serve.out"
    say "a $how of bench/pump, ${MEMORY[*]}: $COUNT times"
    for (( i = 1; i <= COUNT; i++ )); do
        on n3 "$PROGRAMS/pump" "$how" --host n2 "${MEMORY[@]}" "$@" </dev/null
    done
    wait "$server"
}
