/*
 * Becoming another program in a clean state, between fork() and exec().
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_CHILD_H
#define LPM_CHILD_H

#include <stddef.h>

/**
 * Keep these descriptors under their numbers, put 0 to 2 on /dev/null, and have all others closed by exec().
 * Only plain system calls: may be used in the child of a process with threads.
 * @return 0, or -1 with errno set.
 */
int lpm_child_descriptors(const int *keep, size_t n_keep);

/** Default action for every signal, none blocked. As lpm_child_descriptors(). */
int lpm_child_signals(void);

#endif /* LPM_CHILD_H */
