/*
 * What the MPI test programs share: options, failures, pacing, the line that says where the ranks are.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#ifndef LPM_TESTS_MPI_COMMON_H
#define LPM_TESTS_MPI_COMMON_H

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mpi.h>

/* The exit code with which a program says that the MPI library or the move did something wrong. */
#define TEST_DEFECT 9
#define TEST_USAGE  2

#define TEST_HASH_START UINT64_C(0xcbf29ce484222325)

/** Reports a defect once on stderr, with the rank and its host, and ends the whole job with code 9. */
__attribute__((format(printf, 1, 2), noreturn)) static inline void test_defect(const char *format, ...)
{
    char text[1024], host[256] = "?";
    int rank = -1;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (0 != gethostname(host, sizeof(host) - 1)) {
        host[0] = '?';
    }
    fprintf(stderr, "DEFECT: rank %d on %s: %s\n", rank, host, text);
    MPI_Abort(MPI_COMM_WORLD, TEST_DEFECT);
    abort();
}

/** Ends the job with a defect when an MPI call did not succeed. */
static inline void test_mpi(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;

    if (MPI_SUCCESS == code) {
        return;
    }
    MPI_Error_string(code, text, &length);
    test_defect("%s: %.*s", what, length, text);
}

/** Allocates or ends the job; 0 bytes give a pointer that can be freed. */
static inline void *test_alloc(size_t bytes)
{
    void *block = malloc(0 == bytes ? 1 : bytes);

    if (NULL == block) {
        test_defect("no memory for %zu bytes", bytes);
    }
    return block;
}

/** The number behind an option; anything else than a decimal number in [low, high] ends the program with code 2. */
static inline long test_number(const char *option, const char *text, long low, long high)
{
    char *end = NULL;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (0 != errno || end == text || '\0' != *end || value < low || value > high) {
        fprintf(stderr, "--%s: %s is not a number from %ld to %ld\n", option, text, low, high);
        exit(TEST_USAGE);
    }
    return value;
}

/** Whether a file is there; no path means no. A failure other than "not there" is a defect. */
static inline bool test_exists(const char *path)
{
    if (NULL == path) {
        return false;
    }
    if (0 == access(path, F_OK)) {
        return true;
    }
    if (ENOENT != errno) {
        test_defect("%s: %s", path, strerror(errno));
    }
    return false;
}

/**
 * Lets time pass inside MPI: drives progress until the given number of microseconds has gone by. Every reading of
 * MPI_Wtime on the way has to be at least the one before, also across a move in the middle.
 */
static inline void test_pace(long microseconds)
{
    double start = MPI_Wtime(), last = start, now;
    int flag;

    if (0 == microseconds) {
        return;
    }
    do {
        test_mpi(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_SELF, &flag, MPI_STATUS_IGNORE), "MPI_Iprobe");
        now = MPI_Wtime();
        if (now < last) {
            test_defect("MPI_Wtime went back from %.9f to %.9f", last, now);
        }
        last = now;
    } while ((now - start) * 1e6 < (double)microseconds);
}

/** FNV-1a over some bytes, going on from an earlier hash (TEST_HASH_START in the beginning). */
static inline uint64_t test_hash(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *byte = data;

    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/** Collective over the communicator: its rank 0 prints one line, `HEAD, ranks on: 0@node 1@node ...`. */
static inline void test_print_places(MPI_Comm comm, const char *head)
{
    char name[MPI_MAX_PROCESSOR_NAME] = "", *all = NULL;
    int rank, size, length;

    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    test_mpi(MPI_Get_processor_name(name, &length), "MPI_Get_processor_name");
    if (0 == rank) {
        all = test_alloc((size_t)size * sizeof(name));
    }
    test_mpi(MPI_Gather(name, sizeof(name), MPI_CHAR, all, sizeof(name), MPI_CHAR, 0, comm), "MPI_Gather of the hosts");
    if (0 == rank) {
        printf("%s, ranks on:", head);
        for (int i = 0; i < size; i++) {
            printf(" %d@%s", i, all + (size_t)i * sizeof(name));
        }
        printf("\n");
        fflush(stdout);
        free(all);
    }
}

#endif
