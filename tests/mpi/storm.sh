#!/bin/bash
# What storm.test and bench/soak have in common: many moves of random ranks in the midst of a storm.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
#
# To be sourced after lib.sh. The moves follow from the seed: the same one makes the same moves of the same storm.
# LPM_STORM_OPTIONS: further options of the program, such as --except KIND. LPM_STORM_OSC: mpirun's --mca osc.
# After each move ompi-migrate has said that it was made; where the processes are is looked at after a batch of them.

STORM_REPORT='^storm: round [0-9]+ kind .*ranks on:'
STORM_STALL=${LPM_STORM_STALL:-120}     # seconds without the end of a round
STORM_LINE=$((STORM_STALL + 30))        # seconds to wait for a report line: the program has its say first
# shellcheck disable=SC2034     # for those who source this
STORM_OSC=${LPM_STORM_OSC:-^sm,ucx}     # windows of shared memory cannot move
read -r -a STORM_OPTIONS <<<"${LPM_STORM_OPTIONS-}"
STORM_BATCH=25                          # so many moves between two looks at all ranks
STORM_MADE=0                            # moves made
STORM_LEFT=()                           # ranks found that are not where they should be

# storm_start RANKS SEED [OPTION...]: the storm goes on until brake_off.
storm_start() {
    local ranks=$1 seed=$2
    shift 2
    brake_on
    RANDOM=$((seed % 32768))
    say "$ranks ranks on ${#NODES[@]} nodes, seed $seed"
    job_start "$ranks" storm --seconds 0 --report 20 --stall-seconds "$STORM_STALL" --seed "$seed" --brake "$BRAKE" \
        "$@" ${STORM_OPTIONS[@]+"${STORM_OPTIONS[@]}"}
    job_await 0 "$STORM_REPORT" out 60
    place_ranks "$ranks"
}

# Every rank is where it was moved to, once, as a child of the daemon there, with the pid it had.
ranks_in_place() {
    local node rank pid parent
    local -A seen=()
    STORM_LEFT=()
    for node in "${NODES[@]}"; do
        while read -r rank pid parent; do
            seen[$rank]+=x
            [[ ${PLACE[$rank]-} == "$node" && ${RANK_PID[$rank]-} == "$pid" && $parent =~ ^(mpirun|orted)$ &&
                ${seen[$rank]} == x ]] || STORM_LEFT+=("$rank on $node: $pid of $parent")
        done < <(ranks_on "$node")
    done
    for rank in "${!PLACE[@]}"; do
        [[ -n ${seen[$rank]-} ]] || STORM_LEFT+=("$rank is nowhere")
    done
    (( ${#STORM_LEFT[@]} == 0 ))
}

# All ranks are in place, for the system as for the program, and the traffic goes on.
storm_check() {
    local until=$((SECONDS + 10)) mark rank places=""
    until ranks_in_place; do
        (( SECONDS < until )) || fail "after $STORM_MADE moves: $(printf '%s; ' "${STORM_LEFT[@]}")"
        sleep 0.2       # between two looks
    done
    for (( rank = 0; rank < ${#PLACE[@]}; rank++ )); do
        places+=" $rank@${PLACE[$rank]}"
    done
    mark=$(job_mark out)
    job_await "$mark" "$STORM_REPORT$places\$" out "$STORM_LINE"
}

# A move that fails ends the test with all there is to know about it.
storm_move() {
    migrate --verbose --timeout 90 --ranks "$1" --onto "$2" "$JOB_PID"
    if [[ $MIGRATE_CODE != 0 ]]; then
        cat "$WORK/migrate.out" "$WORK/migrate.err" >&2
        tail -n 1 "$JOB.out" >&2
        fail "move $((STORM_MADE + 1)), of rank $1 from ${PLACE[$1]} to $2, ended with $MIGRATE_CODE"
    fi
    PLACE[$1]=$2
    STORM_MADE=$((STORM_MADE + 1))
    ! job_over || fail "the job ended after move $STORM_MADE, of rank $1 to $2"
}

# random_move: a rank and a node where it is not, in STORM_RANK and STORM_NODE. No subshell: that would have a RANDOM of its own.
random_move() {
    STORM_RANK=$((RANDOM % ${#PLACE[@]}))
    STORM_NODE=${PLACE[$STORM_RANK]}
    while [[ $STORM_NODE == "${PLACE[$STORM_RANK]}" ]]; do
        STORM_NODE=${NODES[RANDOM % ${#NODES[@]}]}
    done
}

# storm_moves COUNT EACH: a progress line after EACH moves.
storm_moves() {
    local begin=$SECONDS
    while (( STORM_MADE < $1 )); do
        random_move
        storm_move "$STORM_RANK" "$STORM_NODE"
        (( STORM_MADE % STORM_BATCH )) || storm_check
        (( STORM_MADE % $2 )) || say "$STORM_MADE moves in $((SECONDS - begin)) s; $(tail -n 1 "$JOB.out")"
    done
    storm_check
}

# storm_end: the job ends well, and every kind of traffic and every size has been used.
storm_end() {
    local words word
    brake_off
    job_end 0 180
    job_expect '^storm: ok rounds=[0-9]+ messages=[0-9]+ bytes=[0-9]+ kinds=[0-9]+ lost=0 doubled=0 reordered=0 corrupted=0$'
    read -r -d '' -a words < <(sed -n 's/^storm: \(kinds\|sizes\) //p' "$JOB.out") || :
    for word in "${words[@]}"; do
        [[ ${word##*:} != 0 ]] || fail "nothing was sent of ${word%:*}"
    done
    say "$(sed -n 's/^storm: ok //p' "$JOB.out")"
}
