/*
 * The places of a node's ranks in btl/vader's table of neighbours.
 *
 * Whoever reads a fragment finds its sender by a place number in the fragment's address, so a rank has the same place
 * in the tables of all its neighbours. Ranks that have never moved have their local rank, as in a stock run. A rank
 * that has moved has a place of its own in every node of the job, which nobody has to assign.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_PLACES_H
#define LPM_PLACES_H

#include <stdint.h>

/** The place of a rank that has moved, in a job of @p job_size ranks: local ranks are below @p job_size. */
static inline int lpm_place_moved(uint32_t job_size, uint32_t rank)
{
    return (int)(job_size + rank);
}

/** Places that a table needs. */
static inline int lpm_places(uint32_t job_size)
{
    return (int)(2 * job_size);
}

#endif /* LPM_PLACES_H */
