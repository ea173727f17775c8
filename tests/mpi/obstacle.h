/*
 * Things a rank can hold that keep it from moving, to see that a failed move leaves the job as it was.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#ifndef LPM_TESTS_MPI_OBSTACLE_H
#define LPM_TESTS_MPI_OBSTACLE_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

/** A TCP connection of the application's own, both ends in this process: CRIU refuses to dump it. */
static inline void test_hold_tcp(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);

    if (0 > server || 0 > client || 0 != bind(server, (struct sockaddr *)&address, length) || 0 != listen(server, 1) ||
        0 != getsockname(server, (struct sockaddr *)&address, &length) ||
        0 != connect(client, (struct sockaddr *)&address, length) || 0 > accept(server, NULL, NULL)) {
        test_defect("no TCP connection to itself: %s", strerror(errno));
    }
    close(server);
}

/** A file that the other nodes do not have: CRIU cannot restore it there. */
static inline void test_hold_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);

    if (0 > fd || 1 != write(fd, "x", 1)) {
        test_defect("%s: %s", path, strerror(errno));
    }
}

/** Collective: memory that the ranks of a node share. Freed by MPI_Finalize's end of the process. */
static inline void test_hold_window(void)
{
    MPI_Comm node;
    MPI_Win window;
    char *memory;

    test_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node), "MPI_Comm_split_type");
    test_mpi(MPI_Win_allocate_shared(4096, 1, MPI_INFO_NULL, node, &memory, &window), "MPI_Win_allocate_shared");
    memory[0] = 1;
}

/** Collective: a communicator of the ranks of a node whose collectives are coll/sm's, if that has the priority. */
static inline void test_hold_coll_sm(void)
{
    MPI_Comm node;

    test_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node), "MPI_Comm_split_type");
    test_mpi(MPI_Barrier(node), "MPI_Barrier");
}

/** `tcp`, `file:PATH`, or, in all ranks, `window`, `coll_sm`; NULL is none. Held until the process ends. */
static inline void test_obstacle(const char *kind)
{
    if (NULL == kind) {
        return;
    }
    if (0 == strcmp("window", kind)) {
        test_hold_window();
    } else if (0 == strcmp("coll_sm", kind)) {
        test_hold_coll_sm();
    } else if (0 == strcmp("tcp", kind)) {
        test_hold_tcp();
    } else if (0 == strncmp("file:", kind, 5)) {
        test_hold_file(kind + 5);
    } else {
        fprintf(stderr, "--obstacle: %s is none of tcp, file:PATH, window, coll_sm\n", kind);
        exit(TEST_USAGE);
    }
}

#endif /* LPM_TESTS_MPI_OBSTACLE_H */
