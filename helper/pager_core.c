/*
 * The pager's memory of what is missing where, and putting it in place.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "pager.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "linux_pagemap.h"
#include "lpm_fds.h"
#include "pages_uffd.h"
#include "util_bell.h"
#include "util_proc.h"

/* What is put in place with the lock held once: an event waits for no more. */
#define PIECE_PAGES 16

int pager_init(pager_t *p)
{
    pthread_rwlockattr_t kind;

    p->urgent.fd = p->bulk.fd = p->safe = -1;
    p->stats.latency = calloc(PAGER_LATENCY_MAX + 1, sizeof(*p->stats.latency));
    p->wake_fault = util_bell();
    p->wake_stream = util_bell();
    p->wake_main = util_bell();
    if (NULL == p->stats.latency || 0 > p->wake_fault || 0 > p->wake_stream || 0 > p->wake_main) {
        return -1;
    }
    /* one reader after the other would keep the events waiting */
    (void)pthread_rwlockattr_init(&kind);
    (void)pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    (void)pthread_rwlock_init(&p->lock, &kind);
    (void)pthread_rwlockattr_destroy(&kind);
    return 0;
}

static void close_if(int *fd)
{
    if (0 <= *fd) {
        (void)close(*fd);
        *fd = -1;
    }
}

void pager_detach(pager_t *p)
{
    for (size_t i = 0; i < p->n_spaces; i++) {
        close_if(&p->space[i].uffd);
        if (0 != p->space[i].pid) {
            close_if(&p->space[i].info);
        }
    }
}

void pager_fini(pager_t *p)
{
    pager_detach(p);
    for (size_t i = 0; i < p->n_spaces; i++) {
        pages_space_free(p->space[i].pages);
    }
    pages_link_close(&p->urgent);
    pages_link_close(&p->bulk);
    close_if(&p->wake_fault);
    close_if(&p->wake_stream);
    close_if(&p->wake_main);
    pages_ranges_free(&p->ranges);
    free(p->huge);
    free(p->stats.latency);
    (void)pthread_rwlock_destroy(&p->lock);
}

size_t pager_room(const pager_t *p)
{
    size_t room = PAGER_SPACES_MAX - p->n_spaces;

    for (size_t i = 1; i < p->n_spaces; i++) {
        room += p->space[i].gone ? 1 : 0;
    }
    return room;
}

void pager_name(pager_t *p, size_t i, pid_t pid)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", p->space[i].uffd);
    p->space[i].info = open(path, O_RDONLY | O_CLOEXEC);
    p->space[i].pid = pid;
}

void pager_keep(pager_t *p, size_t i)
{
    struct pollfd room = {.fd = p->safe, .events = POLLOUT};

    while (0 <= p->safe && 0 <= p->space[i].uffd &&
           0 != lpm_fds_send(p->safe, (uint32_t)i, p->space[i].uffd, pages_space_fd(p->space[i].pages)) &&
           EAGAIN == errno) {
        (void)poll(&room, 1, -1); /* whoever keeps it is about to take what is there */
    }
}

/* The first one is the rank's for ever. */
void pager_add(pager_t *p, int uffd, pages_space_t *pages)
{
    size_t i = 0;

    while (i < p->n_spaces && (0 == i || !p->space[i].gone)) {
        i++;
    }
    if (i < p->n_spaces) {
        close_if(&p->space[i].uffd);
        pages_space_free(p->space[i].pages);
    }
    p->space[i].uffd = uffd;
    p->space[i].pages = pages;
    p->space[i].gone = false;
    p->space[i].pid = 0;
    p->space[i].info = -1;
    p->n_spaces = i < p->n_spaces ? p->n_spaces : i + 1;
    pager_keep(p, i);
}

uint64_t pager_next(pager_t *p, uint64_t from, uint64_t max, uint64_t *first)
{
    uint64_t n = 0;

    (void)pthread_rwlock_rdlock(&p->lock);
    for (size_t i = 0; 0 == n && i < p->n_spaces; i++) {
        n = p->space[i].gone ? 0 : pages_space_next(p->space[i].pages, from, max, first);
    }
    (void)pthread_rwlock_unlock(&p->lock);
    return n;
}

bool pager_lacks(pager_t *p)
{
    bool lacks = false;

    (void)pthread_rwlock_rdlock(&p->lock);
    for (size_t i = 0; !lacks && i < p->n_spaces; i++) {
        lacks = !p->space[i].gone && 0 < pages_space_missing(p->space[i].pages);
    }
    (void)pthread_rwlock_unlock(&p->lock);
    return lacks;
}

/* ---- asking ---- */

int pager_ask(const pager_t *p, pages_link_t *link, uint64_t first, uint64_t n)
{
    const wire_head_t get = {
        .type = WIRE_GET, .count = (uint32_t)n, .at = pages_address(pages_ranges_of(&p->ranges, first), first)};

    return pages_link_send(link, &get);
}

int64_t pager_hear(const pager_t *p, pages_link_t *link, uint64_t *first, const uint8_t **data)
{
    const pages_range_t *r;
    wire_head_t head;

    if (0 != pages_link_receive(link, 0, &head) || (WIRE_DATA != head.type && WIRE_ZERO != head.type) ||
        NULL == (r = pages_ranges_find(&p->ranges, head.at)) || head.count > (r->end - head.at) / PAGE_BYTES) {
        return -1;
    }
    *first = pages_number(r, head.at);
    *data = WIRE_DATA == head.type ? link->content : NULL;
    return head.count;
}

/* ---- filling ---- */

