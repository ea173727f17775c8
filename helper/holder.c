/*
 * At the source: the holder, a copy of the rank's memory that outlives the rank.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include "holder.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "holder_memory.h"
#include "lpm_task.h"
#include "trace.h"
#include "util_proc.h"

/* ---- what may be emptied ---- */

/*
 * Memory that stays where it is since a thread or the kernel needs it at once: the stack in use, and what the C library
 * keeps for the thread, in which the kernel writes as well (rseq). The kernel joins a stack with its neighbours when it
 * can, so it is not a mapping of its own.
 */
typedef struct {
    uint64_t start, end;
} stay_t;

#define STAY_AROUND ((uint64_t)64 << 10)
#define STACK_ABOVE ((uint64_t)256 << 10)
/* A stack of this size has the thread's own data at its upper end; all up to there is in use. */
#define STACK_MAX ((uint64_t)64 << 20)

static stay_t around(uint64_t from, uint64_t to)
{
    const uint64_t page = ~(uint64_t)(PAGE_BYTES - 1);

    return (stay_t){(from < STAY_AROUND ? 0 : from - STAY_AROUND) & page, (to + STAY_AROUND) & page};
}

static int by_start(const void *a, const void *b)
{
    const stay_t *p = a, *q = b;

    return p->start < q->start ? -1 : p->start > q->start;
}

/* @return an array of two for each thread, in ascending order; NULL with errno set */
static stay_t *find_stays(const trace_t *t, const vma_list_t *vmas)
{
    stay_t *stays = calloc(2 * t->n, sizeof(*stays));
    uint64_t stack, tls;

    for (size_t i = 0; NULL != stays && i < t->n; i++) {
        if (0 != trace_stack(t, i, &stack, &tls)) {
            free(stays);
            return NULL;
        }
        if (stack < tls && tls - stack < STACK_MAX && vma_find(vmas, stack) == vma_find(vmas, tls)) {
            stays[2 * i] = stays[2 * i + 1] = around(stack, tls);
        } else {
            stays[2 * i] = around(stack, stack + STACK_ABOVE);
            stays[2 * i + 1] = around(tls, tls);
        }
    }
    if (NULL != stays) {
        qsort(stays, 2 * t->n, sizeof(*stays), by_start);
    }
    return stays;
}

static void count_kept(json_t *kept, uint64_t bytes, const char *why)
{
    json_t *one = NULL;
    size_t i;

    if (0 == bytes) {
        return;
    }
    json_array_foreach(kept, i, one) {
        if (0 == strcmp(why, json_string_value(json_object_get(one, "why")))) {
            json_object_set_new(one, "bytes",
                                json_integer(json_integer_value(json_object_get(one, "bytes")) + (json_int_t)bytes));
            return;
        }
    }
    json_array_append_new(kept, json_pack("{s:I,s:s}", "bytes", (json_int_t)bytes, "why", why));
}

/* What of a mapping follows: all but the memory that stays. */
static void choose_parts(holder_t *h, const vma_t *v, const stay_t *stays, size_t n)
{
    uint64_t at = v->start;

    for (size_t i = 0; i <= n && at < v->end; i++) {
        const uint64_t start = i < n ? stays[i].start : v->end, end = i < n ? stays[i].end : v->end;
        const uint64_t until = start < v->end ? start : v->end;

        if (at < until && 0 != pages_ranges_add(&h->ranges, at, until)) {
            count_kept(h->kept, until - at, "one of too many");
        }
        if (start < v->end && at < end) {
            const uint64_t from = at > start ? at : start;

            count_kept(h->kept, (end < v->end ? end : v->end) - from, "a stack");
        }
        at = end > at ? end : at;
    }
}

/* Sets .ranges and .kept. */
static int choose(holder_t *h, const trace_t *t, const vma_list_t *vmas, uint64_t least)
{
    stay_t *stays = find_stays(t, vmas);

    if (NULL == stays) {
        return -1;
    }
    for (size_t i = 0; i < vmas->n; i++) {
        const vma_t *v = &vmas->v[i];
        const char *why = vma_why_not_later(v, least);

        if (NULL != why) {
            count_kept(h->kept, v->filled, why);
        } else {
            choose_parts(h, v, stays, 2 * t->n);
        }
    }
    free(stays);
    return 0;
}

/* ---- making it ---- */

