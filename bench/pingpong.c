/*
 * What communication costs: latency, bandwidth and message rate between two ranks, Allreduce among all.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * Every figure is measured in many short batches, in rounds over all figures, so that a disturbance of the machine
 * hits few batches of each. Rank 0 prints the best and the median batch. The first round only warms up.
 */
#include <getopt.h>
#include <sched.h>

#include "common.h"

#define LARGEST    (4 << 20)
#define WINDOW_MAX 64
#define ROUNDS_MAX 1000
#define ROUNDS_MIN 5

struct options {
    long rounds;     /* that count */
    long iterations; /* round trips in a batch */
    long seconds;    /* after which there are no more rounds, but ROUNDS_MIN */
    long windows;    /* so many times the windows of a batch that the table says */
    bool collective;
    const char *brake;
};

struct figure {
    const char *name, *unit;
    size_t bytes;
    int window, windows; /* messages under way at a time, and how often that in a batch */
    double (*batch)(const struct options *o, const struct figure *f);
    bool more_is_better;
};

static int rank;
static char *out, *in;

static void usage(void)
{
    fprintf(stderr, "usage: pingpong [OPTION...]\n"
                    "  --rounds N        batches of each figure\n"
                    "  --seconds S       but no more after so long, except for the first 5\n"
                    "  --iterations N    round trips in a batch of latency\n"
                    "  --windows N       longer batches of bandwidth and message rate, N times\n"
                    "  --collective      Allreduce among all ranks in place of figures of two\n"
                    "  --brake FILE      exchange messages, but measure only when this file is gone\n");
    exit(TEST_USAGE);
}

static struct options parse(int argc, char **argv)
{
    static const struct option known[] = {{"rounds", required_argument, NULL, 'r'},
                                          {"seconds", required_argument, NULL, 's'},
                                          {"iterations", required_argument, NULL, 'i'},
                                          {"windows", required_argument, NULL, 'w'},
                                          {"collective", no_argument, NULL, 'c'},
                                          {"brake", required_argument, NULL, 'b'},
                                          {0}};
    struct options o = {.rounds = 20, .iterations = 200, .windows = 1, .seconds = 3600};
    int c;

    while (-1 != (c = getopt_long(argc, argv, "", known, NULL))) {
        switch (c) {
        case 'r': o.rounds = test_number("rounds", optarg, 1, ROUNDS_MAX); break;
        case 's': o.seconds = test_number("seconds", optarg, 1, 3600); break;
        case 'i': o.iterations = test_number("iterations", optarg, 1, 100000000); break;
        case 'w': o.windows = test_number("windows", optarg, 1, 10000); break;
        case 'c': o.collective = true; break;
        case 'b': o.brake = optarg; break;
        default: usage();
        }
    }
    if (optind != argc) {
        usage();
    }
    return o;
}

/* ---- batches: each returns its figure, which counts on rank 0 ---- */

