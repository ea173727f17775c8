/*
 * The memory that follows later: ranges of addresses, as they were in the process at the time of the freeze.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef PAGES_RANGES_H
#define PAGES_RANGES_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/** The unit of everything: what the kernel counts in on x86_64. */
#define PAGE_BYTES 4096u
#define PAGE_SHIFT 12
#define HUGE_BYTES (2u << 20)
#define PAGES_HUGE (HUGE_BYTES / PAGE_BYTES)
/** As many ranges as fit into a message. */
#define RANGES_MAX 4096

typedef struct {
    uint64_t start, end; /* multiples of PAGE_BYTES */
    uint64_t first;      /* number of its first page among all pages of all ranges */
} pages_range_t;

typedef struct {
    pages_range_t *r; /* in ascending order */
    size_t n;
    uint64_t pages;
} pages_ranges_t;

/** Add a range behind all others. @return 0, or -1: no memory, or out of order */
int pages_ranges_add(pages_ranges_t *list, uint64_t start, uint64_t end);

void pages_ranges_free(pages_ranges_t *list);

/** The range that an address lies in, or NULL. */
const pages_range_t *pages_ranges_find(const pages_ranges_t *list, uint64_t at);

/** The number of the page at an address, which lies in @p r. */
static inline uint64_t pages_number(const pages_range_t *r, uint64_t at)
{
    return r->first + ((at - r->start) >> PAGE_SHIFT);
}

/** The address of the page number @p n, which lies in @p r. */
static inline uint64_t pages_address(const pages_range_t *r, uint64_t n)
{
    return r->start + (n - r->first) * PAGE_BYTES;
}

/** The range that the page number @p n lies in; n < pages. */
const pages_range_t *pages_ranges_of(const pages_ranges_t *list, uint64_t n);

/** As JSON: [[start,end],...], a new reference; and back: 0, or -1 when it is none. */
json_t *pages_ranges_json(const pages_ranges_t *list);
int pages_ranges_parse(const json_t *json, pages_ranges_t *list);

#endif /* PAGES_RANGES_H */
