/*
 * Waking another thread that waits for an eventfd.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef UTIL_BELL_H
#define UTIL_BELL_H

#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/** A new one, -1 with errno set. */
static inline int util_bell(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static inline void util_bell_ring(int bell)
{
    const uint64_t one = 1;

    (void)!write(bell, &one, sizeof(one)); /* fails only when it has rung for 2^64 times */
}

/** It has been heard. */
static inline void util_bell_hush(int bell)
{
    uint64_t count;

    (void)!read(bell, &count, sizeof(count));
}

#endif /* UTIL_BELL_H */
