/*
 * A 2-D Jacobi solver whose result is one number: the hash of every bit of the field and of all residuals.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * The field is cut into blocks, one per rank. Each iteration exchanges halos without blocking and reduces the
 * residual over all ranks. Nothing of the result depends on time: two runs with the same number of ranks and the
 * same sizes end with the same number, whatever was moved meanwhile and however long it took.
 */
#include <getopt.h>

#include "common.h"
#include "obstacle.h"

struct options {
    long rows, cols, iters;
    long report;       /* a line with the places of the ranks every so many iterations; 0: none */
    long pace_us;      /* time that each iteration spends in MPI progress */
    const char *brake; /* pace only as long as this file exists; NULL: always */
    const char *obstacle;
    long obstacle_rank;
};

struct block {
    MPI_Comm comm;
    int up, down, left, right;
    long rows, cols; /* without halo */
    double *now, *next;
    MPI_Datatype column;
};

static void usage(void)
{
    fprintf(stderr, "usage: jacobi [--rows N] [--cols N] [--iters N] [--report K] [--pace-us U] [--brake FILE]\n"
                    "              [--obstacle tcp|file:PATH|window --obstacle-rank R]   rank R (-1: all) holds what "
                    "cannot move\n");
    exit(TEST_USAGE);
}

static struct options parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"rows", 1, NULL, 'r'},     {"cols", 1, NULL, 'c'},          {"iters", 1, NULL, 'i'},
        {"report", 1, NULL, 'p'},   {"pace-us", 1, NULL, 'u'},       {"brake", 1, NULL, 'b'},
        {"obstacle", 1, NULL, 'o'}, {"obstacle-rank", 1, NULL, 'O'}, {NULL, 0, NULL, 0}};
    struct options o = {.rows = 256, .cols = 256, .iters = 1000, .report = 100};
    int c;

    while (-1 != (c = getopt_long(argc, argv, "", names, NULL))) {
        switch (c) {
        case 'r': o.rows = test_number("rows", optarg, 1, 100000); break;
        case 'c': o.cols = test_number("cols", optarg, 1, 100000); break;
        case 'i': o.iters = test_number("iters", optarg, 1, 1000000000); break;
        case 'p': o.report = test_number("report", optarg, 0, 1000000000); break;
        case 'u': o.pace_us = test_number("pace-us", optarg, 0, 60000000); break;
        case 'b': o.brake = optarg; break;
        case 'o': o.obstacle = optarg; break;
        case 'O': o.obstacle_rank = test_number("obstacle-rank", optarg, -1, 1000000); break;
        default: usage();
        }
    }
    if (optind != argc) {
        usage();
    }
    return o;
}

/* Index of a cell of the block; row and column 0 and the last ones are halo. */
static inline size_t at(const struct block *b, long row, long col)
{
    return (size_t)row * (size_t)(b->cols + 2) + (size_t)col;
}

/* Where part `index` of `parts` begins when `total` is dealt out as evenly as it goes. */
static long part_start(long total, int parts, int index)
{
    return total / parts * index + (index < total % parts ? index : total % parts);
}

/* A start value that no neighbour shares, so that a halo from the wrong rank or iteration shows in the hash. */
static double start_value(long row, long col)
{
    return (double)((row * 7919 + col * 104729) % 10007) / 10007.0;
}

static void block_init(struct block *b, const struct options *o)
{
    int size, dims[2] = {0, 0}, periods[2] = {0, 0}, here[2];
    long row0, col0;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    test_mpi(MPI_Dims_create(size, 2, dims), "MPI_Dims_create");
    if (o->rows < dims[0] || o->cols < dims[1]) {
        test_defect("%ld x %ld cells are too few for %d x %d ranks", o->rows, o->cols, dims[0], dims[1]);
    }
    test_mpi(MPI_Cart_create(MPI_COMM_WORLD, 2, dims, periods, 0, &b->comm), "MPI_Cart_create");
    test_mpi(MPI_Cart_get(b->comm, 2, dims, periods, here), "MPI_Cart_get");
    test_mpi(MPI_Cart_shift(b->comm, 0, 1, &b->up, &b->down), "MPI_Cart_shift");
    test_mpi(MPI_Cart_shift(b->comm, 1, 1, &b->left, &b->right), "MPI_Cart_shift");
    row0 = part_start(o->rows, dims[0], here[0]);
    col0 = part_start(o->cols, dims[1], here[1]);
    b->rows = part_start(o->rows, dims[0], here[0] + 1) - row0;
    b->cols = part_start(o->cols, dims[1], here[1] + 1) - col0;
    b->now = test_alloc((size_t)(b->rows + 2) * (size_t)(b->cols + 2) * sizeof(double));
    b->next = test_alloc((size_t)(b->rows + 2) * (size_t)(b->cols + 2) * sizeof(double));
    for (long i = 0; i < b->rows + 2; i++) {
        for (long j = 0; j < b->cols + 2; j++) {
            /* Halo cells on the rim of the whole field keep this value for ever: the boundary condition. */
            b->now[at(b, i, j)] = b->next[at(b, i, j)] = start_value(row0 + i, col0 + j);
        }
    }
    test_mpi(MPI_Type_vector((int)b->rows, 1, (int)b->cols + 2, MPI_DOUBLE, &b->column), "MPI_Type_vector");
    test_mpi(MPI_Type_commit(&b->column), "MPI_Type_commit");
}

