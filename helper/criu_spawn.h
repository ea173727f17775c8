/*
 * Starting CRIU's worker process.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef CRIU_SPAWN_H
#define CRIU_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct {
    pid_t pid;
    int pidfd; /* readable when the process has ended */
    int rpc;   /* our end of the socket it serves, non-blocking */
} criu_process_t;

/**
 * Start "criu swrk" with a clean environment, default signals, and no descriptors but its RPC socket and @p keep.
 *
 * Returns when the program has been loaded (a few milliseconds). Both descriptors of @p out are close-on-exec and the
 * caller's to close.
 *
 * @param sibling  make it a child of our parent instead of ours: what it restores is then our parent's child as well.
 *                 Our parent reaps it. Without it the caller reaps.
 * @param keep  descriptors it gets under the numbers they have.
 * @return 0, or -1 with errno set and @p out untouched.
 */
int criu_spawn(const char *program, bool sibling, const int *keep, size_t n_keep, criu_process_t *out);

#endif /* CRIU_SPAWN_H */
