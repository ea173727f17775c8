/*
 * How many threads this process has.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_THREADS_H
#define LPM_THREADS_H

#include <dirent.h>

/** @return the number, 0 when it cannot be told. Any thread. */
static inline unsigned lpm_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    unsigned count = 0;

    if (NULL == tasks) {
        return 0;
    }
    for (struct dirent *entry; NULL != (entry = readdir(tasks));) {
        count += ('.' != entry->d_name[0]) ? 1 : 0;
    }
    (void)closedir(tasks);
    return count;
}

#endif /* LPM_THREADS_H */