static void block_free(struct block *b)
{
    MPI_Type_free(&b->column);
    free(b->next);
    free(b->now);
    MPI_Comm_free(&b->comm);
}

static void exchange_halos(struct block *b)
{
    enum { TO_UP, TO_DOWN, TO_LEFT, TO_RIGHT };
    double *f = b->now;
    int cols = (int)b->cols;
    MPI_Request r[8];

    MPI_Irecv(&f[at(b, 0, 1)], cols, MPI_DOUBLE, b->up, TO_DOWN, b->comm, &r[0]);
    MPI_Irecv(&f[at(b, b->rows + 1, 1)], cols, MPI_DOUBLE, b->down, TO_UP, b->comm, &r[1]);
    MPI_Irecv(&f[at(b, 1, 0)], 1, b->column, b->left, TO_RIGHT, b->comm, &r[2]);
    MPI_Irecv(&f[at(b, 1, b->cols + 1)], 1, b->column, b->right, TO_LEFT, b->comm, &r[3]);
    MPI_Isend(&f[at(b, 1, 1)], cols, MPI_DOUBLE, b->up, TO_UP, b->comm, &r[4]);
    MPI_Isend(&f[at(b, b->rows, 1)], cols, MPI_DOUBLE, b->down, TO_DOWN, b->comm, &r[5]);
    MPI_Isend(&f[at(b, 1, 1)], 1, b->column, b->left, TO_LEFT, b->comm, &r[6]);
    MPI_Isend(&f[at(b, 1, b->cols)], 1, b->column, b->right, TO_RIGHT, b->comm, &r[7]);
    test_mpi(MPI_Waitall(8, r, MPI_STATUSES_IGNORE), "MPI_Waitall of the halos");
}

/* One relaxation of the block; returns the sum of the squared changes. */
static double relax(struct block *b)
{
    double sum = 0.0, *swap;

    for (long i = 1; i <= b->rows; i++) {
        for (long j = 1; j <= b->cols; j++) {
            double value = 0.25 * (b->now[at(b, i - 1, j)] + b->now[at(b, i + 1, j)] + b->now[at(b, i, j - 1)] +
                                   b->now[at(b, i, j + 1)]);
            double change = value - b->now[at(b, i, j)];

            b->next[at(b, i, j)] = value;
            sum += change * change;
        }
    }
    swap = b->now;
    b->now = b->next;
    b->next = swap;
    return sum;
}

/* All iterations; returns the hash of the residuals as this rank saw them. */
static uint64_t iterate(struct block *b, const struct options *o)
{
    uint64_t hash = TEST_HASH_START;
    char head[80];

    for (long k = 1; k <= o->iters; k++) {
        double mine, residual;

        exchange_halos(b);
        mine = relax(b);
        test_mpi(MPI_Allreduce(&mine, &residual, 1, MPI_DOUBLE, MPI_SUM, b->comm), "MPI_Allreduce");
        hash = test_hash(hash, &residual, sizeof(residual));
        if (0 != o->report && 0 == k % o->report) {
            snprintf(head, sizeof(head), "jacobi: iteration %ld of %ld", k, o->iters);
            test_print_places(b->comm, head);
        }
        if (0 != o->pace_us && (NULL == o->brake || test_exists(o->brake))) {
            test_pace(o->pace_us);
        }
    }
    return hash;
}

/* Rank 0 takes the ranks' hashes in the order of the ranks and prints the hash of them all. */
static void print_result(const struct block *b, uint64_t hash)
{
    uint64_t *all = NULL;
    int rank, size;

    MPI_Comm_rank(b->comm, &rank);
    MPI_Comm_size(b->comm, &size);
    for (long i = 1; i <= b->rows; i++) {
        hash = test_hash(hash, &b->now[at(b, i, 1)], (size_t)b->cols * sizeof(double));
    }
    if (0 == rank) {
        all = test_alloc((size_t)size * sizeof(*all));
    }
    test_mpi(MPI_Gather(&hash, 1, MPI_UINT64_T, all, 1, MPI_UINT64_T, 0, b->comm), "MPI_Gather of the hashes");
    if (0 == rank) {
        printf("jacobi: result %016" PRIx64 "\n", test_hash(TEST_HASH_START, all, (size_t)size * sizeof(*all)));
        fflush(stdout);
        free(all);
    }
}

/* Asked for by the environment, since options are read after MPI_Init. */
static void init_mpi(int *argc, char ***argv)
{
    int provided = MPI_THREAD_SINGLE;

    if (NULL == getenv("JACOBI_THREAD_MULTIPLE")) {
        test_mpi(MPI_Init(argc, argv), "MPI_Init");
        return;
    }
    test_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    if (MPI_THREAD_MULTIPLE != provided) {
        test_defect("no MPI_THREAD_MULTIPLE");
    }
}

int main(int argc, char **argv)
{
    struct options o;
    struct block b;
    int rank;

    init_mpi(&argc, &argv);
    o = parse(argc, argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    test_obstacle(rank == o.obstacle_rank || 0 > o.obstacle_rank ? o.obstacle : NULL);
    block_init(&b, &o);
    print_result(&b, iterate(&b, &o));
    block_free(&b);
    test_mpi(MPI_Finalize(), "MPI_Finalize");
    return 0;
}
