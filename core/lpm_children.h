/*
 * A rank and the processes that it has forked.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_CHILDREN_H
#define LPM_CHILDREN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/**
 * Does a child of the rank live that has a socket open, as it has between fork() and exec()? The rank cannot be moved
 * before it has ended.
 * @param why  set to a text that says so
 */
bool lpm_child_in_the_way(pid_t rank, char *why, size_t size);

/** SIGKILL to the rank and its process group, if it leads one, and wait for the rank's end, for so long at most. */
void lpm_end_with_group(pid_t rank, int limit_ms);

#endif /* LPM_CHILDREN_H */
