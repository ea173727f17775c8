#!/bin/bash
# How long it takes until all memory of a rank that has moved is there, and how fast it comes.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
#
# Options: --sizes LIST, --pages LIST, --use LIST. To be started by bench/run.

# shellcheck source=bench/pages.sh
source "${LPM_TOP:?}/bench/pages.sh"

parse_pages "$@"
for mib in "${SIZES[@]}"; do
    for pages in "${PAGES[@]}"; do
        memory_is "$mib" "$pages" pump
        pump stream >"$NAME"
        raw=$NAME
        for use in "${USES[@]}"; do
            memory_is "$mib" "$pages" "$use"
            memory_moves "$use" || continue
            figures fill "$NAME" "$raw"
        done
    done
done
finish
