/*
 * The threads of a process, as /proc shows them.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_TASK_H
#define LPM_TASK_H

#include <stddef.h>
#include <sys/types.h>

/**
 * Call fn for each thread of a process, in no order; stop at its first result that is not 0. Not for handlers, as the
 * others.
 * @return that result, 0, or -1 with errno ESRCH: there is no such process
 */
int lpm_task_each(pid_t pid, int (*fn)(pid_t tid, void *arg), void *arg);

/**
 * Read a file of /proc/PID/task/TID.
 * @return how many bytes, 0 when there is no such thread; @p text ends with a 0 byte.
 */
size_t lpm_task_read(pid_t pid, pid_t tid, const char *name, char *text, size_t size);

/**
 * The file "stat" from its third field on, the state of the thread, with a blank before it; the name of the program,
 * which comes before, may hold anything.
 * @param text  room for it
 * @return within @p text, NULL when there is no such thread
 */
const char *lpm_task_stat(pid_t pid, pid_t tid, char *text, size_t size);

/** The processor that a thread was last on, or -1: there is no such thread. */
int lpm_task_cpu(pid_t pid, pid_t tid);

#endif /* LPM_TASK_H */
