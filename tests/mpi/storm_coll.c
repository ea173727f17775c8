/*
 * Collective operations of the storm: each blocking and not, with integer results that every rank can work out.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include "storm.h"

#define UNTOUCHED INT64_MIN
#define TOGETHER  3 /* non-blocking operations under way at a time, at most */

enum reduction { SUM, MAX, BXOR, REDUCTIONS };

struct coll {
    MPI_Comm comm;
    int rank, size, root, n;
    uint64_t salt;
    enum reduction reduction;
    long in_length, out_length;
    int64_t *in, *out;
    int *in_counts, *in_places, *out_counts, *out_places; /* in elements; in bytes where MPI wants that */
    MPI_Datatype *types;
    const struct operation *operation;
};

/* Starts it, or does it when there is no request; what has to be in `out` then, element by element. */
struct operation {
    const char *name;
    int most; /* elements per rank */
    void (*prepare)(struct coll *x);
    int (*start)(struct coll *x, MPI_Request *request);
    void (*check)(struct coll *x);
};

#define EITHER(request, blocking, nonblocking, ...)                                                                    \
    (NULL == (request) ? blocking(__VA_ARGS__) : nonblocking(__VA_ARGS__, request))

int64_t coll_value(uint64_t salt, int rank, long index)
{
    return (int64_t)(mix(salt ^ ((uint64_t)rank << 40) ^ (uint64_t)index) & 0xffffff);
}

static int64_t value(const struct coll *x, int rank, long index)
{
    return coll_value(x->salt, rank, index);
}

static MPI_Op op_of(const struct coll *x)
{
    return SUM == x->reduction ? MPI_SUM : MAX == x->reduction ? MPI_MAX : MPI_BXOR;
}

/* The reduction over the first `ranks` ranks. */
static int64_t reduced(const struct coll *x, int ranks, long index)
{
    int64_t result = value(x, 0, index);

    for (int i = 1; i < ranks; i++) {
        int64_t next = value(x, i, index);

        if (SUM == x->reduction) {
            result += next;
        } else if (MAX == x->reduction) {
            result = next > result ? next : result;
        } else {
            result ^= next;
        }
    }
    return result;
}

/* How much goes from one rank to another in the operations with counts. */
static int count_of(const struct coll *x, int from, int to)
{
    return (int)(mix(x->salt ^ 7 ^ ((uint64_t)from << 20) ^ (uint64_t)to) % (uint64_t)(x->n + 1));
}

static void expect(const struct coll *x, long place, int64_t expected)
{
    if (x->out[place] != expected) {
        storm_defect(CORRUPTED,
                     "%s of %d elements, root %d, on rank %d of %d: element %ld is %" PRId64 ", not %" PRId64,
                     x->operation->name, x->n, x->root, x->rank, x->size, place, x->out[place], expected);
    }
}

/* ---------------------------------------------------------------------- memory */

static void prepare(struct coll *x, long in_length, long out_length)
{
    x->in_length = in_length;
    x->out_length = out_length;
    x->in = test_alloc((size_t)in_length * sizeof(int64_t));
    x->out = test_alloc((size_t)out_length * sizeof(int64_t));
    for (long i = 0; i < in_length; i++) {
        x->in[i] = value(x, x->rank, i);
    }
    for (long i = 0; i < out_length; i++) {
        x->out[i] = UNTOUCHED;
    }
    if (INJECT_RESULT == storm.inject && storm.round > 2 && storm.rank == storm.size - 1 && in_length > 0) {
        x->in[0] ^= 1 << 30; /* shows in every reduction */
        x->in[in_length - 1] ^= 1 << 30;
        storm.inject = INJECT_NOTHING;
    }
}

static void prepare_one(struct coll *x)
{
    prepare(x, x->n, x->n);
}

static void prepare_from_all(struct coll *x)
{
    prepare(x, x->n, (long)x->n * x->size);
}

static void prepare_to_all(struct coll *x)
{
    prepare(x, (long)x->n * x->size, x->n);
}

static void prepare_all(struct coll *x)
{
    prepare(x, (long)x->n * x->size, (long)x->n * x->size);
}

/* Blocks of n + 1 places per rank, of which a part is used. */
static void prepare_counted(struct coll *x)
{
    prepare(x, (long)(x->n + 1) * x->size, (long)(x->n + 1) * x->size);
    for (int i = 0; i < x->size; i++) {
        x->in_places[i] = x->out_places[i] = i * (x->n + 1);
        x->in_counts[i] = count_of(x, x->rank, i);
        x->out_counts[i] = count_of(x, i, x->rank);
    }
}

