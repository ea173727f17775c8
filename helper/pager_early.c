/*
 * Pages that come before the rank does: it will want them first, and the line is idle while CRIU restores it.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "pager_early.h"

#include <stdlib.h>
#include <string.h>

/*
 * Nobody tells which pages those are. The small ranges hold the heap of the C library and variables, among them what
 * Open MPI is made of; large ones are data, of which the beginning is as good as any other part. So much is asked for
 * that it comes within the time of a restore.
 */
#define EARLY_PAGES 1024
#define EARLY_RUNS  2048

typedef struct {
    uint64_t first;
    uint32_t pages;
    uint32_t at; /* in .content, in pages; NOWHERE: zeros */
} run_t;

#define NOWHERE UINT32_MAX

struct pager_early {
    uint8_t *content;
    uint64_t asked; /* pages, as long as they have not all come */
    uint32_t used;  /* pages of .content */
    size_t n;
    run_t run[EARLY_RUNS];
};

static int by_length(const void *a, const void *b)
{
    const pages_range_t *p = *(const pages_range_t *const *)a, *q = *(const pages_range_t *const *)b;

    return p->end - p->start < q->end - q->start ? -1 : p->end - p->start > q->end - q->start;
}

/* Asks for the first pages that are missing in a range. */
static int ask(pager_t *p, pager_early_t *e, const pages_range_t *r)
{
    const uint64_t end = pages_number(r, r->end);
    uint64_t from = r->first, first, n;

    while (EARLY_PAGES > e->asked && from < end) {
        n = pager_next(p, from, EARLY_PAGES - e->asked, &first);
        if (0 == n || end <= first) {
            break;
        }
        n = n < end - first ? n : end - first;
        if (0 != pager_ask(p, &p->bulk, first, n)) {
            return -1;
        }
        e->asked += n;
        from = first + n;
    }
    return 0;
}

static int take(pager_t *p, pager_early_t *e)
{
    const uint8_t *data;
    uint64_t first;
    const int64_t n = pager_hear(p, &p->bulk, &first, &data);
    run_t *run = &e->run[e->n];

    if (0 >= n || e->asked < (uint64_t)n) {
        return -1;
    }
    e->asked -= (uint64_t)n;
    if (EARLY_RUNS == e->n || (NULL != data && EARLY_PAGES - e->used < (uint64_t)n)) {
        return 0; /* no room: it is asked for once more, later */
    }
    *run = (run_t){.first = first, .pages = (uint32_t)n, .at = NOWHERE};
    if (NULL != data) {
        run->at = e->used;
        memcpy(e->content + (size_t)e->used * PAGE_BYTES, data, (size_t)n * PAGE_BYTES);
        e->used += (uint32_t)n;
    }
    e->n++;
    return 0;
}

int pager_early_fetch(pager_t *p, pager_early_t **out)
{
    const pages_range_t **order = calloc(p->ranges.n, sizeof(*order));
    pager_early_t *e = calloc(1, sizeof(*e));
    int rc = 0;

    *out = e;
    if (NULL == order || NULL == e || NULL == (e->content = malloc((size_t)EARLY_PAGES * PAGE_BYTES))) {
        pager_early_free(out); /* it was only to save time */
        free(order);
        return 0;
    }
    for (size_t i = 0; i < p->ranges.n; i++) {
        order[i] = &p->ranges.r[i];
    }
    qsort(order, p->ranges.n, sizeof(*order), by_length);
    for (size_t i = 0; 0 == rc && i < p->ranges.n; i++) {
        rc = ask(p, e, order[i]);
    }
    while (0 == rc && 0 < e->asked) {
        rc = take(p, e);
        if (p->attached) { /* over a slow line the rank is there before they are */
            pager_early_place(p, e);
        }
    }
    free(order);
    return rc;
}

void pager_early_place(pager_t *p, pager_early_t *e)
{
    if (NULL == e) {
        return;
    }
    for (size_t i = 0; i < e->n && !p->ending; i++) {
        const run_t *run = &e->run[i];

        p->stats.stream_pages +=
            pager_place(p, run->first, run->pages,
                        NOWHERE == run->at ? NULL : e->content + (size_t)run->at * PAGE_BYTES, pager_wait, NULL);
    }
    e->n = e->used = 0;
}

void pager_early_free(pager_early_t **e)
{
    if (NULL != *e) {
        free((*e)->content);
        free(*e);
        *e = NULL;
    }
}