/* A handler for SIGCONT would run when the rank is let go; filters might forbid what we do. */
static const char *ruled_out(pid_t rank)
{
    char path[64], line[256];
    unsigned long long caught = 0;
    int seccomp = 0, threads = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)rank);
    f = fopen(path, "re");
    if (NULL == f) {
        return "its state cannot be read";
    }
    while (NULL != fgets(line, sizeof(line), f)) {
        (void)sscanf(line, "SigCgt: %llx", &caught);
        (void)sscanf(line, "Seccomp: %d", &seccomp);
        (void)sscanf(line, "Threads: %d", &threads);
    }
    (void)fclose(f);
    if (0 != (caught & (1ULL << (SIGCONT - 1)))) {
        return "the program handles SIGCONT";
    }
    if (0 != seccomp) {
        return "its system calls are filtered (seccomp)";
    }
    return 2 > threads ? "it has a single thread" : NULL;
}

int holder_look(pid_t rank, vma_list_t *known)
{
    static const pages_range_t nothing = {0, PAGE_BYTES, 0};

    *known = (vma_list_t){NULL, 0};
    /* without this it could not be checked what has been inherited, and all has to be looked at later */
    return UINT64_MAX == holder_first(rank, &nothing) ? 0 : vma_read(rank, known);
}

/* What was known of a mapping may be wrong by now: it is empty in the holder if it is not inherited any more. */
static bool has_inherited(const holder_t *h, pid_t rank)
{
    for (size_t i = 0; i < h->ranges.n; i++) {
        const uint64_t first = holder_first(rank, &h->ranges.r[i]);

        if (UINT64_MAX == first || first != holder_first(h->pid, &h->ranges.r[i])) {
            return false;
        }
    }
    return true;
}

/* Sets .pid and .pidfd. */
static int fork_holder(holder_t *h, trace_call_t *c, int limit_ms)
{
    bool failed;
    int64_t rc = trace_call(c, &failed, SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0);

    if (failed || 0 > rc || 0 == c->child) {
        errno = failed ? EIO : (int)-rc;
        return -1;
    }
    h->pid = c->child;
    h->pidfd = util_pidfd_open(h->pid);
    return 0 > h->pidfd || 0 != trace_put_to_sleep(h->pid, limit_ms) ? -1 : 0;
}

/*
 * A rank is bound to a core, or its threads are where it was last; of two threads there one would wait for the other.
 * @param was  set to where the thread @p tid may run
 * @return whether it now runs elsewhere than @p other did
 */
static bool move_apart(pid_t tid, pid_t pid, pid_t other, cpu_set_t *was)
{
    const int64_t cpu = lpm_task_number(pid, other, LPM_TASK_CPU);
    cpu_set_t apart;

    if (0 > cpu || CPU_SETSIZE <= cpu || 0 != sched_getaffinity(tid, sizeof(*was), was) ||
        0 != sched_getaffinity(0, sizeof(apart), &apart)) {
        return false;
    }
    CPU_CLR(cpu, &apart);
    return 0 < CPU_COUNT(&apart) && 0 == sched_setaffinity(tid, sizeof(apart), &apart);
}

/*
 * Emptying takes the kernel a time for each page, so two threads of the rank do it, each a half of every large range.
 * A range whose emptying is refused stays; that is no failure.
 * @return 0, or -1 when a thread does not obey
 */
static int empty(holder_t *h, trace_call_t c[2])
{
    pages_ranges_t done = {NULL, 0, 0};
    bool failed[2] = {false, false};
    int64_t rc[2];

    for (size_t i = 0; !failed[0] && !failed[1] && i < h->ranges.n; i++) {
        const pages_range_t *r = &h->ranges.r[i];
        const uint64_t half = (r->end - r->start) / 2 & ~(uint64_t)(HUGE_BYTES - 1);
        const uint64_t middle = ((r->start + half) & ~(uint64_t)(HUGE_BYTES - 1)) > r->start
                                    ? (r->start + half) & ~(uint64_t)(HUGE_BYTES - 1)
                                    : r->start;

        if (0 != trace_call_start(&c[0], SYS_madvise, middle, r->end - middle, MADV_DONTNEED, 0)) {
            failed[0] = true;
            break;
        }
        rc[1] = middle == r->start
                    ? 0
                    : trace_call(&c[1], &failed[1], SYS_madvise, r->start, middle - r->start, MADV_DONTNEED, 0);
        rc[0] = trace_call_finish(&c[0], &failed[0]);
        if (0 == rc[0] && 0 == rc[1]) {
            failed[0] = failed[0] || 0 != pages_ranges_add(&done, r->start, r->end);
        } else if (0 == rc[0] || 0 == rc[1]) {
            failed[0] = true; /* a half without the other: what kernel does that? */
        }
    }
    if (!failed[0] && !failed[1]) {
        pages_ranges_free(&h->ranges);
        h->ranges = done;
        return 0;
    }
    pages_ranges_free(&done);
    return -1;
}

