/*
 * Neighbourhood collectives of the storm, on a grid and on a distributed graph.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include "storm.h"

#define DEGREE 4 /* neighbours at most, in and out */
#define MOST   500

/* A communicator with the neighbours of this rank in their order; MPI_PROC_NULL at the rim of the grid. */
struct topology {
    MPI_Comm comm;
    int rank, ins, outs;
    int from[DEGREE], to[DEGREE];
};

enum exchange { ALLGATHER, ALLGATHERV, ALLTOALL, ALLTOALLV, ALLTOALLW };

struct call {
    const struct topology *t;
    enum exchange kind;
    int n;
    uint64_t salt;
    int64_t *in, *out; /* DEGREE blocks of n elements each */
    int in_counts[DEGREE], in_places[DEGREE], out_counts[DEGREE], out_places[DEGREE];
    MPI_Aint in_bytes[DEGREE], out_bytes[DEGREE];
    MPI_Datatype types[DEGREE];
};

static struct topology grid, graph;

/* Not periodic: a neighbour is there once or not at all. */
static void make_grid(struct topology *t)
{
    int dims[2] = {0, 0}, periods[2] = {0, 0};

    test_mpi(MPI_Dims_create(storm.size, 2, dims), "MPI_Dims_create");
    test_mpi(MPI_Cart_create(MPI_COMM_WORLD, 2, dims, periods, 1, &t->comm), "MPI_Cart_create");
    test_mpi(MPI_Cart_shift(t->comm, 0, 1, &t->from[0], &t->from[1]), "MPI_Cart_shift");
    test_mpi(MPI_Cart_shift(t->comm, 1, 1, &t->from[2], &t->from[3]), "MPI_Cart_shift");
    memcpy(t->to, t->from, sizeof(t->to));
    t->ins = t->outs = 4;
}

/* One-way: to the ranks 1, 2 and 3 further on, as far as there are so many. */
static void make_graph(struct topology *t)
{
    int degree = storm.size - 1 < 3 ? storm.size - 1 : 3, weights[] = {1, 1, 1};

    t->ins = t->outs = degree;
    for (int i = 0; i < degree; i++) {
        t->to[i] = (storm.rank + i + 1) % storm.size;
        t->from[i] = (storm.rank + storm.size - i - 1) % storm.size;
    }
    test_mpi(MPI_Dist_graph_create_adjacent(MPI_COMM_WORLD, degree, t->from, weights, degree, t->to, weights,
                                            MPI_INFO_NULL, 0, &t->comm),
             "MPI_Dist_graph_create_adjacent");
}