void pager_wait(pager_space_t *space, void *arg)
{
    (void)space;
    (void)arg;
    util_short_pause();
}

typedef struct {
    pager_later_fn_t fn;
    void *arg;
} later_t;

/*
 * Some pages in a row, with the read lock held, all of which are missing in this space.
 * @param put  set to how many are dealt with
 * @return whether the rest is to be tried again later
 */
static bool fill(pager_space_t *s, uint64_t first, uint64_t count, const uint8_t *data, uint64_t *put)
{
    uint64_t run, done, n = count;
    const uint64_t at = pages_space_where(s->pages, first, &run);

    *put = 1;
    if (0 == at) {
        (void)pages_space_done(s->pages, first, 1); /* nowhere: nobody can want it */
        return false;
    }
    for (n = n < run ? n : run;; n = 1) {
        const uffd_result_t r = uffd_copy(s->uffd, at, data, n * PAGE_BYTES, &done);

        if (UFFD_FILLED == r) {
            *put = done / PAGE_BYTES;
            (void)pages_space_done(s->pages, first, *put);
            return false;
        }
        if (UFFD_NONE == r && 1 < n) {
            continue; /* a border of mappings */
        }
        if (UFFD_THERE == r) {
            (void)pages_space_done(s->pages, first, 1);
            uffd_wake(s->uffd, at, PAGE_BYTES);
            return false;
        }
        *put = 0;
        s->gone = s->gone || UFFD_GONE == r;
        /* no such memory: an event that is on its way tells where it is, or that it is no more */
        return UFFD_LATER == r || UFFD_NONE == r;
    }
}

/* In one space. @return pages that were missing in it */
static uint64_t place_in(pager_t *p, pager_space_t *s, uint64_t first, uint64_t count, const uint8_t *data,
                         const later_t *later)
{
    uint64_t i = 0, put, run, placed = 0;
    bool again;

    while (i < count && !s->gone && !p->ending) {
        again = false;
        (void)pthread_rwlock_rdlock(&p->lock);
        for (run = 0; run < PIECE_PAGES && i + run < count && pages_space_lacks(s->pages, first + i + run); run++) {
            /* as many as are missing in a row */
        }
        put = 1;
        if (0 < run) {
            again = fill(s, first + i, run, data + i * PAGE_BYTES, &put);
            placed += put;
        }
        (void)pthread_rwlock_unlock(&p->lock);
        i += put;
        if (again) {
            later->fn(s, later->arg);
        }
    }
    return placed;
}

uint64_t pager_place(pager_t *p, uint64_t first, uint64_t count, const uint8_t *data, pager_later_fn_t fn, void *arg)
{
    static const uint8_t zeros[WIRE_PAGES_MAX * PAGE_BYTES];
    const later_t later = {fn, arg};
    const size_t n_spaces = p->n_spaces;
    uint64_t placed = 0;

    for (size_t k = 0; k < n_spaces; k++) {
        for (uint64_t i = 0; i < count; i += WIRE_PAGES_MAX) {
            const uint64_t n = count - i < WIRE_PAGES_MAX ? count - i : WIRE_PAGES_MAX;

            placed += place_in(p, &p->space[k], first + i, n, NULL == data ? zeros : data + i * PAGE_BYTES, &later);
        }
    }
    return placed;
}

/* ---- huge pages ---- */

uint64_t pager_collapse(pager_t *p, pid_t pid)
{
    const int pidfd = util_pidfd_open(pid);
    uint64_t made = 0, run;

    for (size_t i = 0; 0 <= pidfd && i < p->n_huge; i++) {
        for (uint64_t k = 0; k + PAGES_HUGE <= p->huge[i].pages; k += PAGES_HUGE) {
            const uint64_t at = pages_space_where(p->space[0].pages, p->huge[i].first + k, &run);
            const struct iovec one = {(void *)at, HUGE_BYTES};

            /* what has been moved, cut or is not in memory stays as it is */
            if (0 != at && 0 == at % HUGE_BYTES && PAGES_HUGE <= run) {
                made += HUGE_BYTES == syscall(SYS_process_madvise, pidfd, &one, 1, MADV_COLLAPSE, 0) ? 1 : 0;
            }
        }
    }
    if (0 <= pidfd) {
        (void)close(pidfd);
    }
    return made;
}

/* ---- figures ---- */

/* Microseconds that so many of a thousand faults took at most. */
static uint32_t quantile(const pager_stats_t *s, uint64_t of_thousand)
{
    uint64_t all = 0, seen = 0;
    uint32_t us;

    for (us = 0; us <= PAGER_LATENCY_MAX; us++) {
        all += s->latency[us];
    }
    for (us = 0; us < PAGER_LATENCY_MAX; us++) {
        seen += s->latency[us];
        if (0 < seen && seen * 1000 >= all * of_thousand) {
            return us;
        }
    }
    return 0 == all ? 0 : us;
}

json_t *pager_report(const pager_t *p)
{
    const pager_stats_t *s = &p->stats;

    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:i,s:i,s:I}", "faults", (json_int_t)s->faults, "fault_pages",
                     (json_int_t)s->urgent_pages, "fault_bytes", (json_int_t)(s->urgent_pages * PAGE_BYTES),
                     "stream_pages", (json_int_t)s->stream_pages, "stream_bytes",
                     (json_int_t)(s->stream_pages * PAGE_BYTES), "fault_p50_us", (int)quantile(s, 500), "fault_p99_us",
                     (int)quantile(s, 990), "zero_faults", (json_int_t)s->zero_pages);
}
