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

/** A thread (0: the calling one) that has nothing urgent to do any more leaves the processor to those who have. */
void util_give_way(pid_t tid);

/** The calling thread runs before whatever else wants to, if that is permitted. It has little to do at a time. */
void util_go_first(void);

/**
 * The calling thread wants throughput and can wait: long turns on the processor, for which anybody who wakes up need not
 * wait. Its share stays the same. Linux >= 6.12 (EEVDF with a slice of one's own); without effect before.
 */
void util_take_long_turns(void);

/** Between two looks at something in another process that cannot be waited for. */
void util_short_pause(void);

/** The same, longer if it has taken long already: each look takes time from whoever is waited for. */
void util_pause_of(double waited_ms);

#endif /* UTIL_PROC_H */
