/*
 * At the source: the holder, a copy of the rank's memory that outlives the rank.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef HOLDER_H
#define HOLDER_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "pages_ranges.h"
#include "vma.h"

/*
 * The rank is stopped, and one of its threads made to fork(): the child shares all pages with it, copy on write, and
 * does nothing but sleep in a few bytes of code. It is no child of the rank (CLONE_PARENT) but of the daemon, which
 * reaps it. Then the large mappings of the rank are emptied; it stays stopped, a skeleton, that CRIU dumps in no time.
 * Whoever wants the pages reads them from the holder's memory.
 */

typedef struct {
    pid_t pid;             /* 0: none */
    int pidfd;             /* or -1 */
    pages_ranges_t ranges; /* what the rank lacks */
    json_t *kept;          /* array of {"bytes","why"}: what has to travel with the skeleton, summed up by cause */
    bool stopped;          /* the rank is, by us */
} holder_t;

/** Look at the rank's memory beforehand: it takes long, and the rank runs meanwhile. vma_free() in any case */
int holder_look(pid_t rank, vma_list_t *known);

/**
 * Stop the rank, make its holder and empty the rank.
 *
 * When it cannot be done, or is not worth while, the rank stays complete, and there is no holder; the rank may have
 * been stopped for it all the same.
 *
 * @param known  of holder_look() shortly before, or NULL
 * @param least  see vma_why_not_later()
 * @param limit_ms  for the rank's threads to react
 * @param why  set to the cause when there is no holder; constant text
 * @return 0; -1 when the rank is damaged and must not run on (it is killed)
 */
int holder_make(holder_t *h, pid_t rank, const vma_list_t *known, uint64_t least, int limit_ms, const char **why);

/**
 * Give the rank its memory back from the holder, which is then gone, and let it run.
 * @return 0, or -1 when that is not possible: the rank is killed then, as it could not go on without its memory
 */
int holder_give_back(holder_t *h, pid_t rank);

/** It stays, but others care for it. */
void holder_leave(holder_t *h);

#endif /* HOLDER_H */
