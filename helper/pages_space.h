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

/** The program has discarded what is there from @p start to @p end: zeros. */
void pages_space_discarded(pages_space_t *s, uint64_t start, uint64_t end);

/*
 * Threads that change mappings at the same time do so one after the other, but tell of it in any order.
 *
 * A place can be told to be taken before it is told to have been left; so the news of a move to a place that is not
 * free is put off until it is. What has been moved is told to be unmapped where it was, when something else may be
 * there already; so one such message is ignored for each move.
 *
 * A mapping may be larger than what it has of our pages. So a place that seems free may still be told to have been left
 * after something has moved there. What has moved is fresh until it is known that nothing is on its way to be told
 * (pages_space_settled()). If there is news of a place with something fresh, it is for the caller to find out whether
 * it is still there.
 */

/** Has something moved between the two addresses of late? */
bool pages_space_is_fresh(const pages_space_t *s, uint64_t start, uint64_t end);

/** All that has been done has been told. */
void pages_space_settled(pages_space_t *s);

/**
 * It has unmapped all from @p start to @p end.
 * @param stays  what is fresh there is still there
 * @return 0, or -1: more pieces than a process can have
 */
int pages_space_unmapped(pages_space_t *s, uint64_t start, uint64_t end, bool stays);

/** It has moved a mapping. @param stays, @return as pages_space_unmapped() */
int pages_space_moved(pages_space_t *s, uint64_t from, uint64_t to, uint64_t bytes, bool stays);

#endif /* PAGES_SPACE_H */
