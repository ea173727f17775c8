/*
 * Holding the threads of another process with ptrace(2).
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "trace.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lpm_task.h"
#include "trace_int.h"
#include "util_proc.h"

/* 'T' when it has stopped; 0 when it is gone */
static char state_of(pid_t pid, pid_t tid)
{
    char text[512];
    const char *stat = lpm_task_stat(pid, tid, text, sizeof(text));

    return NULL == stat ? 0 : stat[1];
}

static int is_going(pid_t tid, void *arg)
{
    const char state = state_of(*(pid_t *)arg, tid);

    return 0 != state && NULL == strchr("TtZX", state) ? 1 : 0;
}

/* In a system call that touches a missing page a thread cannot stop before it is there. */
static bool waits_for_page(pid_t pid, pid_t tid)
{
    char text[64];

    (void)lpm_task_read(pid, tid, "wchan", text, sizeof(text));
    return 0 == strcmp("handle_userfault", text);
}

static int is_at_work(pid_t tid, void *arg)
{
    return 1 == is_going(tid, arg) && !waits_for_page(*(pid_t *)arg, tid) ? 1 : 0;
}

bool trace_is_still(pid_t pid)
{
    return 1 != lpm_task_each(pid, is_at_work, &pid);
}

int trace_await_stop(pid_t pid, int limit_ms)
{
    const double until = util_now_ms() + limit_ms;
    int going;

    while (1 == (going = lpm_task_each(pid, is_going, &pid))) {
        if (util_now_ms() > until) {
            errno = ETIMEDOUT;
            return -1;
        }
        util_short_pause();
    }
    return going;
}

static int stop_thread(pid_t tid, void *arg)
{
    (void)syscall(SYS_tgkill, *(pid_t *)arg, tid, SIGSTOP); /* fails for one that is gone */
    return 0;
}

int trace_order_stop(pid_t pid)
{
    return lpm_task_each(pid, stop_thread, &pid);
}

int trace_stop(pid_t pid, int limit_ms)
{
    return 0 == kill(pid, SIGSTOP) ? trace_await_stop(pid, limit_ms) : -1;
}

void trace_cont(pid_t pid)
{
    (void)kill(pid, SIGCONT); /* one that is dead has nothing to go on with */
}

/* Most of what a thread is made to do takes less than falling asleep and waking up. */
#define AWAKE_MS 0.2

int trace_wait(pid_t tid, int limit_ms, int *status)
{
    const double since = util_now_ms();
    pid_t got;

    while (0 == (got = waitpid(tid, status, __WALL | WNOHANG)) || (0 > got && EINTR == errno)) {
        const double waited = util_now_ms() - since;

        if (waited > limit_ms) {
            errno = ETIMEDOUT;
            return -1;
        }
        if (waited < AWAKE_MS) {
            (void)sched_yield();
        } else {
            util_pause_of(waited);
        }
    }
    if (0 < got && !WIFSTOPPED(*status)) {
        errno = ESRCH;
        return -1;
    }
    return 0 < got ? 0 : -1;
}

static int add(trace_t *t, pid_t tid)
{
    pid_t *more = realloc(t->tids, (t->n + 1) * sizeof(*more));

    if (NULL == more) {
        errno = ENOMEM;
        return -1;
    }
    t->tids = more;
    t->tids[t->n++] = tid;
    return 0;
}

static int seize(trace_t *t, pid_t tid, uintptr_t options)
{
    int status;

    if (0 != add(t, tid)) {
        return -1;
    }
    if (0 != ptrace(PTRACE_SEIZE, tid, NULL, (void *)options)) {
        --t->n;
        return -1;
    }
    /* a thread that has stopped traps once more by itself; one that runs does when it is interrupted */
    if (0 != ptrace(PTRACE_INTERRUPT, tid, NULL, NULL)) {
        return -1;
    }
    do {
        if (0 != trace_wait(tid, t->limit_ms, &status)) {
            return -1;
        }
        if (PTRACE_EVENT_STOP == status >> 16) {
            return 0;
        }
        /* a signal that was on its way; the stop comes next */
    } while (0 == ptrace(PTRACE_CONT, tid, NULL, (void *)(uintptr_t)WSTOPSIG(status)));
    return -1;
}

static int hold_thread(pid_t tid, void *arg)
{
    return seize(arg, tid, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL);
}

static int fail_hold(trace_t *t)
{
    const int err = errno;

    trace_release(t);
    errno = err;
    return -1;
}

int trace_hold(trace_t *t, pid_t pid)
{
    t->pid = pid;
    return 0 == lpm_task_each(pid, hold_thread, t) ? 0 : fail_hold(t);
}

int trace_hold_one(trace_t *t, pid_t pid, pid_t tid)
{
    t->pid = pid;
    return 0 == seize(t, tid, PTRACE_O_TRACESYSGOOD) ? 0 : fail_hold(t);
}

void trace_release(trace_t *t)
{
    for (size_t i = 0; i < t->n; i++) {
        (void)ptrace(PTRACE_DETACH, t->tids[i], NULL, NULL); /* fails only for one that is gone */
    }
    free(t->tids);
    t->tids = NULL;
    t->n = 0;
}
