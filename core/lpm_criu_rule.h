/*
 * Which CRIU a kernel needs.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_CRIU_RULE_H
#define LPM_CRIU_RULE_H

#include <stddef.h>

/**
 * Does this CRIU work on this kernel for the processes we move?
 *
 * @param kernel_release  text of uname -r, such as "6.18.44-generic".
 * @param why  set (NUL-terminated, cut at @p n) only when the answer is no: what is there, what is needed, what to do.
 * @return 0 when it does, -1 when it does not or when @p kernel_release cannot be read. Any thread.
 */
int lpm_criu_rule_check(int criu_major, int criu_minor, int criu_sub, const char *kernel_release, char *why, size_t n);

#endif /* LPM_CRIU_RULE_H */
