/*
 * For test_pager: the processes that pages are moved between. A holder, whose memory has known contents, and a rank, in
 * which the same memory is empty, with threads that check it and change its mappings when told to.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef PAGER_CAST_H
#define PAGER_CAST_H

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

#define CAST_THREADS 3
#define CAST_PAGES   16384u /* 64 MiB; a power of two */
/** Pages at the end that only cast_churn() uses. */
#define CAST_ZONE 256u

typedef struct {
    pid_t holder, rank;
    int go;     /* jobs for the rank's threads */
    int report; /* what comes of them: cast_report_t */
    int gate;   /* lets one forked process on for each byte */
} cast_t;

typedef struct {
    uint64_t wrong; /* pages */
} cast_report_t;

/** What a thread of the rank is told to do; it reports in the end. @return pages that are wrong */
typedef uint64_t (*cast_job_t)(unsigned thread);

/** Make both; they die with this process. @return 0 or -1 */
int cast_start(cast_t *c);

/** Kill and reap what is left of them, with all that the rank has forked. */
void cast_end(cast_t *c);

/** The memory as ranges, and how many pages of it the holder has. */
json_t *cast_ranges(void);
uint64_t cast_written(void);

/** A page that nobody has written. */
unsigned cast_unwritten_page(void);

/** Tell the next idle thread. @return 0 or -1 */
int cast_tell(const cast_t *c, cast_job_t job);

/* ---- jobs ---- */

/** All pages but those of the zone, in an order of the thread's own. */
uint64_t cast_verify(unsigned thread);

/** Unmap, discard, move, protect and write pages; what is expected of them from then on is changed with it. */
uint64_t cast_change(unsigned thread);

/** A child, and one of its own, verify all; so does the thread afterwards. */
uint64_t cast_fork(unsigned thread);

/** A child is forked, which is reported, and verifies all once the gate has been opened for it. */
uint64_t cast_fork_and_wait(unsigned thread);

/** Discard, move and fork all the time, until as many threads as there are others have verified all. */
uint64_t cast_churn(unsigned thread);

/** Read the page that nobody has written. */
uint64_t cast_touch_unwritten(unsigned thread);

#endif /* PAGER_CAST_H */
