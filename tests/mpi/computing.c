/*
 * Some ranks stay away from MPI for as long as the brake is there, with messages of all sizes on their way to them; the
 * others go on talking to each other. Afterwards everything is received, and what was computed is checked.
 *
 * A test that moves ranks meanwhile can only succeed if nobody has to wait for those that compute.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "common.h"

#define RANKS_MAX   64
#define THREADS_MAX 16

struct options {
    const char *brake, *mode;
    bool computes[RANKS_MAX];
    int thread, threads;
};

static const size_t sizes[] = {0, 1, 100, 4000, 5000, 40000, 70000, 200000, 1000000, 3000000};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* ---- what a rank does that computes; each piece takes some milliseconds and checks itself ---- */

#define FACTOR   UINT64_C(6364136223846793005)
#define ADDEND   UINT64_C(1442695040888963407)
#define PER_SPIN 3000000

/* The state of the generator after n steps from 0, in O(log n): a second way to the same number. */
static uint64_t state_after(uint64_t n)
{
    uint64_t factor = FACTOR, addend = ADDEND, result = 0;

    for (; 0 < n; n >>= 1) {
        if (n & 1) {
            result = result * factor + addend;
        }
        addend *= factor + 1;
        factor *= factor;
    }
    return result;
}

static void spin(void)
{
    static _Thread_local uint64_t steps, state;

    for (int i = 0; i < PER_SPIN; i++) {
        state = state * FACTOR + ADDEND;
    }
    steps += PER_SPIN;
    if (state != state_after(steps)) {
        test_defect("the computation has gone wrong within %" PRIu64 " steps", steps);
    }
}

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* To sleep is not to wait for anything here: it is what the program computes. */
static void doze(void)
{
    struct timespec nap = {0, 200000000}, left = {0, 0};
    double start = now();

    if (0 != nanosleep(&nap, &left)) {
        test_defect("nanosleep: %s, %ld ns left", strerror(errno), left.tv_nsec);
    }
    if (now() - start < 0.2) {
        test_defect("a nap of 0.2 s lasted %.6f s", now() - start);
    }
}

static void wait_for_nothing(void)
{
    struct pollfd end = {.events = POLLIN};
    double start = now();
    int ends[2], rc;

    if (0 != pipe(ends)) {
        test_defect("pipe: %s", strerror(errno));
    }
    end.fd = ends[0];
    if (0 != (rc = poll(&end, 1, 150)) || now() - start < 0.149) {
        test_defect("poll gave %d after %.6f s: %s", rc, now() - start, strerror(errno));
    }
    close(ends[0]);
    close(ends[1]);
}

/* A thread that cannot be interrupted. */
static void spin_deaf(void)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    spin();
}

static void allocate(void)
{
    unsigned char *blocks[64];

    for (int round = 0; round < 500; round++) {
        for (size_t i = 0; i < 64; i++) {
            size_t size = 16 + 97 * i * i;

            blocks[i] = test_alloc(size);
            memset(blocks[i], (int)(i + (size_t)round), size);
        }
        for (size_t i = 0; i < 64; i++) {
            if (blocks[i][15] != (unsigned char)(i + (size_t)round)) {
                test_defect("block %zu has changed", i);
            }
            free(blocks[i]);
        }
    }
}

static void (*piece_of(const struct options *o))(void)
{
    void (*piece)(void) = spin;

    if (0 == strcmp(o->mode, "sleep")) {
        piece = doze;
    } else if (0 == strcmp(o->mode, "poll")) {
        piece = wait_for_nothing;
    } else if (0 == strcmp(o->mode, "malloc")) {
        piece = allocate;
    } else if (0 == strcmp(o->mode, "deaf")) {
        piece = spin_deaf;
    }
    return piece;
}

static void *compute_on(void *arg)
{
    const struct options *o = arg;
    void (*piece)(void) = piece_of(o);

    while (test_exists(o->brake)) {
        piece();
    }
    return NULL;
}

/* Any of these threads may call MPI, if only one does so at a time; just now none does. */
static void compute(struct options *o, int rank)
{
    pthread_t others[THREADS_MAX];

    for (int i = 0; i < o->threads; i++) {
        if (0 != pthread_create(&others[i], NULL, compute_on, o)) {
            test_defect("no thread");
        }
    }
    printf("computing: rank %d computes\n", rank);
    fflush(stdout);
    (void)compute_on(o);
    for (int i = 0; i < o->threads; i++) {
        pthread_join(others[i], NULL);
    }
    printf("computing: rank %d is back\n", rank);
    fflush(stdout);
}

/* ---- the others ---- */

static void talk(const struct options *o, MPI_Comm others)
{
    int rank, size, go_on = 1;
    long sum, round;
    char head[64];

    MPI_Comm_rank(others, &rank);
    MPI_Comm_size(others, &size);
    for (round = 1; go_on; round++) {
        long mine = round * 1000 + rank;

        test_mpi(MPI_Allreduce(&mine, &sum, 1, MPI_LONG, MPI_SUM, others), "MPI_Allreduce");
        if (sum != round * 1000 * size + (long)size * (size - 1) / 2) {
            test_defect("round %ld: the sum is %ld", round, sum);
        }
        go_on = test_exists(o->brake);
        test_mpi(MPI_Bcast(&go_on, 1, MPI_INT, 0, others), "MPI_Bcast");
        if (0 == round % 20) {
            snprintf(head, sizeof(head), "computing: round %ld", round);
            test_print_places(MPI_COMM_SELF == others ? MPI_COMM_SELF : others, head);
        }
        test_pace(5000);
    }
}

