/*
 * Processes held by a descriptor, and the little of /proc that the helper reads.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include "util_proc.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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
    char path[64], line[512], *tail;
    size_t n;
    FILE *f;
    int ppid = -1;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    if (NULL == f) {
        return -1;
    }
    n = fread(line, 1, sizeof(line) - 1, f);
    line[n] = '\0';
    fclose(f);
    /* the name of the program may hold anything, so read on from its closing bracket */
    tail = strrchr(line, ')');
    if (NULL == tail || 1 != sscanf(tail, ") %*c %d", &ppid)) {
        return -1;
    }
    return ppid;
}

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

static pid_t child_of_thread(pid_t pid, const char *tid)
{
    char path[320];
    pid_t child, found = 0;
    int number;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/task/%s/children", (int)pid, tid);
    f = fopen(path, "re");
    while (NULL != f && 0 == found && 1 == fscanf(f, "%d", &number)) {
        child = (pid_t)number;
        found = has_socket(child) ? child : 0;
    }
    if (NULL != f) {
        (void)fclose(f);
    }
    return found;
}

pid_t util_child_with_socket(pid_t pid)
{
    char path[64];
    struct dirent *e;
    pid_t found = 0;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    d = opendir(path);
    while (NULL != d && 0 == found && NULL != (e = readdir(d))) {
        found = '.' == e->d_name[0] ? 0 : child_of_thread(pid, e->d_name);
    }
    if (NULL != d) {
        (void)closedir(d);
    }
    return found;
}

double util_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}
