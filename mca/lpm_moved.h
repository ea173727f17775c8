/*
 * How a daemon tells the ranks that it starts which ranks have moved before.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_MOVED_H
#define LPM_MOVED_H

/**
 * Environment variable: JOB.RANK=HEX for each, separated by spaces; JOB is Open MPI's number of the job, HEX what
 * btl/tcp of the rank publishes in its new place.
 */
#define LPM_MOVED_RANKS "LPM_MOVED_RANKS"

#endif /* LPM_MOVED_H */
