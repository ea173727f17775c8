/*
 * Processes held by a descriptor, and the little of /proc that the helper reads.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef UTIL_PROC_H
#define UTIL_PROC_H

#include <stdbool.h>
#include <sys/types.h>

/** A descriptor of the process (close-on-exec, the caller's), or -1 with errno set (ESRCH: there is none). */
int util_pidfd_open(pid_t pid);

/** SIGKILL; a process that has ended already is no error. */
void util_pidfd_kill(int pidfd);

/** Has the process ended? (A zombie has.) */
bool util_pidfd_ended(int pidfd);

/** Parent of a process, or -1 when it is gone or /proc cannot be read. */
pid_t util_parent_of(pid_t pid);

/** Milliseconds on a clock that never jumps. */
double util_now_ms(void);

/** Between two looks at something in another process that cannot be waited for. */
void util_short_pause(void);

#endif /* UTIL_PROC_H */
