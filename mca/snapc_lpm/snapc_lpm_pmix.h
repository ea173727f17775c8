/*
 * Running a function inside libpmix: on its progress thread, which owns its data.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SNAPC_LPM_PMIX_H
#define SNAPC_LPM_PMIX_H

/**
 * Call @p fn on libpmix's progress thread and wait until it has returned (microseconds: that thread never blocks).
 * Not to be called on that thread.
 */
void snapc_lpm_pmix_run(void (*fn)(void *arg), void *arg);

#endif /* SNAPC_LPM_PMIX_H */
