/*
 * The threads of a process, as /proc shows them.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_task.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int lpm_task_each(pid_t pid, int (*fn)(pid_t tid, void *arg), void *arg)
{
    char path[64];
    struct dirent *entry;
    DIR *tasks;
    int rc = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    if (NULL == tasks) {
        errno = ESRCH;
        return -1;
    }
    while (0 == rc && NULL != (entry = readdir(tasks))) {
        const pid_t tid = (pid_t)atoi(entry->d_name); /* 0: . and .. */

        rc = (0 < tid) ? fn(tid, arg) : 0;
    }
    (void)closedir(tasks);
    return rc;
}

size_t lpm_task_read(pid_t pid, pid_t tid, const char *name, char *text, size_t size)
{
    char path[96];
    ssize_t n = -1;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)tid, name);
    if (0 <= (fd = open(path, O_RDONLY | O_CLOEXEC))) {
        n = read(fd, text, size - 1);
        (void)close(fd);
    }
    n = (0 < n) ? n : 0;
    text[n] = '\0';
    return (size_t)n;
}

const char *lpm_task_stat(pid_t pid, pid_t tid, char *text, size_t size)
{
    const char *name_end;

    (void)lpm_task_read(pid, tid, "stat", text, size);
    name_end = strrchr(text, ')');
    return (NULL == name_end || ' ' != name_end[1]) ? NULL : name_end + 1;
}

int64_t lpm_task_number(pid_t pid, pid_t tid, int field)
{
    char text[1024];
    const char *at = lpm_task_stat(pid, tid, text, sizeof(text));

    for (int i = 3; NULL != at && i < field; ++i) {
        at = strchr(at + 1, ' ');
    }
    return (NULL == at) ? -1 : strtoll(at, NULL, 10);
}
