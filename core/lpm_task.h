/*
 * The threads of a process, as /proc shows them.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_TASK_H
#define LPM_TASK_H

#include <stddef.h>
#include <stdint.h>
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

/* Fields of the file "stat", as proc(5) counts them, from the fourth on. */
#define LPM_TASK_START 22 /* when the thread started */
#define LPM_TASK_CPU   39 /* the processor that it was last on */

/** A number in the file "stat", or -1: there is no such thread. */
int64_t lpm_task_number(pid_t pid, pid_t tid, int field);

#endif /* LPM_TASK_H */
