/*
 * userfaultfd(2): filling pages of another process.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef PAGES_UFFD_H
#define PAGES_UFFD_H

#include <stdint.h>
#include <sys/types.h>

#include "pages_ranges.h"

/** What has become of a page that was to be filled. */
typedef enum {
    UFFD_FILLED,
    UFFD_THERE, /* it has been there already */
    UFFD_LATER, /* the process is changing its mappings, and an event tells how: read it first; or memory is short */
    UFFD_NONE,  /* there is no such memory there now, or it crosses a border of mappings */
    UFFD_GONE   /* there is no such process any more */
} uffd_result_t;

/**
 * Make a process, none of whose threads runs code of the program, report missing pages of the ranges.
 *
 * One of its threads that is not traced is made to open the descriptor, which is then taken out of the process: the
 * program sees nothing of it. Forks, moved and removed mappings are reported too.
 *
 * @param why  set on failure; constant text
 * @return the descriptor, or -1
 */
int uffd_attach(pid_t pid, const pages_ranges_t *ranges, int limit_ms, const char **why);

/** Fill pages. @param done  set to the number of bytes that were filled, also when the rest was not */
uffd_result_t uffd_copy(int uffd, uint64_t to, const void *from, uint64_t bytes, uint64_t *done);

/** Make one page zeros. */
uffd_result_t uffd_zero(int uffd, uint64_t at);

/** Threads that wait for pages there look again. */
void uffd_wake(int uffd, uint64_t at, uint64_t bytes);

/** All threads that wait for a page, of whatever place, look again, and fault again if they have to. */
void uffd_wake_all(int uffd);

#endif /* PAGES_UFFD_H */
