/*
 * A payload that tells every byte that is not as it was sent.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#ifndef LPM_TESTS_MPI_PATTERN_H
#define LPM_TESTS_MPI_PATTERN_H

#include <stdint.h>
#include <string.h>

/* The word of the payload's pattern that begins at byte `i` (a multiple of 8). */
static inline uint64_t pattern(uint64_t key, long i)
{
    return (key + (uint64_t)i) * UINT64_C(0x9e3779b97f4a7c15);
}

/* Fills the payload with its pattern; returns its checksum. */
static inline uint64_t fill_payload(char *data, long bytes, uint64_t key)
{
    uint64_t sum = 0, word;

    for (long i = 0; i < bytes; i += 8) {
        long n = bytes - i < 8 ? bytes - i : 8;
        uint64_t part = 0;

        word = pattern(key, i);
        memcpy(data + i, &word, (size_t)n);
        memcpy(&part, &word, (size_t)n);
        sum = (sum ^ part) * UINT64_C(0x100000001b3);
    }
    return sum;
}

/* The first payload byte that is not as sent, or -1; sets the checksum of what is there. */
static inline long check_payload(const char *data, long bytes, uint64_t key, uint64_t *sum)
{
    long bad = -1;

    *sum = 0;
    for (long i = 0; i < bytes; i += 8) {
        long n = bytes - i < 8 ? bytes - i : 8;
        uint64_t word = pattern(key, i), part = 0;

        memcpy(&part, data + i, (size_t)n);
        *sum = (*sum ^ part) * UINT64_C(0x100000001b3);
        if (-1 == bad && 0 != memcmp(data + i, &word, (size_t)n)) {
            for (bad = i; data[bad] == ((const char *)&word)[bad - i]; bad++) {
            }
        }
    }
    return bad;
}

#endif /* LPM_TESTS_MPI_PATTERN_H */
