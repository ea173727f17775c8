/*
 * Two spawned jobs that know each other by a port only. They connect, talk, disconnect and connect again, for as long
 * as the brake is there; their parents look on. Every message carries its sender, its round and a pattern. The servers
 * wait for clients for as long as the gate is there.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include "common.h"
#include "pattern.h"

#define CHILDREN 2
#define ROUNDS   20 /* from one connection to the next disconnection */
#define LONGEST  300000

static const char *const servers = "servers", *const clients = "clients";

static uint64_t key_of(int from, int to, long round)
{
    return (uint64_t)round * 1000003 + (uint64_t)from * 101 + (uint64_t)to;
}

/* Everybody to a neighbour whose distance changes with the round, so that each pair is used in turn. */
static void exchange(MPI_Comm all, long round)
{
    static char out[LONGEST], in[LONGEST];
    const int bytes = (int)(round * 7919 % LONGEST) >> (round % 3 * 5);
    int rank, size, distance, from, to, got;
    uint64_t sum;
    MPI_Status status;

    MPI_Comm_rank(all, &rank);
    MPI_Comm_size(all, &size);
    distance = 1 + (int)(round % (size - 1));
    to = (rank + distance) % size;
    from = (rank + size - distance) % size;
    (void)fill_payload(out, bytes, key_of(rank, to, round));
    test_mpi(MPI_Sendrecv(out, bytes, MPI_BYTE, to, 1, in, bytes, MPI_BYTE, from, 1, all, &status), "MPI_Sendrecv");
    MPI_Get_count(&status, MPI_BYTE, &got);
    if (got != bytes || -1 != check_payload(in, bytes, key_of(from, rank, round), &sum)) {
        test_defect("round %ld: %d of %d bytes from %d, not those that were sent", round, got, bytes, from);
    }
}

/* @return whether there is to be another connection */
static int talk(MPI_Comm all, long *round, const char *brake)
{
    char head[64];
    int rank, go = 0;

    for (int i = 0; i < ROUNDS; i++) {
        exchange(all, (*round)++);
        test_pace(3000);
    }
    snprintf(head, sizeof(head), "ports: round %ld", *round);
    test_print_places(all, head);
    MPI_Comm_rank(all, &rank);
    if (0 == rank) {
        go = test_exists(brake);
    }
    test_mpi(MPI_Bcast(&go, 1, MPI_INT, 0, all), "MPI_Bcast");
    return go;
}

/* The first of the servers opens the port; the first parent passes its name on to the first of the clients. */
static void agree_on_port(MPI_Comm parents, bool serves, char *port)
{
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (0 == rank && serves) {
        test_mpi(MPI_Open_port(MPI_INFO_NULL, port), "MPI_Open_port");
        test_mpi(MPI_Send(port, MPI_MAX_PORT_NAME, MPI_CHAR, 0, 1, parents), "MPI_Send of the port");
    } else if (0 == rank) {
        test_mpi(MPI_Recv(port, MPI_MAX_PORT_NAME, MPI_CHAR, 0, 1, parents, MPI_STATUS_IGNORE), "MPI_Recv of the port");
    }
}

/* The clients stay inside MPI, the servers wait for them. */
static void wait_at_gate(const char *gate)
{
    int there = 1;

    while (there) {
        test_pace(3000);
        there = test_exists(gate);
        test_mpi(MPI_Bcast(&there, 1, MPI_INT, 0, MPI_COMM_WORLD), "MPI_Bcast of the gate");
    }
}

static void child(MPI_Comm parents, bool serves, const char *brake, const char *gate)
{
    char port[MPI_MAX_PORT_NAME];
    MPI_Comm between, all;
    long round = 0, connections = 0;
    int go = 1, rank;

    agree_on_port(parents, serves, port);
    if (!serves) {
        wait_at_gate(gate);
    }
    while (go) {
        if (serves) {
            test_mpi(MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &between), "MPI_Comm_accept");
        } else {
            test_mpi(MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &between), "MPI_Comm_connect");
        }
        test_mpi(MPI_Intercomm_merge(between, !serves, &all), "MPI_Intercomm_merge");
        connections++;
        go = talk(all, &round, brake);
        test_mpi(MPI_Comm_free(&all), "MPI_Comm_free");
        test_mpi(MPI_Comm_disconnect(&between), "MPI_Comm_disconnect");
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (0 == rank && serves) {
        test_mpi(MPI_Close_port(port), "MPI_Close_port");
        printf("ports: connections=%ld\n", connections);
        fflush(stdout);
    }
    test_mpi(MPI_Barrier(parents), "MPI_Barrier with the parents");
    test_mpi(MPI_Comm_disconnect(&parents), "MPI_Comm_disconnect from the parents");
}

static MPI_Comm spawn(char **argv, const char *role)
{
    char *arguments[] = {(char *)(uintptr_t)role, argv[1], argv[2], NULL};
    MPI_Comm children;

    test_mpi(
        MPI_Comm_spawn(argv[0], arguments, CHILDREN, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &children, MPI_ERRCODES_IGNORE),
        "MPI_Comm_spawn");
    return children;
}

static void parent(char **argv)
{
    MPI_Comm to_servers = spawn(argv, servers), to_clients = spawn(argv, clients);
    char port[MPI_MAX_PORT_NAME];
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (0 == rank) {
        test_mpi(MPI_Recv(port, sizeof(port), MPI_CHAR, 0, 1, to_servers, MPI_STATUS_IGNORE), "MPI_Recv of the port");
        test_mpi(MPI_Send(port, sizeof(port), MPI_CHAR, 0, 1, to_clients), "MPI_Send of the port");
    }
    test_mpi(MPI_Barrier(to_servers), "MPI_Barrier with the servers");
    test_mpi(MPI_Barrier(to_clients), "MPI_Barrier with the clients");
    test_mpi(MPI_Comm_disconnect(&to_servers), "MPI_Comm_disconnect");
    test_mpi(MPI_Comm_disconnect(&to_clients), "MPI_Comm_disconnect");
    if (0 == rank) {
        printf("ports: ok\n");
    }
}

int main(int argc, char **argv)
{
    MPI_Comm parents;

    test_mpi(MPI_Init(&argc, &argv), "MPI_Init");
    if (3 > argc) {
        fprintf(stderr, "usage: ports BRAKE GATE\n");
        return TEST_USAGE;
    }
    test_mpi(MPI_Comm_get_parent(&parents), "MPI_Comm_get_parent");
    if (MPI_COMM_NULL == parents) {
        parent(argv);
    } else {
        child(parents, 0 == strcmp(argv[1], servers), argv[2], argv[3]);
    }
    test_mpi(MPI_Finalize(), "MPI_Finalize");
    return 0;
}
