/*
 * Looking into the memory of a holder, which does not change any more.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef HOLDER_MEMORY_H
#define HOLDER_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pages_ranges.h"

/** Pages one after the other that are there, in memory or swapped out. */
typedef struct {
    uint64_t at;
    uint32_t pages;
    bool huge; /* mapped as a whole: HUGE_BYTES, or several of them */
} holder_run_t;

typedef struct {
    holder_run_t *r; /* in ascending order */
    size_t n;
    uint64_t pages;
} holder_runs_t;

/** Find out what is there. @return 0, or -1 with errno set. holder_runs_free() in any case. */
int holder_runs(pid_t holder, const pages_ranges_t *ranges, holder_runs_t *runs);

/**
 * The first page of a range that is there in a process.
 * @return its address, the range's end when none is; UINT64_MAX with errno set, ENOTTY: this kernel cannot tell (< 6.7)
 */
uint64_t holder_first(pid_t pid, const pages_range_t *range);

void holder_runs_free(holder_runs_t *runs);

/** The first run that ends behind an address, or NULL. */
const holder_run_t *holder_runs_from(const holder_runs_t *runs, uint64_t at);

/** A process whose memory is read. */
typedef struct {
    pid_t pid;
    int mem; /* /proc/PID/mem, or -1 */
} holder_view_t;

/** @return 0, or -1 with errno set */
int holder_view(holder_view_t *view, pid_t pid);
void holder_view_close(holder_view_t *view);

/** Read @p n bytes, also where the program itself may not read. @return 0, or -1 with errno set (ESRCH: it is dead) */
int holder_read(const holder_view_t *view, uint64_t at, void *to, size_t n);

/** Give the ranges of a process, which is stopped, the contents they have in the holder. @return 0, or -1 */
int holder_copy_back(pid_t holder, pid_t rank, const pages_ranges_t *ranges);

#endif /* HOLDER_MEMORY_H */
