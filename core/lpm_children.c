/*
 * Processes that a rank has forked.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_children.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

pid_t lpm_child_with_socket(pid_t pid)
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
