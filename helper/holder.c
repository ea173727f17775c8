/*
 * At the source: the holder, a copy of the rank's memory that outlives the rank.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "holder.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "holder_memory.h"
#include "trace.h"
#include "util_proc.h"
#include "vma.h"

/* ---- what may be emptied ---- */

static int mark_stacks(const trace_t *t, vma_list_t *vmas)
{
    uint64_t at[2];
    vma_t *v;

    for (size_t i = 0; i < t->n; i++) {
        if (0 != trace_stack(t, i, &at[0], &at[1])) {
            return -1;
        }
        for (size_t k = 0; k < 2; k++) {
            /* a stack pointer may stand at the very end of what it points into */
            for (uint64_t back = 0; back <= 1; back++) {
                v = vma_find(vmas, at[k] - back);
                if (NULL != v) {
                    v->why = "a stack";
                }
            }
        }
    }
    return 0;
}

static void count_kept(json_t *kept, const vma_t *v)
{
    json_t *one = NULL;
    size_t i;

    if (0 == v->filled) {
        return;
    }
    json_array_foreach(kept, i, one) {
        if (0 == strcmp(v->why, json_string_value(json_object_get(one, "why")))) {
            json_object_set_new(one, "bytes",
                                json_integer(json_integer_value(json_object_get(one, "bytes")) + (json_int_t)v->filled));
            return;
        }
    }
    json_array_append_new(kept, json_pack("{s:I,s:s}", "bytes", (json_int_t)v->filled, "why", v->why));
}

/* Sets .ranges and .kept. */
static int choose(holder_t *h, const trace_t *t, vma_list_t *vmas, uint64_t least)
{
    for (size_t i = 0; i < vmas->n; i++) {
        vmas->v[i].why = vma_why_not_later(&vmas->v[i], least);
    }
    if (0 != mark_stacks(t, vmas)) {
        return -1;
    }
    for (size_t i = 0; i < vmas->n; i++) {
        vma_t *v = &vmas->v[i];

        if (NULL == v->why && 0 != pages_ranges_add(&h->ranges, v->start, v->end)) {
            v->why = "one of too many";
        }
        if (NULL != v->why) {
            count_kept(h->kept, v);
        }
    }
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

/* A range whose emptying is refused stays; that is no failure. @return 0, or -1 when the thread does not obey */
static int empty(holder_t *h, trace_call_t *c)
{
    pages_ranges_t done = {NULL, 0, 0};
    bool failed = false;

    for (size_t i = 0; !failed && i < h->ranges.n; i++) {
        const pages_range_t *r = &h->ranges.r[i];

        if (0 == trace_call(c, &failed, SYS_madvise, r->start, r->end - r->start, MADV_DONTNEED, 0)) {
            failed = failed || 0 != pages_ranges_add(&done, r->start, r->end);
        }
    }
    if (!failed) {
        pages_ranges_free(&h->ranges);
        h->ranges = done;
    } else {
        pages_ranges_free(&done);
    }
    return failed ? -1 : 0;
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
static made_t make(holder_t *h, trace_t *t, uint64_t least, const char **why)
{
    vma_list_t vmas;
    trace_call_t c;
    made_t made = NOT_MADE;

    *why = "its memory cannot be looked at";
    if (0 != vma_read(t->pid, &vmas) || 0 != choose(h, t, &vmas, least)) {
        goto out_free;
    }
    *why = "it has no large memory that could follow";
    if (0 == h->ranges.n) {
        goto out_free;
    }
    *why = "no thread of it can be made to fork";
    if (0 != trace_call_begin(&c, t->tids[0], t->limit_ms)) {
        goto out_free;
    }
    if (0 != fork_holder(h, &c, t->limit_ms)) {
        *why = ENOMEM == errno ? "there is no memory to fork it" : "it cannot be forked";
    } else {
        made = 0 == empty(h, &c) ? MADE : DAMAGED;
    }
    if (0 != trace_call_end(&c)) {
        made = DAMAGED;
    }
out_free:
    vma_free(&vmas);
    return made;
}

int holder_make(holder_t *h, pid_t rank, uint64_t least, int limit_ms, const char **why)
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
        made = make(h, &t, least, why);
    }
    if (DAMAGED == made) {
        (void)kill(rank, SIGKILL);
    }
    trace_release(&t);
    if (MADE == made && 0 != trace_await_stop(rank, limit_ms)) {
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
