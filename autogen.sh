#!/usr/bin/env bash
# Makes configure and the Makefile.in files from their sources.
#
# Copyright (c) 2026 The LPM authors
# SPDX-License-Identifier: BSD-3-Clause
set -euo pipefail
cd "$(dirname "$0")"

missing=()

# need PROGRAM DEBIAN-PACKAGE
need() {
    command -v "$1" >/dev/null || missing+=("  - $1 (Debian package: $2)")
}

need autoreconf autoconf
need automake automake
need libtoolize libtool
need pkg-config pkg-config

if (( ${#missing[@]} > 0 )); then
    printf 'autogen.sh: these programs are missing:\n' >&2
    printf '%s\n' "${missing[@]}" >&2
    exit 1
fi

exec autoreconf --install --force --warnings=all,no-obsolete