/* ---------------------------------------------------------------------- one to all, all to one */

static int start_barrier(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Barrier, MPI_Ibarrier, x->comm);
}

static int start_bcast(struct coll *x, MPI_Request *request)
{
    void *data = x->rank == x->root ? x->in : x->out;

    return EITHER(request, MPI_Bcast, MPI_Ibcast, data, x->n, MPI_INT64_T, x->root, x->comm);
}

static void check_bcast(struct coll *x)
{
    for (int i = 0; x->rank != x->root && i < x->n; i++) {
        expect(x, i, value(x, x->root, i));
    }
}

static int start_reduce(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Reduce, MPI_Ireduce, x->in, x->out, x->n, MPI_INT64_T, op_of(x), x->root, x->comm);
}

static void check_reduce(struct coll *x)
{
    for (int i = 0; i < x->n; i++) {
        expect(x, i, x->rank == x->root ? reduced(x, x->size, i) : UNTOUCHED);
    }
}

static int start_gather(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Gather, MPI_Igather, x->in, x->n, MPI_INT64_T, x->out, x->n, MPI_INT64_T, x->root,
                  x->comm);
}

static void check_gather(struct coll *x)
{
    for (long i = 0; x->rank == x->root && i < x->out_length; i++) {
        expect(x, i, value(x, (int)(i / x->n), i % x->n));
    }
}

static int start_scatter(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Scatter, MPI_Iscatter, x->in, x->n, MPI_INT64_T, x->out, x->n, MPI_INT64_T, x->root,
                  x->comm);
}

static void check_scatter(struct coll *x)
{
    for (int i = 0; i < x->n; i++) {
        expect(x, i, value(x, x->root, (long)x->rank * x->n + i));
    }
}

/* Everybody to the root; how much depends on the sender. */
static void prepare_gatherv(struct coll *x)
{
    prepare_counted(x);
    for (int i = 0; i < x->size; i++) {
        x->in_counts[i] = count_of(x, x->rank, 0);
        x->out_counts[i] = count_of(x, i, 0);
    }
}

static int start_gatherv(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Gatherv, MPI_Igatherv, x->in, x->in_counts[0], MPI_INT64_T, x->out, x->out_counts,
                  x->out_places, MPI_INT64_T, x->root, x->comm);
}

/* Block i of `out` came from rank i, of whose memory it is what begins at `offset`; behind it nothing was written. */
static void check_blocks(struct coll *x, long offset)
{
    for (long i = 0; i < x->out_length; i++) {
        int from = (int)(i / (x->n + 1));
        long index = i % (x->n + 1);

        expect(x, i, index < x->out_counts[from] ? value(x, from, offset + index) : UNTOUCHED);
    }
}

static void check_gatherv(struct coll *x)
{
    if (x->rank == x->root) {
        check_blocks(x, 0);
    }
}

static void prepare_scatterv(struct coll *x)
{
    prepare_counted(x);
    for (int i = 0; i < x->size; i++) {
        x->in_counts[i] = count_of(x, x->root, i);
    }
}

static int start_scatterv(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Scatterv, MPI_Iscatterv, x->in, x->in_counts, x->in_places, MPI_INT64_T, x->out,
                  x->in_counts[x->rank], MPI_INT64_T, x->root, x->comm);
}

static void check_scatterv(struct coll *x)
{
    for (long i = 0; i < x->out_length; i++) {
        expect(x, i, i < x->in_counts[x->rank] ? value(x, x->root, x->in_places[x->rank] + i) : UNTOUCHED);
    }
}

/* ---------------------------------------------------------------------- all to all */

static int start_allreduce(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Allreduce, MPI_Iallreduce, x->in, x->out, x->n, MPI_INT64_T, op_of(x), x->comm);
}

static void check_allreduce(struct coll *x)
{
    for (int i = 0; i < x->n; i++) {
        expect(x, i, reduced(x, x->size, i));
    }
}

static int start_scan(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Scan, MPI_Iscan, x->in, x->out, x->n, MPI_INT64_T, op_of(x), x->comm);
}

static void check_scan(struct coll *x)
{
    for (int i = 0; i < x->n; i++) {
        expect(x, i, reduced(x, x->rank + 1, i));
    }
}

static int start_exscan(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Exscan, MPI_Iexscan, x->in, x->out, x->n, MPI_INT64_T, op_of(x), x->comm);
}