/* ---- messages that wait meanwhile ---- */

static unsigned char byte_of(int from, int to, size_t message, size_t at)
{
    return (unsigned char)((size_t)from * 31 + (size_t)to * 17 + message * 7 + at * 13 + (at >> 8));
}

static void send_all(int rank, int size, MPI_Request *requests, unsigned char **buffers)
{
    for (int to = 0; to < size; to++) {
        for (size_t m = 0; m < SIZES; m++) {
            size_t i = (size_t)to * SIZES + m;

            buffers[i] = test_alloc(sizes[m]);
            for (size_t at = 0; at < sizes[m]; at++) {
                buffers[i][at] = byte_of(rank, to, m, at);
            }
            test_mpi(MPI_Isend(buffers[i], (int)sizes[m], MPI_BYTE, to, 5, MPI_COMM_WORLD, &requests[i]), "MPI_Isend");
        }
    }
}

static void receive_all(int rank, int size)
{
    unsigned char *buffer = test_alloc(sizes[SIZES - 1]);
    MPI_Status status;
    int count;

    for (int from = 0; from < size; from++) {
        for (size_t m = 0; m < SIZES; m++) {
            test_mpi(MPI_Recv(buffer, (int)sizes[SIZES - 1], MPI_BYTE, from, 5, MPI_COMM_WORLD, &status), "MPI_Recv");
            MPI_Get_count(&status, MPI_BYTE, &count);
            if ((size_t)count != sizes[m]) {
                test_defect("message %zu of rank %d has %d bytes, not %zu", m, from, count, sizes[m]);
            }
            for (size_t at = 0; at < sizes[m]; at++) {
                if (buffer[at] != byte_of(from, rank, m, at)) {
                    test_defect("message %zu of rank %d is wrong at byte %zu", m, from, at);
                }
            }
        }
    }
    free(buffer);
}

/* ---- options ---- */

static void read_list(struct options *o, char *list)
{
    for (char *item = strtok(list, ","); NULL != item; item = strtok(NULL, ",")) {
        o->computes[test_number("compute", item, 0, RANKS_MAX - 1)] = true;
    }
}

static int thread_level(const char *name)
{
    return (0 == strcmp(name, "serialized")) ? MPI_THREAD_SERIALIZED
           : (0 == strcmp(name, "funneled")) ? MPI_THREAD_FUNNELED
                                             : MPI_THREAD_SINGLE;
}

static struct options read_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"compute", required_argument, NULL, 'c'}, {"mode", required_argument, NULL, 'm'},
        {"thread", required_argument, NULL, 't'},  {"threads", required_argument, NULL, 'n'},
        {"brake", required_argument, NULL, 'b'},   {NULL, 0, NULL, 0}};
    struct options o = {.mode = "spin", .thread = MPI_THREAD_SINGLE};
    int c;

    while (-1 != (c = getopt_long(argc, argv, "", known, NULL))) {
        switch (c) {
        case 'c': read_list(&o, optarg); break;
        case 'm': o.mode = optarg; break;
        case 't': o.thread = thread_level(optarg); break;
        case 'n': o.threads = test_number("threads", optarg, 0, THREADS_MAX); break;
        case 'b': o.brake = optarg; break;
        default:
            fprintf(stderr, "usage: computing --compute RANK,... --brake FILE [--mode spin|sleep|poll|malloc|deaf] "
                            "[--thread single|funneled|serialized] [--threads N]\n");
            exit(TEST_USAGE);
        }
    }
    return o;
}

int main(int argc, char **argv)
{
    struct options o = read_options(argc, argv);
    unsigned char **buffers;
    MPI_Request *requests;
    MPI_Comm others;
    int rank, size, provided;

    MPI_Init_thread(&argc, &argv, o.thread, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    requests = test_alloc((size_t)size * SIZES * sizeof(*requests));
    buffers = test_alloc((size_t)size * SIZES * sizeof(*buffers));
    test_mpi(MPI_Comm_split(MPI_COMM_WORLD, o.computes[rank] ? MPI_UNDEFINED : 0, rank, &others), "MPI_Comm_split");
    send_all(rank, size, requests, buffers);
    if (MPI_COMM_NULL == others) {
        compute(&o, rank);
    } else {
        talk(&o, others);
    }
    receive_all(rank, size);
    test_mpi(MPI_Waitall(size * (int)SIZES, requests, MPI_STATUSES_IGNORE), "MPI_Waitall");
    for (size_t i = 0; i < (size_t)size * SIZES; i++) {
        free(buffers[i]);
    }
    test_print_places(MPI_COMM_WORLD, "computing: all");
    if (0 == rank) {
        printf("computing: ok\n");
    }
    free(buffers);
    free(requests);
    MPI_Finalize();
    return 0;
}
