/*
 * At the target: which pages an address space still lacks, and where in it they belong by now.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef PAGES_SPACE_H
#define PAGES_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pages_ranges.h"

/*
 * Pages have numbers, as in pages_ranges_t, which they keep when the program moves them with mremap(). A page is
 * missing until its contents have been put in place, or until nobody needs them any more: it has been unmapped, or
 * discarded with MADV_DONTNEED, which makes it a page of zeros.
 *
 * All lies in a memory file, so that another process can go on with it when this one has died. No function leaves it
 * in a state in which that would go wrong.
 *
 * Threads: what only looks, and pages_space_done(), may run side by side; everything else needs to be alone.
 */

#define NO_PAGE UINT64_MAX

typedef struct pages_space pages_space_t;

/** A new one in which nothing is missing yet. @return NULL with errno set */
pages_space_t *pages_space_new(const pages_ranges_t *ranges);

/** One that another process has made; @p fd is the caller's still. @return NULL with errno set */
pages_space_t *pages_space_open(int fd);

/** The same once more: the program has forked. @return NULL with errno set */
pages_space_t *pages_space_copy(const pages_space_t *from);

/** Forget it in this process. NULL is accepted. */
void pages_space_free(pages_space_t *s);

/** Its memory file, which stays the space's. */
int pages_space_fd(const pages_space_t *s);

/** How many pages there are, and how many are missing. */
uint64_t pages_space_pages(const pages_space_t *s);
uint64_t pages_space_missing(const pages_space_t *s);

/** @p count pages from the number @p first on are missing. */
void pages_space_lack(pages_space_t *s, uint64_t first, uint64_t count);

/** They are not any more. @return how many were */
uint64_t pages_space_done(pages_space_t *s, uint64_t first, uint64_t count);

bool pages_space_lacks(const pages_space_t *s, uint64_t number);

/**
 * The first missing pages from number @p from on, at most @p max in a row; behind the last page it goes on with the
 * first.
 * @return how many, 0: none is missing
 */
uint64_t pages_space_next(const pages_space_t *s, uint64_t from, uint64_t max, uint64_t *first);

/** The number of the page that belongs at an address now, or NO_PAGE. */
uint64_t pages_space_number(const pages_space_t *s, uint64_t at);

/** Where a page belongs now. @param run  set to how many pages follow in a row, with it. @return 0: nowhere */
uint64_t pages_space_where(const pages_space_t *s, uint64_t number, uint64_t *run);

/** What a program has done to its mappings, as userfaultfd(2) tells it. */
typedef struct {
    enum {
        PAGES_UNMAPPED,  /* all from start to end */
        PAGES_DISCARDED, /* the same, but the mapping stays: zeros */
        PAGES_MOVED      /* what was from start to end is at .to; that it is unmapped where it was may be told, too */
    } what;
    uint64_t start, end, to;
} pages_change_t;

/**
 * Changes that several threads have made at the same time, each of them one: none is of what another has done. Their
 * order says nothing. One alone is such a batch, too.
 * @return 0, or -1: there are more pieces than a process can have
 */
int pages_space_change(pages_space_t *s, const pages_change_t *changes, size_t n);

#endif /* PAGES_SPACE_H */
