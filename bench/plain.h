/*
 * What the programs share that have to work without MPI: ends, numbers, clocks, memory.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#ifndef LPM_BENCH_PLAIN_H
#define LPM_BENCH_PLAIN_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE  4096ul
#define WORDS (PAGE / sizeof(uint64_t))
#define HUGE  (2ul << 20)

/** Ends this process; mpirun then ends the job. */
__attribute__((format(printf, 1, 2), noreturn)) static inline void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fprintf(stderr, "DEFECT: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(9);
}

static inline long number(const char *text, long low, long high)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (0 != errno || end == text || '\0' != *end || value < low || value > high) {
        fprintf(stderr, "%s is not a number from %ld to %ld\n", text, low, high);
        exit(2);
    }
    return value;
}

/** The wall clock, which all nodes share and which is the same before and after a move. */
static inline double wall_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/** xorshift64: cheap beside what is measured. */
static inline uint64_t chance(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/** Untouched memory that can be of huge pages, or cannot. */
static inline uint64_t *map_memory(size_t bytes, bool huge)
{
    char *room = mmap(NULL, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at = (char *)(((uintptr_t)room + HUGE - 1) & ~(HUGE - 1));

    if (MAP_FAILED == (void *)room) {
        die("no memory for %zu bytes: %s", bytes, strerror(errno));
    }
    if (at > room) {
        (void)munmap(room, (size_t)(at - room));
    }
    (void)munmap(at + bytes, (size_t)(room + HUGE - at));
    if (0 != madvise(at, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE)) {
        die("madvise: %s", strerror(errno));
    }
    return (uint64_t *)at;
}

/** What a word of a page holds: never zeros, and no two pages are alike. */
static inline uint64_t word_of(size_t page, size_t i)
{
    return ((uint64_t)page << 12 ^ i) * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

static inline void write_page(uint64_t *memory, size_t page)
{
    for (size_t i = 0; i < WORDS; i++) {
        memory[page * WORDS + i] = word_of(page, i);
    }
}

#endif