static double latency(const struct options *o, const struct figure *f)
{
    double start = 0;
    int count = (int)f->bytes;

    for (long i = -o->iterations / 10; i < o->iterations; i++) {
        if (0 == i) {
            start = MPI_Wtime();
        }
        if (0 == rank) {
            MPI_Send(out, count, MPI_CHAR, 1, 1, MPI_COMM_WORLD);
            MPI_Recv(in, count, MPI_CHAR, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else {
            MPI_Recv(in, count, MPI_CHAR, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(out, count, MPI_CHAR, 0, 1, MPI_COMM_WORLD);
        }
    }
    return (MPI_Wtime() - start) * 1e6 / (2.0 * (double)o->iterations);
}

/* Seconds for all windows of the batch. All messages of a window have one buffer: nobody reads what is in it. */
static double send_windows(const struct options *o, const struct figure *f)
{
    MPI_Request requests[WINDOW_MAX];
    double start = MPI_Wtime();
    int count = (int)f->bytes;

    for (long n = 0; n < f->windows * o->windows; n++) {
        for (int i = 0; i < f->window; i++) {
            if (0 == rank) {
                MPI_Isend(out, count, MPI_CHAR, 1, 2, MPI_COMM_WORLD, &requests[i]);
            } else {
                MPI_Irecv(in, count, MPI_CHAR, 0, 2, MPI_COMM_WORLD, &requests[i]);
            }
        }
        MPI_Waitall(f->window, requests, MPI_STATUSES_IGNORE);
        if (0 == rank) {
            MPI_Recv(in, 0, MPI_CHAR, 1, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else {
            MPI_Send(out, 0, MPI_CHAR, 0, 3, MPI_COMM_WORLD);
        }
    }
    return MPI_Wtime() - start;
}

static double bandwidth(const struct options *o, const struct figure *f)
{
    return (double)f->bytes * f->window * f->windows * (double)o->windows / send_windows(o, f) / 1e6;
}

static double message_rate(const struct options *o, const struct figure *f)
{
    return (double)f->window * f->windows * (double)o->windows / send_windows(o, f) / 1e3;
}

static double allreduce(const struct options *o, const struct figure *f)
{
    double start = 0;

    MPI_Barrier(MPI_COMM_WORLD);
    for (long i = -o->iterations / 10; i < o->iterations; i++) {
        if (0 == i) {
            start = MPI_Wtime();
        }
        MPI_Allreduce(out, in, (int)(f->bytes / sizeof(double)), MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    }
    return (MPI_Wtime() - start) * 1e6 / (double)o->iterations;
}

static const struct figure of_pairs[] = {
    {"latency", "us", 0, 0, 0, latency, false},
    {"latency", "us", 1, 0, 0, latency, false},
    {"latency", "us", 8, 0, 0, latency, false},
    {"latency", "us", 64, 0, 0, latency, false},
    {"latency", "us", 512, 0, 0, latency, false},
    {"latency", "us", 1024, 0, 0, latency, false},
    {"latency", "us", 4096, 0, 0, latency, false},
    {"bandwidth", "MB/s", 4 << 10, 64, 2, bandwidth, true},
    {"bandwidth", "MB/s", 64 << 10, 16, 1, bandwidth, true},
    {"bandwidth", "MB/s", 1 << 20, 2, 1, bandwidth, true},
    {"bandwidth", "MB/s", LARGEST, 2, 1, bandwidth, true},
    {"message rate", "1000/s", 8, 64, 4, message_rate, true},
};

static const struct figure of_all[] = {
    {"allreduce", "us", 8, 0, 0, allreduce, false},
    {"allreduce", "us", 4 << 10, 0, 0, allreduce, false},
    {"allreduce", "us", 64 << 10, 0, 0, allreduce, false},
};

/* ---- the measurement ---- */

/* A CPU for each rank, as far as there are any. Here and not by mpirun: a moved rank loses mpirun's binding. */
static void take_cpu(void)
{
    cpu_set_t all, one;
    int wanted;

    CPU_ZERO(&all);
    for (long cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++) {
        CPU_SET((size_t)cpu, &all);
    }
    if (0 != sched_setaffinity(0, sizeof(all), &all) || 0 != sched_getaffinity(0, sizeof(all), &all)) {
        return;
    }
    wanted = rank % CPU_COUNT(&all);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all) && 0 == wanted--) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void)sched_setaffinity(0, sizeof(one), &one);
        }
    }
}

static void await_brake(const char *brake)
{
    int on;

    do {
        on = test_exists(brake);
        test_mpi(MPI_Bcast(&on, 1, MPI_INT, 0, MPI_COMM_WORLD), "MPI_Bcast");
        test_mpi(MPI_Allreduce(MPI_IN_PLACE, &on, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD), "MPI_Allreduce");
        test_pace(1000);
    } while (on);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print(const struct figure *f, double *values, size_t count)
{
    qsort(values, count, sizeof(*values), ascending);
    printf("pingpong: figure bytes=%zu best=%.6g median=%.6g unit=%s more=%d name=%s\n", f->bytes,
           values[f->more_is_better ? count - 1 : 0], values[count / 2], f->unit, f->more_is_better, f->name);
}

/* Whether there is another round: on a busy machine rather few than never an end. */
static bool goes_on(const struct options *o, long round, double start)
{
    int on = round < o->rounds && (ROUNDS_MIN > round || MPI_Wtime() - start < (double)o->seconds);

    test_mpi(MPI_Bcast(&on, 1, MPI_INT, 0, MPI_COMM_WORLD), "MPI_Bcast");
    return on;
}

static void measure(const struct options *o, const struct figure *figures, size_t count)
{
    double *values = test_alloc(count * (size_t)o->rounds * sizeof(*values)), value, start = MPI_Wtime();
    long round;

    for (round = -1; goes_on(o, round, start); round++) {
        for (size_t i = 0; i < count; i++) {
            value = figures[i].batch(o, &figures[i]);
            if (0 <= round) {
                values[i * (size_t)o->rounds + (size_t)round] = value;
            }
        }
    }
    for (size_t i = 0; 0 == rank && i < count; i++) {
        print(&figures[i], values + i * (size_t)o->rounds, (size_t)round);
    }
    free(values);
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    int size;

    test_mpi(MPI_Init(NULL, NULL), "MPI_Init");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (!o.collective && 2 != size) {
        usage();
    }
    out = test_alloc(LARGEST);
    in = test_alloc(LARGEST);
    memset(out, 0, LARGEST);
    memset(in, 0, LARGEST);
    test_print_places(MPI_COMM_WORLD, "pingpong: ready");
    await_brake(o.brake);
    test_print_places(MPI_COMM_WORLD, "pingpong: measuring");
    take_cpu();
    if (o.collective) {
        measure(&o, of_all, sizeof(of_all) / sizeof(of_all[0]));
    } else {
        measure(&o, of_pairs, sizeof(of_pairs) / sizeof(of_pairs[0]));
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (0 == rank) {
        printf("pingpong: done\n");
    }
    MPI_Finalize();
    return 0;
}
