# What the scripts here have in common; to be sourced by bash.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
# shellcheck shell=bash disable=SC2034

set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
umask 022

LPM_TOP=$(dirname "$(dirname "$(readlink -f -- "${BASH_SOURCE[0]}")")")
LPM_DEPS=$(readlink -m -- "${LPM_DEPS:-$LPM_TOP/.deps}")
LPM_BUILD=$(readlink -m -- "${LPM_BUILD:-$LPM_TOP/build}")
export LPM_TOP LPM_DEPS LPM_BUILD
PROGRAM=${0##*/}

say() {
    printf '%s: %s\n' "$PROGRAM" "$*"
}

die() {
    printf '%s: %s\n' "$PROGRAM" "$*" >&2
    exit 1
}

need_root() {
    (( EUID == 0 )) || die "this needs root"
}

# start_log FILE: begins the log that logged() appends to.
start_log() {
    mkdir -p "$(dirname "$1")"
    LOG=$1
    : >"$LOG"
}

# logged COMMAND...: runs it quietly; shows the log's end when it fails.
logged() {
    local rc=0
    printf '\n+ %s\n' "$*" >>"$LOG"
    "$@" >>"$LOG" 2>&1 </dev/null || rc=$?
    (( rc == 0 )) && return 0
    tail -n 40 "$LOG" >&2
    die "failed with exit code $rc: $1 ${2-} (whole log: $LOG)"
}
