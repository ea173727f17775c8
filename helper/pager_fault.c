/*
 * The pager's thread for what the rank waits for: page faults, and changes of its mappings.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pager.h"
#include "pages_uffd.h"
#include "trace.h"
#include "util_bell.h"
#include "util_proc.h"

/* Messages read at once, and faults that wait for their page; more stay in the kernel until there is room, and so do
   forks when there are too many processes. */
#define MESSAGES 32
#define WAITING  8192
#define FAULTS   4096
#define CHANGES  4096
/* For all threads to come to the end of a system call; one that takes longer changes no mappings. */
#define STOP_MS 1000.0

typedef struct {
    uint64_t number;
    double since;
} waiting_t;

typedef struct {
    pager_t *p;
    waiting_t waiting[WAITING]; /* in the order in which they have been asked for */
    size_t n;
    struct {
        pager_space_t *space;
        uint64_t at;
    } faults[FAULTS]; /* that have been read, and are to be dealt with */
    size_t n_faults;
    pages_change_t changes[CHANGES];
    size_t n_changes;
    bool lost; /* the connection over which they have been asked for */
    struct pollfd polled[PAGER_SPACES_MAX + 2];
} faults_t;

/* ---- events: with the write lock held ---- */

static void on_fork(pager_t *p, const pager_space_t *parent, int uffd)
{
    pages_space_t *copy = pages_space_copy(parent->pages);

    if (NULL == copy) {
        p->broken = true; /* the descriptor stays open: the new process waits */
        return;
    }
    pager_add(p, uffd, copy);
}

static void note_change(faults_t *f, int what, uint64_t start, uint64_t end, uint64_t to)
{
    f->changes[f->n_changes++] = (pages_change_t){.what = what, .start = start, .end = end, .to = to};
}

static void on_message(faults_t *f, pager_space_t *s, const struct uffd_msg *m)
{
    switch (m->event) {
    case UFFD_EVENT_PAGEFAULT:
        f->faults[f->n_faults].space = s;
        f->faults[f->n_faults++].at = m->arg.pagefault.address & ~(uint64_t)(PAGE_BYTES - 1);
        break;
    case UFFD_EVENT_FORK: on_fork(f->p, s, (int)m->arg.fork.ufd); break;
    case UFFD_EVENT_REMAP:
        note_change(f, PAGES_MOVED, m->arg.remap.from, m->arg.remap.from + m->arg.remap.len, m->arg.remap.to);
        break;
    case UFFD_EVENT_REMOVE: note_change(f, PAGES_DISCARDED, m->arg.remove.start, m->arg.remove.end, 0); break;
    case UFFD_EVENT_UNMAP: note_change(f, PAGES_UNMAPPED, m->arg.remove.start, m->arg.remove.end, 0); break;
    default: break;
    }
}

/* @return how many there were */
static size_t read_some(faults_t *f, pager_space_t *s, size_t most)
{
    struct uffd_msg messages[MESSAGES];
    const ssize_t n = read(s->uffd, messages, (most < MESSAGES ? most : MESSAGES) * sizeof(messages[0]));
    const size_t count = 0 > n ? 0 : (size_t)n / sizeof(messages[0]);

    for (size_t i = 0; i < count; i++) {
        on_message(f, s, &messages[i]);
    }
    return count;
}

/* Whoever waits for a page looks again: it may wait at a place that is another now. */
static void apply_changes(faults_t *f, pager_space_t *s)
{
    if (0 < f->n_changes) {
        if (0 != pages_space_change(s->pages, f->changes, f->n_changes)) {
            f->p->broken = true;
        }
        f->n_changes = 0;
        uffd_wake_all(s->uffd);
    }
}

/* How many faults are to be read, which come before all else. */
static size_t faults_pending(const pager_space_t *s)
{
    char text[512];
    const ssize_t n = 0 > s->info ? 0 : pread(s->info, text, sizeof(text) - 1, 0);
    const char *at;

    text[0 < n ? n : 0] = '\0';
    at = strstr(text, "pending:");
    return NULL == at ? 0 : strtoul(at + sizeof("pending:") - 1, NULL, 10);
}

/*
 * Threads that change mappings at the same time do so one after the other, but tell of it in any order, and a thread
 * that has told goes on to its next change. So the rank is stopped first: what each thread is about is then told, each
 * comes to the end of its one system call, and all of it together says what has become of the mappings.
 */
static void read_stopped(faults_t *f, pager_space_t *s)
{
    const double until = util_now_ms() + STOP_MS;
    bool still = false;

    (void)trace_order_stop(s->pid);
    do {
        const bool was_still = trace_is_still(s->pid);

        still = 0 == read_some(f, s, MESSAGES) && was_still;
        if (!still) {
            pager_wait(s, NULL);
        }
    } while (!still && until > util_now_ms() && CHANGES - MESSAGES >= f->n_changes && FAULTS - MESSAGES >= f->n_faults);
    apply_changes(f, s);
    trace_cont(s->pid);
}

static bool is_readable(const pager_space_t *s)
{
    struct pollfd polled = {.fd = s->uffd, .events = POLLIN};

    return 0 < poll(&polled, 1, 0) && 0 != (polled.revents & POLLIN);
}

static void read_messages(faults_t *f, pager_space_t *s)
{
    (void)pthread_rwlock_wrlock(&f->p->lock);
    if (0 == s->pid) {
        (void)read_some(f, s, MESSAGES);
        apply_changes(f, s);
    } else {
        /* one at a time: when a signal takes away the fault that was counted, something else is read */
        for (size_t i = 0; i < MESSAGES && 0 < faults_pending(s); i++) {
            (void)read_some(f, s, 1);
        }
        if (is_readable(s) && 0 == faults_pending(s)) {
            read_stopped(f, s);
        }
    }
    (void)pthread_rwlock_unlock(&f->p->lock);
}

