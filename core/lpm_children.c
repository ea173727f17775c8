/*
 * A rank and the processes that it has forked.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_children.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lpm_task.h"

static bool has_socket(pid_t pid)
{
    char path[320], target[64];
    struct dirent *e;
    bool found = false;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    d = opendir(path); /* that of a process that has ended is empty */
    while (NULL != d && !found && NULL != (e = readdir(d))) {
        snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, e->d_name);
        const ssize_t n = readlink(path, target, sizeof(target));

        found = 7 < n && 0 == memcmp(target, "socket:", 7);
    }
    if (NULL != d) {
        (void)closedir(d);
    }
    return found;
}

/* @return a child of this thread of the process *arg that has a socket, or 0 */
static int child_of_thread(pid_t tid, void *arg)
{
    char path[64];
    int child, found = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)*(pid_t *)arg, (int)tid);
    f = fopen(path, "re");
    while (NULL != f && 0 == found && 1 == fscanf(f, "%d", &child)) {
        found = has_socket((pid_t)child) ? child : 0;
    }
    if (NULL != f) {
        (void)fclose(f);
    }
    return found;
}

bool lpm_child_in_the_way(pid_t rank, char *why, size_t size)
{
    const int child = lpm_task_each(rank, child_of_thread, &rank);

    if (0 >= child) {
        return false;
    }
    snprintf(why, size,
             "process %d, which the rank has forked, lives and has the rank's connections open: it cannot move", child);
    return true;
}

void lpm_end_with_group(pid_t rank, int limit_ms)
{
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, rank, 0), .events = POLLIN};

    if (0 > end.fd) {
        return; /* it has ended, and been reaped */
    }
    (void)kill(rank, SIGKILL);
    (void)kill(-rank, SIGKILL);
    (void)poll(&end, 1, limit_ms);
    (void)close(end.fd);
}
