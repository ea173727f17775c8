/*
 * One-sided communication and MPI-IO, each result checked: put, get, accumulate under fences and locks, a common file.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include <getopt.h>

#include "common.h"

#define COUNT 20000

struct state {
    int rank, size, left, right;
    long *window_memory, *out, *in, counter;
    MPI_Win window, counter_window;
    MPI_File file;
};

static long value(long round, int rank, long index)
{
    return round * 1000003 + (long)rank * 7919 + index;
}

static void fill(long *data, long round, int rank)
{
    for (long i = 0; i < COUNT; i++) {
        data[i] = value(round, rank, i);
    }
}

static void check(const long *data, long round, int rank, const char *what)
{
    for (long i = 0; i < COUNT; i++) {
        if (data[i] != value(round, rank, i)) {
            test_defect("%s in round %ld: element %ld is %ld, not %ld", what, round, i, data[i], value(round, rank, i));
        }
    }
}

static void start(struct state *s, const char *dir)
{
    char path[4096];

    MPI_Comm_rank(MPI_COMM_WORLD, &s->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &s->size);
    s->right = (s->rank + 1) % s->size;
    s->left = (s->rank + s->size - 1) % s->size;
    s->out = test_alloc(COUNT * sizeof(long));
    s->in = test_alloc(COUNT * sizeof(long));
    s->counter = 0;
    test_mpi(MPI_Win_allocate(COUNT * sizeof(long), sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &s->window_memory,
                              &s->window),
             "MPI_Win_allocate");
    test_mpi(MPI_Win_create(&s->counter, sizeof(long), sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &s->counter_window),
             "MPI_Win_create");
    snprintf(path, sizeof(path), "%s/common.dat", dir);
    test_mpi(MPI_File_open(MPI_COMM_WORLD, path, MPI_MODE_CREATE | MPI_MODE_RDWR, MPI_INFO_NULL, &s->file),
             "MPI_File_open");
}

static void put_and_get(struct state *s, long round)
{
    test_mpi(MPI_Win_fence(0, s->window), "MPI_Win_fence");
    test_mpi(MPI_Put(s->out, COUNT, MPI_LONG, s->right, 0, COUNT, MPI_LONG, s->window), "MPI_Put");
    test_mpi(MPI_Win_fence(0, s->window), "MPI_Win_fence");
    check(s->window_memory, round, s->left, "what was put");
    test_mpi(MPI_Win_fence(0, s->window), "MPI_Win_fence");
    test_mpi(MPI_Get(s->in, COUNT, MPI_LONG, s->right, 0, COUNT, MPI_LONG, s->window), "MPI_Get");
    test_mpi(MPI_Win_fence(0, s->window), "MPI_Win_fence");
    check(s->in, round, s->rank, "what was got");
}

static void count(struct state *s)
{
    long one = 1;

    test_mpi(MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, s->counter_window), "MPI_Win_lock");
    test_mpi(MPI_Accumulate(&one, 1, MPI_LONG, 0, 0, 1, MPI_LONG, MPI_SUM, s->counter_window), "MPI_Accumulate");
    test_mpi(MPI_Win_unlock(0, s->counter_window), "MPI_Win_unlock");
}

static void write_and_read(struct state *s, long round)
{
    MPI_Offset part = (MPI_Offset)COUNT * (MPI_Offset)sizeof(long);

    test_mpi(MPI_File_write_at_all(s->file, s->rank * part, s->out, COUNT, MPI_LONG, MPI_STATUS_IGNORE),
             "MPI_File_write_at_all");
    test_mpi(MPI_File_sync(s->file), "MPI_File_sync");
    test_mpi(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
    test_mpi(MPI_File_read_at_all(s->file, s->right * part, s->in, COUNT, MPI_LONG, MPI_STATUS_IGNORE),
             "MPI_File_read_at_all");
    check(s->in, round, s->right, "what was read");
    test_mpi(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
}

static void finish(struct state *s, long rounds)
{
    test_mpi(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
    test_mpi(MPI_Win_lock(MPI_LOCK_EXCLUSIVE, s->rank, 0, s->counter_window), "MPI_Win_lock");
    if (0 == s->rank && s->counter != rounds * s->size) {
        test_defect("the counter is %ld after %ld rounds of %d ranks", s->counter, rounds, s->size);
    }
    test_mpi(MPI_Win_unlock(s->rank, s->counter_window), "MPI_Win_unlock");
    test_mpi(MPI_File_close(&s->file), "MPI_File_close");
    test_mpi(MPI_Win_free(&s->counter_window), "MPI_Win_free");
    test_mpi(MPI_Win_free(&s->window), "MPI_Win_free");
    free(s->out);
    free(s->in);
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"brake", 1, NULL, 'b'}, {"dir", 1, NULL, 'd'}, {NULL, 0, NULL, 0}};
    const char *brake = NULL, *dir = ".";
    struct state s;
    char head[64];
    long round = 0;
    int c, go = 1;

    test_mpi(MPI_Init(&argc, &argv), "MPI_Init");
    while (-1 != (c = getopt_long(argc, argv, "", names, NULL))) {
        brake = ('b' == c) ? optarg : brake;
        dir = ('d' == c) ? optarg : dir;
    }
    start(&s, dir);
    while (go) {
        fill(s.out, round, s.rank);
        put_and_get(&s, round);
        count(&s);
        write_and_read(&s, round);
        snprintf(head, sizeof(head), "onesided: round %ld", ++round);
        test_print_places(MPI_COMM_WORLD, head);
        go = test_exists(brake);
        test_mpi(MPI_Bcast(&go, 1, MPI_INT, 0, MPI_COMM_WORLD), "MPI_Bcast");
    }
    finish(&s, round);
    if (0 == s.rank) {
        printf("onesided: ok rounds=%ld\n", round);
    }
    test_mpi(MPI_Finalize(), "MPI_Finalize");
    return 0;
}