void neighbour_start(void)
{
    make_grid(&grid);
    make_graph(&graph);
    MPI_Comm_rank(grid.comm, &grid.rank);
    MPI_Comm_rank(graph.comm, &graph.rank);
    test_mpi(MPI_Comm_set_errhandler(grid.comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    test_mpi(MPI_Comm_set_errhandler(graph.comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

void neighbour_finish(void)
{
    test_mpi(MPI_Comm_free(&graph.comm), "MPI_Comm_free");
    test_mpi(MPI_Comm_free(&grid.comm), "MPI_Comm_free");
}

/* What goes from one rank to another: the same to all in an allgather. */
static int64_t value(const struct call *c, int from, int to, int index)
{
    return coll_value(c->salt + (c->kind < ALLTOALL ? 0 : (uint64_t)to + 1), from, index);
}

static bool counted(const struct call *c)
{
    return ALLGATHERV == c->kind || c->kind > ALLTOALL;
}

static int count_of(const struct call *c, int from, int to)
{
    if (!counted(c)) {
        return c->n;
    }
    return (int)(mix(c->salt ^ ((uint64_t)from << 20) ^ (c->kind < ALLTOALL ? 0 : (uint64_t)to)) %
                 (uint64_t)(c->n + 1));
}

static void call_open(struct call *c, const struct topology *t, enum exchange kind, uint64_t salt)
{
    *c = (struct call){.t = t, .kind = kind, .salt = salt, .n = 1 + (int)(salt % MOST)};
    c->in = test_alloc((size_t)(c->n * DEGREE) * sizeof(int64_t));
    c->out = test_alloc((size_t)(c->n * DEGREE) * sizeof(int64_t));
    for (int i = 0; i < DEGREE; i++) {
        c->types[i] = MPI_INT64_T;
        c->in_places[i] = c->out_places[i] = i * c->n;
        c->in_bytes[i] = c->out_bytes[i] = (MPI_Aint)(i * c->n) * (MPI_Aint)sizeof(int64_t);
    }
    for (int i = 0; i < t->outs; i++) {
        c->in_counts[i] = count_of(c, t->rank, t->to[i]);
        for (int j = 0; j < c->n; j++) {
            c->in[i * c->n + j] = value(c, t->rank, t->to[i], j);
        }
    }
    for (int i = 0; i < t->ins; i++) {
        c->out_counts[i] = MPI_PROC_NULL == t->from[i] ? 0 : count_of(c, t->from[i], t->rank);
    }
    for (int i = 0; i < c->n * DEGREE; i++) {
        c->out[i] = INT64_MIN;
    }
}

/* Checks every element, also that what had not to be written was not. */
static void call_close(struct call *c)
{
    for (int i = 0; i < c->t->ins; i++) {
        int from = c->t->from[i];

        for (int j = 0; j < c->n; j++) {
            int64_t expected =
                j < c->out_counts[i] && MPI_PROC_NULL != from ? value(c, from, c->t->rank, j) : INT64_MIN;

            if (expected != c->out[i * c->n + j]) {
                storm_defect(CORRUPTED, "rank %d -> %d of the %s: element %d of %d is %" PRId64 ", not %" PRId64, from,
                             c->t->rank, c->t == &grid ? "grid" : "graph", j, c->out_counts[i], c->out[i * c->n + j],
                             expected);
            }
        }
    }
    storm.messages++;
    storm.bytes += (uint64_t)(c->n * DEGREE) * sizeof(int64_t);
    free(c->in);
    free(c->out);
}

static int call_block(struct call *c)
{
    MPI_Comm comm = c->t->comm;

    switch (c->kind) {
    case ALLGATHER: return MPI_Neighbor_allgather(c->in, c->n, MPI_INT64_T, c->out, c->n, MPI_INT64_T, comm);
    case ALLGATHERV:
        return MPI_Neighbor_allgatherv(c->in, count_of(c, c->t->rank, 0), MPI_INT64_T, c->out, c->out_counts,
                                       c->out_places, MPI_INT64_T, comm);
    case ALLTOALL: return MPI_Neighbor_alltoall(c->in, c->n, MPI_INT64_T, c->out, c->n, MPI_INT64_T, comm);
    case ALLTOALLV:
        return MPI_Neighbor_alltoallv(c->in, c->in_counts, c->in_places, MPI_INT64_T, c->out, c->out_counts,
                                      c->out_places, MPI_INT64_T, comm);
    default:
        return MPI_Neighbor_alltoallw(c->in, c->in_counts, c->in_bytes, c->types, c->out, c->out_counts, c->out_bytes,
                                      c->types, comm);
    }
}

static int call_start(struct call *c, MPI_Request *r)
{
    MPI_Comm comm = c->t->comm;

    switch (c->kind) {
    case ALLGATHER: return MPI_Ineighbor_allgather(c->in, c->n, MPI_INT64_T, c->out, c->n, MPI_INT64_T, comm, r);
    case ALLGATHERV:
        return MPI_Ineighbor_allgatherv(c->in, count_of(c, c->t->rank, 0), MPI_INT64_T, c->out, c->out_counts,
                                        c->out_places, MPI_INT64_T, comm, r);
    case ALLTOALL: return MPI_Ineighbor_alltoall(c->in, c->n, MPI_INT64_T, c->out, c->n, MPI_INT64_T, comm, r);
    case ALLTOALLV:
        return MPI_Ineighbor_alltoallv(c->in, c->in_counts, c->in_places, MPI_INT64_T, c->out, c->out_counts,
                                       c->out_places, MPI_INT64_T, comm, r);
    default:
        return MPI_Ineighbor_alltoallw(c->in, c->in_counts, c->in_bytes, c->types, c->out, c->out_counts, c->out_bytes,
                                       c->types, comm, r);
    }
}

static void run_blocking(int kind)
{
    struct call c;

    storm.step = "a neighbourhood collective";
    call_open(&c, draw(&storm.random, 2) ? &grid : &graph, (enum exchange)kind,
              (uint64_t)draw(&storm.random, 1L << 40));
    test_mpi(call_block(&c), "a neighbourhood collective");
    call_close(&c);
}

/* Both topologies at a time, and messages in between. */
static void run_nonblocking(int kind)
{
    struct call c[2];
    MPI_Request requests[2];
    MPI_Status statuses[2];

    call_open(&c[0], &grid, (enum exchange)kind, (uint64_t)draw(&storm.random, 1L << 40));
    call_open(&c[1], &graph, (enum exchange)kind, (uint64_t)draw(&storm.random, 1L << 40));
    test_mpi(call_start(&c[0], &requests[0]), "a non-blocking neighbourhood collective");
    test_mpi(call_start(&c[1], &requests[1]), "a non-blocking neighbourhood collective");
    window_exchange(storm.plain, SIZES_MIX, &storm.random, 4);
    storm_waitall(2, requests, statuses, "MPI_Waitall of neighbourhood collectives");
    call_close(&c[0]);
    call_close(&c[1]);
}

const struct kind neighbour_kinds[] = {
    {"neighbor_allgather", run_blocking, ALLGATHER, NEED_NOTHING},
    {"neighbor_allgatherv", run_blocking, ALLGATHERV, NEED_NOTHING},
    {"neighbor_alltoall", run_blocking, ALLTOALL, NEED_NOTHING},
    {"neighbor_alltoallv", run_blocking, ALLTOALLV, NEED_NOTHING},
    {"neighbor_alltoallw", run_blocking, ALLTOALLW, NEED_NOTHING},
    {"ineighbor_allgather", run_nonblocking, ALLGATHER, NEED_NOTHING},
    {"ineighbor_allgatherv", run_nonblocking, ALLGATHERV, NEED_NOTHING},
    {"ineighbor_alltoall", run_nonblocking, ALLTOALL, NEED_NOTHING},
    {"ineighbor_alltoallv", run_nonblocking, ALLTOALLV, NEED_NOTHING},
    {"ineighbor_alltoallw", run_nonblocking, ALLTOALLW, NEED_NOTHING},
    {NULL, NULL, 0, NEED_NOTHING},
};