static void drop_holder(holder_t *h)
{
    if (0 <= h->pidfd) {
        util_pidfd_kill(h->pidfd);
        close(h->pidfd);
    } else if (0 < h->pid) {
        (void)kill(h->pid, SIGKILL); /* ours a moment ago, and nobody has reaped it */
    }
    h->pid = 0;
    h->pidfd = -1;
    pages_ranges_free(&h->ranges);
}

typedef enum { MADE, NOT_MADE, DAMAGED } made_t;

/* With all threads held. */
static made_t make(holder_t *h, trace_t *t, const vma_list_t *known, uint64_t least, const char **why)
{
    const bool again = NULL != known && 0 < known->n;
    vma_list_t vmas;
    trace_call_t c[2];
    cpu_set_t was;
    made_t made = NOT_MADE;

    *why = "its memory cannot be looked at";
    if (0 != (again ? vma_read_again(t->pid, known, least, &vmas) : vma_read(t->pid, &vmas)) ||
        0 != choose(h, t, &vmas, least)) {
        goto out_free;
    }
    *why = "it has no large memory that could follow";
    if (0 == h->ranges.n) {
        goto out_free;
    }
    *why = "no thread of it can be made to fork";
    if (2 > t->n || 0 != trace_call_begin(&c[0], t->tids[0], t->limit_ms)) {
        goto out_free;
    }
    if (0 != trace_call_begin(&c[1], t->tids[1], t->limit_ms)) {
        made = 0 == trace_call_end(&c[0]) ? NOT_MADE : DAMAGED;
        goto out_free;
    }
    if (0 != fork_holder(h, &c[0], t->limit_ms)) {
        *why = ENOMEM == errno ? "there is no memory to fork it" : "it cannot be forked";
    } else if (again && !has_inherited(h, t->pid)) {
        *why = "it has changed which of its memory a child inherits";
    } else {
        const bool apart = move_apart(c[1].tid, t->pid, c[0].tid, &was);

        made = 0 == empty(h, c) ? MADE : DAMAGED;
        if (apart) {
            (void)sched_setaffinity(c[1].tid, sizeof(was), &was); /* the worst is that it runs elsewhere */
        }
    }
    if (0 != trace_call_end(&c[0]) || 0 != trace_call_end(&c[1])) {
        made = DAMAGED;
    }
out_free:
    vma_free(&vmas);
    return made;
}

int holder_make(holder_t *h, pid_t rank, const vma_list_t *known, uint64_t least, int limit_ms, const char **why)
{
    trace_t t = {.limit_ms = limit_ms};
    made_t made = NOT_MADE;

    *h = (holder_t){.pidfd = -1, .kept = json_array()};
    *why = ruled_out(rank);
    if (NULL != *why) {
        return 0;
    }
    h->stopped = true;
    if (0 != trace_stop(rank, limit_ms) || 0 != trace_hold(&t, rank)) {
        *why = "its threads do not stop";
    } else {
        made = make(h, &t, known, least, why);
    }
    if (DAMAGED == made) {
        (void)kill(rank, SIGKILL);
    }
    trace_release(&t);
    /* CRIU would wait in vain for a thread that is seized on its way to the stop */
    if (DAMAGED != made && 0 != trace_await_stop(rank, limit_ms) && MADE == made) {
        (void)kill(rank, SIGKILL);
        made = DAMAGED;
    }
    if (MADE == made) {
        *why = NULL;
        return 0;
    }
    drop_holder(h);
    return NOT_MADE == made ? 0 : -1;
}

/* ---- the end of it ---- */

int holder_give_back(holder_t *h, pid_t rank)
{
    int rc = 0;

    if (0 < h->pid && 0 != holder_copy_back(h->pid, rank, &h->ranges)) {
        (void)kill(rank, SIGKILL);
        rc = -1;
    }
    drop_holder(h);
    if (h->stopped) {
        trace_cont(rank);
        h->stopped = false;
    }
    return rc;
}

void holder_leave(holder_t *h)
{
    if (0 <= h->pidfd) {
        close(h->pidfd);
    }
    pages_ranges_free(&h->ranges);
    json_decref(h->kept);
    *h = (holder_t){.pidfd = -1};
}
