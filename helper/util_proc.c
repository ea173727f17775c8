/*
 * Processes held by a descriptor, and the little of /proc that the helper reads.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include "util_proc.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lpm_task.h"

/* What is waited for comes within microseconds, unless the kernel is busy for it. */
#define SHORT_PAUSE_NS 20000

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

void util_short_pause(void)
{
    const struct timespec ts = {0, SHORT_PAUSE_NS};

    (void)nanosleep(&ts, NULL);
}
