#!/bin/bash
# How long a rank that has moved waits for a page that it touches while its memory is still coming.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
#
# Options: --sizes LIST, --pages LIST. To be started by bench/run. The rank touches its memory at random.

# shellcheck source=bench/pages.sh
source "${LPM_TOP:?}/bench/pages.sh"

parse_pages "$@"
[[ ${USES[*]} == "idle random write" || ${USES[*]} == random ]] || usage_error "faults knows no use but random"
for mib in "${SIZES[@]}"; do
    for pages in "${PAGES[@]}"; do
        memory_is "$mib" "$pages" pump
        pump fault >"$NAME"
        raw=$NAME
        memory_is "$mib" "$pages" random
        memory_moves random --touches || continue
        figures faults "$NAME" "$raw"
    done
done
finish
