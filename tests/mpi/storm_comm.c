/*
 * Communicators that come and go during the storm, each with traffic of its own as long as it lives.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include "storm.h"

#define SLOTS    5 /* communicators that live on beyond their round */
#define MOST     4
#define TAG_BASE 1000

enum make { DUP, IDUP, SPLIT, SPLIT_TYPE, CREATE, CREATE_GROUP, CART, GRAPH, DIST_GRAPH, INTER };

static struct channel *slots[SLOTS];

static MPI_Comm make_idup(void)
{
    MPI_Comm comm;
    MPI_Request request;
    MPI_Status status;

    test_mpi(MPI_Comm_idup(MPI_COMM_WORLD, &comm, &request), "MPI_Comm_idup");
    window_exchange(storm.plain, SIZES_MIX, &storm.random, MOST);
    storm_waitall(1, &request, &status, "MPI_Wait of MPI_Comm_idup");
    return comm;
}

static MPI_Comm make_split(void)
{
    MPI_Comm comm;
    int parts = 1 + (int)draw(&storm.random, 3), reverse = (int)draw(&storm.random, 2);

    test_mpi(MPI_Comm_split(MPI_COMM_WORLD, storm.rank % parts, reverse ? -storm.rank : storm.rank, &comm),
             "MPI_Comm_split");
    return comm;
}

/* The ranks from `first` on; MPI_COMM_NULL for the others. */
static MPI_Comm make_part(bool by_group)
{
    MPI_Comm comm = MPI_COMM_NULL;
    MPI_Group world, part;
    int first = (int)draw(&storm.random, storm.size), ranges[1][3] = {{first, storm.size - 1, 1}};

    test_mpi(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
    test_mpi(MPI_Group_range_incl(world, 1, ranges, &part), "MPI_Group_range_incl");
    if (!by_group) {
        test_mpi(MPI_Comm_create(MPI_COMM_WORLD, part, &comm), "MPI_Comm_create");
    } else if (storm.rank >= first) {
        test_mpi(MPI_Comm_create_group(MPI_COMM_WORLD, part, (int)(storm.round % TAG_BASE), &comm),
                 "MPI_Comm_create_group");
    }
    MPI_Group_free(&part);
    MPI_Group_free(&world);
    return comm;
}

static MPI_Comm make_cart(void)
{
    MPI_Comm comm;
    int dims[2] = {0, 0}, periods[2] = {1, 0};

    test_mpi(MPI_Dims_create(storm.size, 2, dims), "MPI_Dims_create");
    test_mpi(MPI_Cart_create(MPI_COMM_WORLD, 2, dims, periods, 1, &comm), "MPI_Cart_create");
    return comm;
}

/* A ring; with two ranks the edge to the next is the one to the last. */
static MPI_Comm make_graph(void)
{
    MPI_Comm comm;
    int *index = test_alloc((size_t)storm.size * sizeof(int)),
        *edges = test_alloc(2 * (size_t)storm.size * sizeof(int));

    for (int i = 0; i < storm.size; i++) {
        index[i] = 2 * (i + 1);
        edges[2 * i] = (i + 1) % storm.size;
        edges[2 * i + 1] = (i + storm.size - 1) % storm.size;
    }
    test_mpi(MPI_Graph_create(MPI_COMM_WORLD, storm.size, index, edges, 0, &comm), "MPI_Graph_create");
    free(index);
    free(edges);
    return comm;
}

/* Every rank names edges of its left neighbour, so that they have to be exchanged. */
static MPI_Comm make_dist_graph(void)
{
    MPI_Comm comm;
    int source = (storm.rank + 1) % storm.size, degree = storm.size > 2 ? 2 : 1;
    int targets[2] = {storm.rank, (source + 1) % storm.size}, weights[2] = {1, 1};

    test_mpi(MPI_Dist_graph_create(MPI_COMM_WORLD, 1, &source, &degree, targets, weights, MPI_INFO_NULL, 0, &comm),
             "MPI_Dist_graph_create");
    return comm;
}

/* Even ranks and odd ones. */
static MPI_Comm make_inter(void)
{
    MPI_Comm half, comm;
    int side = storm.rank % 2;

    test_mpi(MPI_Comm_split(MPI_COMM_WORLD, side, storm.rank, &half), "MPI_Comm_split");
    test_mpi(MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, 1 - side, TAG_NEVER, &comm), "MPI_Intercomm_create");
    test_mpi(MPI_Comm_free(&half), "MPI_Comm_free");
    return comm;
}

static MPI_Comm make(enum make how)
{
    MPI_Comm comm = MPI_COMM_NULL;

    storm.step = "making a communicator";
    switch (how) {
    case DUP: test_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup"); return comm;
    case IDUP: return make_idup();
    case SPLIT: return make_split();
    case SPLIT_TYPE:
        test_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, storm.rank, MPI_INFO_NULL, &comm),
                 "MPI_Comm_split_type");
        return comm;
    case CREATE: return make_part(false);
    case CREATE_GROUP: return make_part(true);
    case CART: return make_cart();
    case GRAPH: return make_graph();
    case DIST_GRAPH: return make_dist_graph();
    default: return make_inter();
    }
}