/* What rank 0 gets is not defined. */
static void check_exscan(struct coll *x)
{
    for (int i = 0; 0 != x->rank && i < x->n; i++) {
        expect(x, i, reduced(x, x->rank, i));
    }
}

static int start_allgather(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Allgather, MPI_Iallgather, x->in, x->n, MPI_INT64_T, x->out, x->n, MPI_INT64_T, x->comm);
}

static void check_allgather(struct coll *x)
{
    for (long i = 0; i < x->out_length; i++) {
        expect(x, i, value(x, (int)(i / x->n), i % x->n));
    }
}

static int start_allgatherv(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Allgatherv, MPI_Iallgatherv, x->in, x->in_counts[0], MPI_INT64_T, x->out, x->out_counts,
                  x->out_places, MPI_INT64_T, x->comm);
}

static void check_allgatherv(struct coll *x)
{
    check_blocks(x, 0);
}

static int start_alltoall(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Alltoall, MPI_Ialltoall, x->in, x->n, MPI_INT64_T, x->out, x->n, MPI_INT64_T, x->comm);
}

static void check_alltoall(struct coll *x)
{
    for (long i = 0; i < x->out_length; i++) {
        expect(x, i, value(x, (int)(i / x->n), (long)x->rank * x->n + i % x->n));
    }
}

static int start_alltoallv(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Alltoallv, MPI_Ialltoallv, x->in, x->in_counts, x->in_places, MPI_INT64_T, x->out,
                  x->out_counts, x->out_places, MPI_INT64_T, x->comm);
}

static void check_alltoallv(struct coll *x)
{
    check_blocks(x, (long)x->rank * (x->n + 1));
}

/* Places in bytes here. */
static void prepare_alltoallw(struct coll *x)
{
    prepare_counted(x);
    for (int i = 0; i < x->size; i++) {
        x->in_places[i] *= (int)sizeof(int64_t);
        x->out_places[i] *= (int)sizeof(int64_t);
        x->types[i] = MPI_INT64_T;
    }
}

static int start_alltoallw(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Alltoallw, MPI_Ialltoallw, x->in, x->in_counts, x->in_places, x->types, x->out,
                  x->out_counts, x->out_places, x->types, x->comm);
}

static void prepare_reduce_scatter(struct coll *x)
{
    int sum = 0;

    prepare_counted(x);
    for (int i = 0; i < x->size; i++) {
        x->in_counts[i] = count_of(x, 0, i);
        x->in_places[i] = sum;
        sum += x->in_counts[i];
    }
}

static int start_reduce_scatter(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Reduce_scatter, MPI_Ireduce_scatter, x->in, x->out, x->in_counts, MPI_INT64_T, op_of(x),
                  x->comm);
}

static void check_reduce_scatter(struct coll *x)
{
    for (long i = 0; i < x->in_counts[x->rank]; i++) {
        expect(x, i, reduced(x, x->size, x->in_places[x->rank] + i));
    }
}

static int start_reduce_scatter_block(struct coll *x, MPI_Request *request)
{
    return EITHER(request, MPI_Reduce_scatter_block, MPI_Ireduce_scatter_block, x->in, x->out, x->n, MPI_INT64_T,
                  op_of(x), x->comm);
}

static void check_reduce_scatter_block(struct coll *x)
{
    for (int i = 0; i < x->n; i++) {
        expect(x, i, reduced(x, x->size, (long)x->rank * x->n + i));
    }
}

/* The order is that of the numbers in COLL_KINDS. */
static const struct operation operations[] = {
    {"barrier", 1, prepare_one, start_barrier, NULL},
    {"bcast", 65536, prepare_one, start_bcast, check_bcast},
    {"reduce", 32768, prepare_one, start_reduce, check_reduce},
    {"allreduce", 32768, prepare_one, start_allreduce, check_allreduce},
    {"scan", 4096, prepare_one, start_scan, check_scan},
    {"exscan", 4096, prepare_one, start_exscan, check_exscan},
    {"gather", 8192, prepare_from_all, start_gather, check_gather},
    {"gatherv", 8192, prepare_gatherv, start_gatherv, check_gatherv},
    {"scatter", 8192, prepare_to_all, start_scatter, check_scatter},
    {"scatterv", 8192, prepare_scatterv, start_scatterv, check_scatterv},
    {"allgather", 8192, prepare_from_all, start_allgather, check_allgather},
    {"allgatherv", 8192, prepare_gatherv, start_allgatherv, check_allgatherv},
    {"alltoall", 4096, prepare_all, start_alltoall, check_alltoall},
    {"alltoallv", 4096, prepare_counted, start_alltoallv, check_alltoallv},
    {"alltoallw", 4096, prepare_alltoallw, start_alltoallw, check_alltoallv},
    {"reduce_scatter", 4096, prepare_reduce_scatter, start_reduce_scatter, check_reduce_scatter},
    {"reduce_scatter_block", 4096, prepare_to_all, start_reduce_scatter_block, check_reduce_scatter_block},
};

