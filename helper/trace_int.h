/*
 * What the parts of the tracer share.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef TRACE_INT_H
#define TRACE_INT_H

#include <sys/types.h>

/** The next stop of a thread that is held. @return 0, or -1 with errno set: ESRCH when it has ended, ETIMEDOUT */
int trace_wait(pid_t tid, int limit_ms, int *status);

#endif /* TRACE_INT_H */
