/*
 * Processes that a rank has forked.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_CHILDREN_H
#define LPM_CHILDREN_H

#include <sys/types.h>

/** A child of the process that lives and has a socket open, as it has between fork() and exec(); 0: there is none. */
pid_t lpm_child_with_socket(pid_t pid);

#endif /* LPM_CHILDREN_H */
