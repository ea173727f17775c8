/*
 * Processes held by a descriptor, and the little of /proc that the helper reads.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include "util_proc.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lpm_task.h"

#define GIVES_WAY 10 /* nice */

/* The longest that the kernel takes. */
#define TURN_NS 100000000

/* What is waited for comes within microseconds, unless the kernel is busy for it. */
#define SHORT_PAUSE_NS 20000
#define LONG_PAUSE_NS  1000000
#define PAUSE_SHARE    16

int util_pidfd_open(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

void util_pidfd_kill(int pidfd)
{
    /* ESRCH: it is dead, as wanted. Other errors do not exist for a process that we may trace. */
    (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

bool util_pidfd_ended(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};

    return 1 == poll(&p, 1, 0);
}

pid_t util_parent_of(pid_t pid)
{
    char text[512];
    const char *stat = lpm_task_stat(pid, pid, text, sizeof(text));
    int ppid;

    return NULL == stat || 1 != sscanf(stat, " %*c %d", &ppid) ? -1 : ppid;
}

double util_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

void util_give_way(pid_t tid)
{
    (void)setpriority(PRIO_PROCESS, (id_t)tid, GIVES_WAY); /* fails only for one that is gone */
}

void util_go_first(void)
{
    const struct sched_param first = {.sched_priority = 1};

    (void)pthread_setschedparam(pthread_self(), SCHED_RR, &first);
}

void util_take_long_turns(void)
{
    const struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {.size = sizeof(attr), .policy = SCHED_OTHER, .runtime = TURN_NS};

    (void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

void util_short_pause(void)
{
    util_pause_of(0);
}

void util_pause_of(double waited_ms)
{
    const double ns = waited_ms * 1e6 / PAUSE_SHARE;
    const struct timespec ts = {0, ns < SHORT_PAUSE_NS ? SHORT_PAUSE_NS : ns > LONG_PAUSE_NS ? LONG_PAUSE_NS : (long)ns};

    (void)nanosleep(&ts, NULL);
}
