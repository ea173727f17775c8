/*
 * The pager's thread for what nobody waits for: it asks for all pages, those near the last fault first.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <poll.h>
#include <stdlib.h>

#include "pager.h"
#include "pager_early.h"
#include "util_bell.h"
#include "util_proc.h"

/*
 * What is asked for at once: small pieces around the last fault while the rank faults, larger ones when it leaves the
 * machine to us. So much is under way that the connection is never idle, and so little that a new fault's surroundings
 * come soon.
 */
#define CHUNK_MIN 16 /* pages: 64 KiB */
#define CHUNK_MAX WIRE_GET_MAX
#define UNDER_WAY 1024 /* pages, and at least two chunks */
#define CHUNKS    64
#define QUIET_MS  2.0 /* without a fault for so long, chunks grow */

/* For the rank to be connected again; if it waits for others, it may as well have its pages meanwhile. */
#define HOLD_MS 1000.0

typedef struct {
    uint64_t first, pages, left;
} chunk_t;

typedef struct {
    pager_t *p;
    chunk_t asked[CHUNKS]; /* in the order in which they come */
    size_t n;
    uint64_t under_way; /* pages */
    uint64_t next;      /* number from which to go on */
    uint64_t faults;    /* seen */
    uint64_t size;      /* of the next chunk */
    double fault_ms;    /* when the last one was seen */
} stream_t;

/* ---- which pages there are ---- */

static int take_run(pager_t *p, const wire_run_t *run)
{
    const pages_range_t *r = pages_ranges_find(&p->ranges, run->at);
    void *more;
    uint64_t first;

    if (NULL == r || (uint64_t)run->pages * PAGE_BYTES > r->end - run->at) {
        return -1;
    }
    first = pages_number(r, run->at);
    if (!p->again) {
        pages_space_lack(p->space[0].pages, first, run->pages);
    }
    if (0 == (run->flags & WIRE_HUGE)) {
        return 0;
    }
    more = realloc(p->huge, (p->n_huge + 1) * sizeof(*p->huge));
    if (NULL == more) {
        return 0; /* they become small pages */
    }
    p->huge = more;
    p->huge[p->n_huge].first = first;
    p->huge[p->n_huge++].pages = run->pages;
    return 0;
}

static int take_map(pager_t *p, const wire_head_t *head)
{
    wire_run_t run;

    if (WIRE_MAP != head->type || p->mapped) {
        return -1;
    }
    for (uint32_t i = 0; i < head->count; i++) {
        if (0 != wire_parse_run(p->bulk.content + i * WIRE_RUN_BYTES, &run) || 0 != take_run(p, &run)) {
            return -1;
        }
    }
    if (0 != (head->flags & WIRE_LAST)) {
        p->mapped = true;
        util_bell_ring(p->wake_main);
    }
    return 0;
}

static int ask_for_map(pager_t *p)
{
    const wire_head_t list = {.type = WIRE_LIST};
    wire_head_t head;

    p->n_huge = 0; /* of a list that has not come to its end */
    if (0 != pages_link_send(&p->bulk, &list)) {
        return -1;
    }
    while (!p->mapped) {
        if (0 != pages_link_receive(&p->bulk, 0, &head)) {
            return -1;
        }
        if (0 != take_map(p, &head)) {
            p->nonsense = true; /* it would be the same again */
            return -1;
        }
    }
    return 0;
}

/* ---- asking ---- */

/* Faults make it go on near them, in small pieces. */
static void follow_faults(stream_t *s)
{
    const double now = util_now_ms();
    const uint64_t faults = s->p->fault_count;

    if (faults != s->faults) {
        s->faults = faults;
        s->fault_ms = now;
        s->next = s->p->last_fault & ~(uint64_t)(CHUNK_MIN - 1);
        s->size = CHUNK_MIN;
    } else if (QUIET_MS < now - s->fault_ms && CHUNK_MAX > s->size) {
        s->size *= 2;
    }
}

/* Cuts the pages that are under way already. @return how many are left at the beginning */
static uint64_t not_asked(const stream_t *s, uint64_t first, uint64_t n, uint64_t *behind)
{
    for (size_t i = 0; i < s->n; i++) {
        const chunk_t *c = &s->asked[i];

        if (c->first <= first && first < c->first + c->pages) {
            *behind = c->first + c->pages;
            return 0;
        }
        if (first < c->first && c->first < first + n) {
            n = c->first - first;
        }
    }
    return n;
}