_Static_assert(COLL_OPERATIONS == sizeof(operations) / sizeof(operations[0]), "the number of operations");

struct coll *coll_begin(MPI_Comm comm, int operation, uint64_t salt, MPI_Request *request)
{
    struct coll *x = test_alloc(sizeof(*x));
    uint64_t random = salt;
    const struct operation *o = &operations[operation];

    memset(x, 0, sizeof(*x));
    x->comm = comm;
    x->operation = o;
    x->salt = mix(salt);
    MPI_Comm_rank(comm, &x->rank);
    MPI_Comm_size(comm, &x->size);
    x->root = (int)draw(&random, x->size);
    x->reduction = (enum reduction)draw(&random, REDUCTIONS);
    x->n = 1 + (int)draw(&random, 0 == draw(&random, 6) ? o->most : o->most < 300 ? o->most : 300);
    x->in_counts = test_alloc((size_t)x->size * 4 * sizeof(int));
    x->in_places = x->in_counts + x->size;
    x->out_counts = x->in_places + x->size;
    x->out_places = x->out_counts + x->size;
    x->types = test_alloc((size_t)x->size * sizeof(*x->types));
    o->prepare(x);
    storm.step = o->name;
    test_mpi(o->start(x, request), o->name);
    return x;
}

void coll_end(struct coll *x)
{
    if (NULL != x->operation->check) {
        x->operation->check(x);
    }
    storm.messages++;
    storm.bytes += (uint64_t)x->out_length * sizeof(int64_t);
    free(x->types);
    free(x->in_counts);
    free(x->out);
    free(x->in);
    free(x);
}

/* ---------------------------------------------------------------------- kinds */

static void run_blocking(int operation)
{
    coll_end(coll_begin(storm.collect, operation, (uint64_t)draw(&storm.random, 1L << 40), NULL));
}

/* The operation and others are under way together, with messages in between; they complete in any order. */
static void run_nonblocking(int operation)
{
    int count = 1 + (int)draw(&storm.random, TOGETHER);
    struct coll *x[TOGETHER];
    MPI_Request requests[TOGETHER];
    MPI_Status statuses[TOGETHER];

    for (int i = 0; i < count; i++) {
        x[i] = coll_begin(storm.overlap, (operation + i * 5) % COLL_OPERATIONS, (uint64_t)draw(&storm.random, 1L << 40),
                          &requests[i]);
    }
    window_exchange(storm.plain, SIZES_MIX, &storm.random, 4);
    storm_waitall(count, requests, statuses, "MPI_Waitall of non-blocking collectives");
    for (int i = 0; i < count; i++) {
        coll_end(x[i]);
    }
}

#define COLL_KINDS(prefix, run)                                                                                        \
    {prefix "barrier", run, 0, NEED_NOTHING}, {prefix "bcast", run, 1, NEED_NOTHING},                                  \
        {prefix "reduce", run, 2, NEED_NOTHING}, {prefix "allreduce", run, 3, NEED_NOTHING},                           \
        {prefix "scan", run, 4, NEED_NOTHING}, {prefix "exscan", run, 5, NEED_NOTHING},                                \
        {prefix "gather", run, 6, NEED_NOTHING}, {prefix "gatherv", run, 7, NEED_NOTHING},                             \
        {prefix "scatter", run, 8, NEED_NOTHING}, {prefix "scatterv", run, 9, NEED_NOTHING},                           \
        {prefix "allgather", run, 10, NEED_NOTHING}, {prefix "allgatherv", run, 11, NEED_NOTHING},                     \
        {prefix "alltoall", run, 12, NEED_NOTHING}, {prefix "alltoallv", run, 13, NEED_NOTHING},                       \
        {prefix "alltoallw", run, 14, NEED_NOTHING}, {prefix "reduce_scatter", run, 15, NEED_NOTHING},                 \
    {                                                                                                                  \
        prefix "reduce_scatter_block", run, 16, NEED_NOTHING                                                           \
    }

const struct kind coll_kinds[] = {
    COLL_KINDS("", run_blocking),
    COLL_KINDS("i", run_nonblocking),
    {NULL, NULL, 0, NEED_NOTHING},
};