/* Collectives over an intercommunicator: each side gets what the other one gave. */
static void inter_collectives(struct channel *c)
{
    uint64_t salt = (uint64_t)draw(&storm.random, 1L << 40);
    int first = 1 - storm.rank % 2, root = MPI_PROC_NULL;
    int64_t mine = coll_value(salt, storm.rank, 0), sum = 0, expected = 0, word = coll_value(salt, 0, 1);

    storm.step = "collectives over an intercommunicator";
    test_mpi(MPI_Allreduce(&mine, &sum, 1, MPI_INT64_T, MPI_SUM, c->comm), "MPI_Allreduce of an intercommunicator");
    for (int i = first; i < storm.size; i += 2) {
        expected += coll_value(salt, i, 0);
    }
    if (sum != expected) {
        storm_defect(CORRUPTED, "MPI_Allreduce of an intercommunicator: %" PRId64 ", not %" PRId64, sum, expected);
    }
    if (0 == storm.rank % 2) {
        root = 0 == c->rank ? MPI_ROOT : MPI_PROC_NULL;
    } else {
        root = 0;
        word = -1;
    }
    test_mpi(MPI_Bcast(&word, 1, MPI_INT64_T, root, c->comm), "MPI_Bcast of an intercommunicator");
    if (coll_value(salt, 0, 1) != word) {
        storm_defect(CORRUPTED, "MPI_Bcast of an intercommunicator: %" PRId64, word);
    }
}

/* One communicator of both sides, which is used and freed at once. */
static void merge(struct channel *c)
{
    MPI_Comm comm;
    struct channel *merged;

    storm.step = "MPI_Intercomm_merge";
    test_mpi(MPI_Intercomm_merge(c->comm, storm.rank % 2, &comm), "MPI_Intercomm_merge");
    merged = channel_open(comm, mix(c->id), LONGEST);
    window_exchange(merged, SIZES_MIDDLE, &storm.random, MOST);
    channel_close(merged);
}

/* Messages and a collective; the numbers drawn are the same on all ranks of the communicator, and only there. */
static void use(struct channel *c)
{
    uint64_t random = (uint64_t)draw(&storm.random, 1L << 40);

    window_exchange(c, SIZES_MIDDLE, &random, MOST);
    if (!c->inter) {
        coll_end(coll_begin(c->comm, (int)draw(&random, COLL_OPERATIONS), random, NULL));
    }
}

static void run_make(int how)
{
    int slot = (int)draw(&storm.random, SLOTS);
    MPI_Comm comm;

    if (NULL != slots[slot]) {
        storm.step = "freeing a communicator";
        channel_close(slots[slot]);
        slots[slot] = NULL;
    }
    comm = make((enum make)how);
    if (MPI_COMM_NULL == comm) {
        return;
    }
    slots[slot] = channel_open(comm, mix(storm.seed ^ (uint64_t)storm.round), LONGEST);
    use(slots[slot]);
    if (INTER == how) {
        inter_collectives(slots[slot]);
        merge(slots[slot]);
    }
}

/* Traffic on all that have been made in rounds before. */
static void run_old(int unused)
{
    (void)unused;
    for (int i = 0; i < SLOTS; i++) {
        uint64_t random = storm.random; /* who is not in the communicator goes on with the same numbers */

        if (NULL != slots[i]) {
            use(slots[i]);
        }
        storm.random = mix(random);
    }
}

void comm_finish(void)
{
    for (int i = 0; i < SLOTS; i++) {
        if (NULL != slots[i]) {
            channel_close(slots[i]);
            slots[i] = NULL;
        }
    }
}

const struct kind comm_kinds[] = {
    {"comm_dup", run_make, DUP, NEED_NOTHING},
    {"comm_idup", run_make, IDUP, NEED_NOTHING},
    {"comm_split", run_make, SPLIT, NEED_NOTHING},
    {"comm_split_type", run_make, SPLIT_TYPE, NEED_NOTHING},
    {"comm_create", run_make, CREATE, NEED_NOTHING},
    {"comm_create_group", run_make, CREATE_GROUP, NEED_NOTHING},
    {"comm_cart", run_make, CART, NEED_NOTHING},
    {"comm_graph", run_make, GRAPH, NEED_NOTHING},
    {"comm_dist_graph", run_make, DIST_GRAPH, NEED_NOTHING},
    {"comm_inter", run_make, INTER, NEED_NOTHING},
    {"comm_old", run_old, 0, NEED_NOTHING},
    {NULL, NULL, 0, NEED_NOTHING},
};