/* The next pages that are missing and not asked for. @return how many, 0: there are none */
static uint64_t choose(stream_t *s, uint64_t *first)
{
    uint64_t n, from = s->next, behind = 0;

    for (size_t i = 0; i <= s->n; i++) {
        n = pager_next(s->p, from, s->size, first);
        if (0 == n) {
            return 0;
        }
        n = not_asked(s, *first, n, &behind);
        if (0 < n) {
            const pages_range_t *r = pages_ranges_of(&s->p->ranges, *first);
            const uint64_t in_range = r->first + ((r->end - r->start) >> PAGE_SHIFT) - *first;

            return n < in_range ? n : in_range;
        }
        from = behind;
    }
    return 0;
}

static int ask_for_more(stream_t *s)
{
    uint64_t first, n;

    while (CHUNKS > s->n && (2 > s->n || UNDER_WAY > s->under_way)) {
        follow_faults(s);
        n = choose(s, &first);
        if (0 == n) {
            return 0;
        }
        if (0 != pager_ask(s->p, &s->p->bulk, first, n)) {
            return -1;
        }
        s->asked[s->n++] = (chunk_t){first, n, n};
        s->under_way += n;
        s->next = first + n;
    }
    return 0;
}

/* ---- taking ---- */

static int take(stream_t *s)
{
    pager_t *p = s->p;
    chunk_t *c = &s->asked[0];
    const uint8_t *data;
    uint64_t first;
    const int64_t n = pager_hear(p, &p->bulk, &first, &data);

    if (0 > n || c->left < (uint64_t)n || first != c->first + c->pages - c->left) {
        return -1;
    }
    p->stats.stream_pages += pager_place(p, first, (uint64_t)n, data, pager_wait, NULL);
    c->left -= (uint64_t)n;
    s->under_way -= (uint64_t)n;
    if (0 == c->left) {
        s->n--;
        for (size_t i = 0; i < s->n; i++) {
            s->asked[i] = s->asked[i + 1];
        }
    }
    return 0;
}

/* ---- the thread ---- */

static void wait_for_bell(pager_t *p, int limit_ms)
{
    struct pollfd bell = {.fd = p->wake_stream, .events = POLLIN};

    if (0 < poll(&bell, 1, limit_ms)) {
        util_bell_hush(p->wake_stream);
    }
}

static void wait_for_arrival(pager_t *p)
{
    while (!p->attached && !p->ending) {
        wait_for_bell(p, -1);
    }
}

/* Until those who see to the rank do not need the processor any more. */
static void wait_for_rank(pager_t *p)
{
    double until, now;

    for (until = util_now_ms() + HOLD_MS; !p->streaming && !p->ending && until > (now = util_now_ms());) {
        wait_for_bell(p, (int)(until - now) + 1);
    }
    p->streaming = true;
}

static void work(stream_t *s)
{
    pager_t *p = s->p;
    pager_early_t *early = NULL;
    int rc;

    s->n = 0; /* what was under way over another connection does not come */
    s->under_way = 0;
    if (!p->mapped && 0 != ask_for_map(p)) {
        goto lost;
    }
    rc = p->attached ? 0 : pager_early_fetch(p, &early);
    wait_for_arrival(p);
    pager_early_place(p, early);
    pager_early_free(&early);
    if (0 != rc) {
        goto lost;
    }
    wait_for_rank(p);
    while (!p->ending) {
        if (0 != ask_for_more(s)) {
            goto lost;
        }
        if (0 < s->n) {
            if (0 != take(s)) {
                goto lost;
            }
            continue;
        }
        p->complete = !pager_lacks(p);
        util_bell_ring(p->wake_main);
        wait_for_bell(p, -1);
    }
    return;

lost:
    p->bulk_up = false; /* the main thread closes it and waits for another */
    util_bell_ring(p->wake_main);
}

void *pager_stream_main(void *arg)
{
    static stream_t stream;
    stream_t *s = &stream;

    *s = (stream_t){.p = arg, .size = CHUNK_MIN};
    util_take_long_turns();
    while (!s->p->ending) {
        if (s->p->bulk_up) {
            work(s);
        } else {
            wait_for_bell(s->p, -1);
        }
    }
    return NULL;
}
