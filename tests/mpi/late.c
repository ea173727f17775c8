/*
 * Ranks that get to know each other late. As long as the brake is there each talks to one partner only; afterwards
 * everybody talks to everybody, and then all talk to a job that they spawn, whose ranks know none of them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include "common.h"

#define CHILDREN 2
#define LONGEST  300000

static long value_of(int from, int to, long round, long at)
{
    return (long)from * 1000003 + (long)to * 10007 + round * 101 + at;
}

/* Sends and receives `count` numbers with a peer of the communicator, and checks them. */
static void exchange(MPI_Comm comm, int me, int peer, long round, int count)
{
    long *out = calloc((size_t)count + 1, sizeof(long)), *in = calloc((size_t)count + 1, sizeof(long));

    if (NULL == out || NULL == in) {
        test_defect("no memory for %d numbers", count);
    }
    for (int i = 0; i < count; i++) {
        out[i] = value_of(me, peer, round, i);
        in[i] = -1;
    }
    test_mpi(MPI_Sendrecv(out, count, MPI_LONG, peer, 3, in, count, MPI_LONG, peer, 3, comm, MPI_STATUS_IGNORE),
             "MPI_Sendrecv");
    for (int i = 0; i < count; i++) {
        if (in[i] != value_of(peer, me, round, i)) {
            test_defect("round %ld, from %d: element %d is %ld, not %ld", round, peer, i, in[i],
                        value_of(peer, me, round, i));
        }
    }
    free(out);
    free(in);
}

/* Pairs meet in the order of the sum of their ranks, so nobody waits in a circle. */
static void all_with_all(MPI_Comm comm, long round)
{
    static const int counts[] = {0, 1, 400, 9000, LONGEST};
    int me, size;

    MPI_Comm_rank(comm, &me);
    MPI_Comm_size(comm, &size);
    for (int sum = 0; sum < 2 * size; sum++) {
        int peer = sum - me;

        if (0 <= peer && size > peer && me != peer) {
            for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
                exchange(comm, me, peer, round, counts[i]);
            }
        }
    }
}

/* The line is printed by the pair of rank 0: a collective would make more ranks known to each other. */
static void talk_in_pairs(const char *brake)
{
    char node[MPI_MAX_PROCESSOR_NAME];
    int me, size, length, go_on = 1;
    MPI_Comm pair;

    MPI_Comm_rank(MPI_COMM_WORLD, &me);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (0 != size % 2) {
        test_defect("an even number of ranks is needed, not %d", size);
    }
    pair = MPI_COMM_WORLD;
    for (long round = 1; go_on; round++) {
        exchange(pair, me, me ^ 1, round, 100);
        if (0 == me % 2) {
            go_on = test_exists(brake);
            test_mpi(MPI_Send(&go_on, 1, MPI_INT, me + 1, 4, pair), "MPI_Send");
        } else {
            test_mpi(MPI_Recv(&go_on, 1, MPI_INT, me - 1, 4, pair, MPI_STATUS_IGNORE), "MPI_Recv");
        }
        if (0 == round % 20) {
            test_mpi(MPI_Get_processor_name(node, &length), "MPI_Get_processor_name");
            printf("late: rank %d round %ld on %s\n", me, round, node);
            fflush(stdout);
        }
        test_pace(5000);
    }
}

static void child(MPI_Comm parents)
{
    MPI_Comm all;

    test_mpi(MPI_Intercomm_merge(parents, 1, &all), "MPI_Intercomm_merge");
    all_with_all(all, 2);
    test_mpi(MPI_Barrier(all), "MPI_Barrier");
    MPI_Comm_free(&all);
    MPI_Comm_disconnect(&parents);
}

static void with_children(char *program)
{
    MPI_Comm children, all;

    test_mpi(MPI_Comm_spawn(program, MPI_ARGV_NULL, CHILDREN, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &children,
                            MPI_ERRCODES_IGNORE),
             "MPI_Comm_spawn");
    test_mpi(MPI_Intercomm_merge(children, 0, &all), "MPI_Intercomm_merge");
    all_with_all(all, 2);
    test_mpi(MPI_Barrier(all), "MPI_Barrier");
    MPI_Comm_free(&all);
    MPI_Comm_disconnect(&children);
}

int main(int argc, char **argv)
{
    MPI_Comm parents;
    int rank;

    MPI_Init(&argc, &argv);
    MPI_Comm_get_parent(&parents);
    if (MPI_COMM_NULL != parents) {
        child(parents);
        MPI_Finalize();
        return 0;
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    talk_in_pairs(1 < argc ? argv[1] : NULL);
    all_with_all(MPI_COMM_WORLD, 1);
    test_print_places(MPI_COMM_WORLD, "late: all");
    with_children(argv[0]);
    if (0 == rank) {
        printf("late: ok\n");
    }
    MPI_Finalize();
    return 0;
}
