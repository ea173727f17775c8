/*
 * One-sided communication of the storm: put, get, accumulate under fences, PSCW and locks.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include "storm.h"

#define COUNT 3000 /* elements that one call moves at most */

/*
 * Two windows for active targets, one of memory of our own and one that MPI has allocated; and one for passive
 * targets, with a block per origin: [0] counts accumulates, [1] fetch-and-ops, the rest is put and got.
 */
static struct {
    MPI_Win win[3];
    int64_t *memory[3];
    int64_t *adds, *fetches; /* how often this rank has done it, by target */
} s;

enum { CREATED, ALLOCATED, PASSIVE };

#define BLOCK (COUNT + 2)

void onesided_start(void)
{
    MPI_Aint bytes = COUNT * (MPI_Aint)sizeof(int64_t),
             passive = (MPI_Aint)storm.size * BLOCK * (MPI_Aint)sizeof(int64_t);

    s.memory[CREATED] = test_alloc((size_t)bytes);
    s.memory[PASSIVE] = test_alloc((size_t)passive);
    memset(s.memory[PASSIVE], 0, (size_t)passive);
    s.adds = test_alloc((size_t)storm.size * sizeof(*s.adds));
    s.fetches = test_alloc((size_t)storm.size * sizeof(*s.fetches));
    memset(s.adds, 0, (size_t)storm.size * sizeof(*s.adds));
    memset(s.fetches, 0, (size_t)storm.size * sizeof(*s.fetches));
    test_mpi(MPI_Win_create(s.memory[CREATED], bytes, sizeof(int64_t), MPI_INFO_NULL, MPI_COMM_WORLD, &s.win[CREATED]),
             "MPI_Win_create");
    test_mpi(MPI_Win_allocate(bytes, sizeof(int64_t), MPI_INFO_NULL, MPI_COMM_WORLD, &s.memory[ALLOCATED],
                              &s.win[ALLOCATED]),
             "MPI_Win_allocate");
    test_mpi(
        MPI_Win_create(s.memory[PASSIVE], passive, sizeof(int64_t), MPI_INFO_NULL, MPI_COMM_WORLD, &s.win[PASSIVE]),
        "MPI_Win_create");
    test_mpi(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
}

void onesided_finish(void)
{
    for (int i = 0; i < 3; i++) {
        test_mpi(MPI_Win_free(&s.win[i]), "MPI_Win_free");
    }
    free(s.memory[CREATED]);
    free(s.memory[PASSIVE]);
    free(s.adds);
    free(s.fetches);
}

static void check(const int64_t *data, int count, uint64_t salt, int rank, const char *what)
{
    for (int i = 0; i < count; i++) {
        if (data[i] != coll_value(salt, rank, i)) {
            storm_defect(CORRUPTED, "%s: element %d of %d, from rank %d, is %" PRId64 ", not %" PRId64, what, i, count,
                         rank, data[i], coll_value(salt, rank, i));
        }
    }
    storm.messages++;
    storm.bytes += (uint64_t)count * sizeof(int64_t);
}

/* What a rank has to give in this round. */
static int64_t *contribution(uint64_t salt, int count)
{
    int64_t *data = test_alloc((size_t)count * sizeof(*data));

    for (int i = 0; i < count; i++) {
        data[i] = coll_value(salt, storm.rank, i);
    }
    return data;
}

/* A distance of at least 1, how much, and a number that all ranks have in common. */
static void plan(int *right, int *left, int *count, uint64_t *salt)
{
    int distance = 1 + (int)draw(&storm.random, storm.size - 1);

    *right = (storm.rank + distance) % storm.size;
    *left = (storm.rank + storm.size - distance) % storm.size;
    *count = 1 + (int)draw(&storm.random, COUNT);
    *salt = (uint64_t)draw(&storm.random, 1L << 40);
}

static void run_fence(int window)
{
    int right, left, count;
    uint64_t salt;
    int64_t *out, *in;
    MPI_Win win = s.win[window];

    plan(&right, &left, &count, &salt);
    out = contribution(salt, count);
    in = test_alloc((size_t)count * sizeof(*in));
    storm.step = "fences";
    test_mpi(MPI_Win_fence(0, win), "MPI_Win_fence");
    test_mpi(MPI_Put(out, count, MPI_INT64_T, right, 0, count, MPI_INT64_T, win), "MPI_Put");
    test_mpi(MPI_Win_fence(0, win), "MPI_Win_fence");
    check(s.memory[window], count, salt, left, "MPI_Put between fences");
    test_mpi(MPI_Get(in, count, MPI_INT64_T, right, 0, count, MPI_INT64_T, win), "MPI_Get");
    test_mpi(MPI_Win_fence(0, win), "MPI_Win_fence");
    check(in, count, salt, storm.rank, "MPI_Get between fences");
    free(in);
    free(out);
}

/* Everybody adds to one rank's memory. */
static void run_accumulate(int window)
{
    int right, left, count, target = (int)draw(&storm.random, storm.size);
    uint64_t salt;
    int64_t *out, *memory = s.memory[window];
    MPI_Win win = s.win[window];

    plan(&right, &left, &count, &salt);
    out = contribution(salt, count);
    storm.step = "fences around accumulates";
    test_mpi(MPI_Win_fence(0, win), "MPI_Win_fence");
    if (storm.rank == target) {
        memset(memory, 0, (size_t)count * sizeof(*memory));
    }
    test_mpi(MPI_Win_fence(0, win), "MPI_Win_fence");
    test_mpi(MPI_Accumulate(out, count, MPI_INT64_T, target, 0, count, MPI_INT64_T, MPI_SUM, win), "MPI_Accumulate");
    test_mpi(MPI_Win_fence(0, win), "MPI_Win_fence");
    for (int i = 0; storm.rank == target && i < count; i++) {
        for (int j = 0; j < storm.size; j++) {
            memory[i] -= coll_value(salt, j, i);
        }
        if (0 != memory[i]) {
            storm_defect(CORRUPTED, "MPI_Accumulate: element %d of %d is off by %" PRId64, i, count, memory[i]);
        }
    }
    storm.messages++;
    free(out);
}

static void run_pscw(int window)
{
    int right, left, count;
    uint64_t salt;
    int64_t *out;
    MPI_Group world, to, from;
    MPI_Win win = s.win[window];

    plan(&right, &left, &count, &salt);
    out = contribution(salt, count);
    test_mpi(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
    test_mpi(MPI_Group_incl(world, 1, &right, &to), "MPI_Group_incl");
    test_mpi(MPI_Group_incl(world, 1, &left, &from), "MPI_Group_incl");
    storm.step = "post, start, complete, wait";
    /* Fences before and after: this epoch and those of other kinds are apart. */
    test_mpi(MPI_Win_fence(0, win), "MPI_Win_fence");
    test_mpi(MPI_Win_fence(MPI_MODE_NOSUCCEED, win), "MPI_Win_fence");
    test_mpi(MPI_Win_post(from, 0, win), "MPI_Win_post");
    test_mpi(MPI_Win_start(to, 0, win), "MPI_Win_start");
    test_mpi(MPI_Put(out, count, MPI_INT64_T, right, 0, count, MPI_INT64_T, win), "MPI_Put");
    test_mpi(MPI_Win_complete(win), "MPI_Win_complete");
    test_mpi(MPI_Win_wait(win), "MPI_Win_wait");
    check(s.memory[window], count, salt, left, "MPI_Put between post and wait");
    MPI_Group_free(&from);
    MPI_Group_free(&to);
    MPI_Group_free(&world);
    free(out);
}

/* Puts under a lock and gets it back: nobody else writes this origin's block at the target. */
static void run_lock(int all)
{
    int right, left, count;
    uint64_t salt;
    MPI_Aint place = (MPI_Aint)storm.rank * BLOCK + 2;
    int64_t *out, *in;
    MPI_Win win = s.win[PASSIVE];

    plan(&right, &left, &count, &salt);
    out = contribution(salt, count);
    in = test_alloc((size_t)count * sizeof(*in));
    storm.step = "locks";
    if (all) {
        test_mpi(MPI_Win_lock_all(0, win), "MPI_Win_lock_all");
    } else {
        test_mpi(MPI_Win_lock(0 == salt % 2 ? MPI_LOCK_EXCLUSIVE : MPI_LOCK_SHARED, right, 0, win), "MPI_Win_lock");
    }
    test_mpi(MPI_Put(out, count, MPI_INT64_T, right, place, count, MPI_INT64_T, win), "MPI_Put");
    test_mpi(MPI_Win_flush(right, win), "MPI_Win_flush");
    test_mpi(MPI_Get(in, count, MPI_INT64_T, right, place, count, MPI_INT64_T, win), "MPI_Get");
    test_mpi(all ? MPI_Win_unlock_all(win) : MPI_Win_unlock(right, win), "MPI_Win_unlock");
    check(in, count, salt, storm.rank, "MPI_Put and MPI_Get under a lock");
    free(in);
    free(out);
}

/* Counts at the target: what it shows has to be how often this rank has done it. */
static void run_count(int unused)
{
    int right, left, count;
    uint64_t salt;
    MPI_Aint place = (MPI_Aint)storm.rank * BLOCK;
    int64_t one = 1, added = -1, fetched = -1;
    MPI_Win win = s.win[PASSIVE];

    (void)unused;
    plan(&right, &left, &count, &salt);
    storm.step = "counting under a lock";
    test_mpi(MPI_Win_lock(MPI_LOCK_SHARED, right, 0, win), "MPI_Win_lock");
    test_mpi(MPI_Accumulate(&one, 1, MPI_INT64_T, right, place, 1, MPI_INT64_T, MPI_SUM, win), "MPI_Accumulate");
    test_mpi(MPI_Win_flush(right, win), "MPI_Win_flush");
    test_mpi(MPI_Get(&added, 1, MPI_INT64_T, right, place, 1, MPI_INT64_T, win), "MPI_Get");
    test_mpi(MPI_Fetch_and_op(&one, &fetched, MPI_INT64_T, right, place + 1, MPI_SUM, win), "MPI_Fetch_and_op");
    test_mpi(MPI_Win_unlock(right, win), "MPI_Win_unlock");
    if (++s.adds[right] != added || s.fetches[right]++ != fetched) {
        storm_defect(added < s.adds[right] ? LOST : DOUBLED,
                     "rank %d has added %" PRId64 " times at %d and sees %" PRId64 "; fetched %" PRId64
                     " times, sees %" PRId64,
                     storm.rank, s.adds[right], right, added, s.fetches[right] - 1, fetched);
    }
    storm.messages++;
}

/* A window of one round. */
static void run_create(int allocate)
{
    int right, left, count;
    uint64_t salt;
    int64_t *out, *memory = NULL;
    MPI_Aint bytes = COUNT * (MPI_Aint)sizeof(int64_t);
    MPI_Win win;

    plan(&right, &left, &count, &salt);
    out = contribution(salt, count);
    storm.step = "a window of one round";
    if (allocate) {
        test_mpi(MPI_Win_allocate(bytes, sizeof(int64_t), MPI_INFO_NULL, MPI_COMM_WORLD, &memory, &win),
                 "MPI_Win_allocate");
    } else {
        memory = test_alloc((size_t)bytes);
        test_mpi(MPI_Win_create(memory, bytes, sizeof(int64_t), MPI_INFO_NULL, MPI_COMM_WORLD, &win), "MPI_Win_create");
    }
    test_mpi(MPI_Win_fence(MPI_MODE_NOPRECEDE, win), "MPI_Win_fence");
    test_mpi(MPI_Put(out, count, MPI_INT64_T, right, 0, count, MPI_INT64_T, win), "MPI_Put");
    test_mpi(MPI_Win_fence(MPI_MODE_NOSUCCEED, win), "MPI_Win_fence");
    check(memory, count, salt, left, "MPI_Put in a window of one round");
    test_mpi(MPI_Win_free(&win), "MPI_Win_free");
    if (!allocate) {
        free(memory);
    }
    free(out);
}

const struct kind onesided_kinds[] = {
    {"win_fence", run_fence, CREATED, NEED_ONESIDED},
    {"win_fence_allocated", run_fence, ALLOCATED, NEED_ONESIDED},
    {"win_accumulate", run_accumulate, CREATED, NEED_ONESIDED},
    {"win_accumulate_allocated", run_accumulate, ALLOCATED, NEED_ONESIDED},
    {"win_pscw", run_pscw, CREATED, NEED_ONESIDED},
    {"win_pscw_allocated", run_pscw, ALLOCATED, NEED_ONESIDED},
    {"win_lock", run_lock, 0, NEED_ONESIDED},
    {"win_lock_all", run_lock, 1, NEED_ONESIDED},
    {"win_count", run_count, 0, NEED_ONESIDED},
    {"win_create", run_create, 0, NEED_ONESIDED},
    {"win_allocate", run_create, 1, NEED_ONESIDED},
    {NULL, NULL, 0, NEED_NOTHING},
};
