/*
 * A job and the job that it spawns, talking in changing pairs; every message carries its sender and round.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include <getopt.h>

#include "common.h"

#define CHILDREN 2

/* Before anybody spawns; the children find the gate open. */
static void wait_at_gate(const char *gate)
{
    if (NULL != gate) {
        printf("spawn: at the gate\n");
        fflush(stdout);
    }
    while (test_exists(gate)) {
        test_pace(5000);
    }
}

/* The communicator of parents and children. */
static MPI_Comm join(char **argv)
{
    MPI_Comm parent, between, all;

    test_mpi(MPI_Comm_get_parent(&parent), "MPI_Comm_get_parent");
    between = parent;
    if (MPI_COMM_NULL == parent) {
        test_mpi(MPI_Comm_spawn(argv[0], argv + 1, CHILDREN, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &between,
                                MPI_ERRCODES_IGNORE),
                 "MPI_Comm_spawn");
    }
    test_mpi(MPI_Intercomm_merge(between, MPI_COMM_NULL != parent, &all), "MPI_Intercomm_merge");
    test_mpi(MPI_Comm_disconnect(&between), "MPI_Comm_disconnect");
    return all;
}

/* Everybody to a neighbour whose distance changes with the round, so that each pair is used in turn. */
static void exchange(MPI_Comm all, long round)
{
    int rank, size, distance;
    long out[2], in[2] = {-1, -1};

    MPI_Comm_rank(all, &rank);
    MPI_Comm_size(all, &size);
    distance = 1 + (int)(round % (size - 1));
    out[0] = rank;
    out[1] = round;
    test_mpi(MPI_Sendrecv(out, 2, MPI_LONG, (rank + distance) % size, 1, in, 2, MPI_LONG,
                          (rank + size - distance) % size, 1, all, MPI_STATUS_IGNORE),
             "MPI_Sendrecv");
    if (in[0] != (rank + size - distance) % size || in[1] != round) {
        test_defect("round %ld: got rank %ld, round %ld", round, in[0], in[1]);
    }
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"brake", 1, NULL, 'b'}, {"gate", 1, NULL, 'g'}, {NULL, 0, NULL, 0}};
    const char *brake = NULL, *gate = NULL;
    char head[64];
    MPI_Comm all;
    long round = 0;
    int c, go = 1, rank;

    test_mpi(MPI_Init(&argc, &argv), "MPI_Init");
    while (-1 != (c = getopt_long(argc, argv, "", names, NULL))) {
        brake = ('b' == c) ? optarg : brake;
        gate = ('g' == c) ? optarg : gate;
    }
    wait_at_gate(gate);
    all = join(argv);
    MPI_Comm_rank(all, &rank);
    while (go) {
        exchange(all, round++);
        test_pace(5000);
        if (0 == round % 10) {
            snprintf(head, sizeof(head), "spawn: round %ld", round);
            test_print_places(all, head);
        }
        go = test_exists(brake);
        test_mpi(MPI_Bcast(&go, 1, MPI_INT, 0, all), "MPI_Bcast");
    }
    if (0 == rank) {
        printf("spawn: ok rounds=%ld\n", round);
    }
    test_mpi(MPI_Comm_free(&all), "MPI_Comm_free");
    test_mpi(MPI_Finalize(), "MPI_Finalize");
    return 0;
}