static bool has_room(const faults_t *f)
{
    return FAULTS - MESSAGES >= f->n_faults && WAITING - MESSAGES >= f->n + f->n_faults &&
           MESSAGES <= pager_room(f->p) && !f->p->broken;
}

/* The rank is changing its mappings; it tells how, and nobody else listens. */
static void listen_first(pager_space_t *s, void *arg)
{
    faults_t *f = arg;

    if (has_room(f) && is_readable(s)) {
        read_messages(f, s);
    } else {
        pager_wait(s, NULL);
    }
}

/* ---- faults ---- */

static void ask(faults_t *f, uint64_t number)
{
    pages_link_t *link = &f->p->urgent;

    if (!f->p->urgent_up) {
        f->lost = true; /* it is asked for when there is a connection again */
    } else if (0 != pager_ask(f->p, link, number, 1)) {
        pages_link_shut(link); /* reading from it tells */
    }
}

static bool is_waited_for(const faults_t *f, uint64_t number)
{
    for (size_t i = 0; i < f->n; i++) {
        if (f->waiting[i].number == number) {
            return true;
        }
    }
    return false;
}

/* A page that is not missing was never there, or has been discarded: zeros. */
static void give_zeros(pager_t *p, pager_space_t *s, uint64_t at)
{
    uffd_result_t r;

    (void)pthread_rwlock_rdlock(&p->lock);
    r = uffd_zero(s->uffd, at);
    if (UFFD_FILLED == r) {
        p->stats.zero_pages++;
    } else {
        s->gone = s->gone || UFFD_GONE == r;
        uffd_wake(s->uffd, at, PAGE_BYTES); /* it faults again, if there is still a reason to */
    }
    (void)pthread_rwlock_unlock(&p->lock);
}

static void on_fault(faults_t *f, pager_space_t *s, uint64_t at)
{
    pager_t *p = f->p;
    uint64_t number = pages_space_number(s->pages, at);

    p->stats.faults++;
    if (NO_PAGE == number || !pages_space_lacks(s->pages, number)) {
        give_zeros(p, s, at);
        return;
    }
    p->last_fault = number;
    p->fault_count++;
    if (!is_waited_for(f, number)) {
        f->waiting[f->n++] = (waiting_t){number, util_now_ms()};
        ask(f, number);
    }
}

static void deal_with_faults(faults_t *f)
{
    for (size_t i = 0; i < f->n_faults; i++) {
        on_fault(f, f->faults[i].space, f->faults[i].at);
    }
    f->n_faults = 0;
}

/* ---- answers ---- */

static void note_latency(pager_t *p, double since)
{
    const double us = (util_now_ms() - since) * 1e3;

    p->stats.latency[us < PAGER_LATENCY_MAX ? (size_t)us : PAGER_LATENCY_MAX]++;
}

static void arrived(faults_t *f, uint64_t number)
{
    for (size_t i = 0; i < f->n; i++) {
        if (f->waiting[i].number == number) {
            note_latency(f->p, f->waiting[i].since);
            memmove(&f->waiting[i], &f->waiting[i + 1], (--f->n - i) * sizeof(f->waiting[0]));
            return;
        }
    }
}

static int take_answer(faults_t *f)
{
    pager_t *p = f->p;
    const uint8_t *data;
    uint64_t number;

    if (1 != pager_hear(p, &p->urgent, &number, &data)) {
        return -1;
    }
    p->stats.urgent_pages += pager_place(p, number, 1, data, listen_first, f);
    arrived(f, number);
    return 0;
}

/* ---- the thread ---- */

static void lose(faults_t *f)
{
    f->lost = true;
    f->p->urgent_up = false; /* the main thread closes it and waits for another */
    util_bell_ring(f->p->wake_main);
}

/* What had been asked for over the connection that is gone. */
static void ask_again(faults_t *f)
{
    for (size_t i = 0; i < f->n; i++) {
        ask(f, f->waiting[i].number);
    }
}

static nfds_t prepare_poll(faults_t *f)
{
    pager_t *p = f->p;
    const size_t n = p->n_spaces;
    const bool room = has_room(f);

    f->polled[0] = (struct pollfd){.fd = p->wake_fault, .events = POLLIN};
    f->polled[1] = (struct pollfd){.fd = p->urgent_up ? p->urgent.fd : -1, .events = POLLIN};
    for (size_t i = 0; i < n; i++) {
        f->polled[i + 2] = (struct pollfd){.fd = room && !p->space[i].gone ? p->space[i].uffd : -1, .events = POLLIN};
    }
    return n + 2;
}

void *pager_fault_main(void *arg)
{
    static faults_t faults;
    faults_t *f = &faults;
    pager_t *p = f->p = arg;

    util_go_first(); /* the rank waits for it */
    while (!p->ending) {
        nfds_t n;

        if (p->urgent_up && f->lost) {
            f->lost = false;
            ask_again(f);
        }
        n = prepare_poll(f);
        if (0 > poll(f->polled, n, -1)) {
            continue; /* EINTR */
        }
        if (0 != f->polled[0].revents) {
            util_bell_hush(p->wake_fault);
        }
        for (nfds_t i = 2; i < n; i++) {
            if (0 != (f->polled[i].revents & POLLIN) && has_room(f)) {
                read_messages(f, &p->space[i - 2]);
                deal_with_faults(f);
                util_bell_ring(p->wake_stream); /* another process may have come, with pages missing */
            }
        }
        if (0 != f->polled[1].revents && 0 != take_answer(f)) {
            lose(f);
        }
        deal_with_faults(f); /* that have come up meanwhile */
    }
    return NULL;
}
