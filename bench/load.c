/*
 * Traffic with a rank that moves, of several kinds, and what it costs a third party while the rank is away.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * Rank MOVER is the one to move; ranks SENDER and SECOND talk with it, rank THIRD only with SENDER. With --load:
 *   idle     connected, inside MPI, and silent
 *   flood    small messages in windows, both ways
 *   large    rendezvous messages in windows, both ways
 *   burst    SENDER posts --pending small sends at once, waits for them, and begins again
 *   pending  SENDER posts --pending small synchronous sends that nobody receives while the brake is on
 *   held     as soon as MOVER does not answer any more, SENDER posts --pending small sends to it, and until it answers
 *            again measures its round trips with THIRD; otherwise it measures them without anything pending
 */
#include <getopt.h>

#include "common.h"

enum { SENDER, THIRD, MOVER, SECOND, RANKS };
enum { TAG_LOAD = 1, TAG_PING, TAG_THIRD, TAG_STOP };

#define WINDOW   64
#define TRIPS    10     /* round trips in a batch */
#define HELD     0.02   /* seconds without an answer that mean that the mover is held */
#define SAMPLES  200000 /* batches that are noted */
#define MAX_SEND 10000000

struct options {
    const char *load, *brake;
    long pending, mib;
};

struct shape {
    const char *load;
    int bytes, window; /* of a receiver's window */
    bool back, both;   /* MOVER sends as much back; SECOND takes part */
};

struct samples {
    double values[SAMPLES];
    size_t count;
};

char *memory; /* of the mover; not static, or the compiler would leave out what nobody reads */

static int rank;
static struct samples samples;

static void usage(void)
{
    fprintf(stderr, "usage: load [OPTION...], with 4 ranks\n"
                    "  --load KIND      idle, flood, large, burst, pending or held\n"
                    "  --pending N      sends that burst, pending and held post at once\n"
                    "  --mib M          memory of the rank that moves\n"
                    "  --brake FILE     go on as long as this file is there\n");
    exit(TEST_USAGE);
}

static struct options parse(int argc, char **argv)
{
    static const struct option known[] = {{"load", required_argument, NULL, 'l'},
                                          {"pending", required_argument, NULL, 'p'},
                                          {"mib", required_argument, NULL, 'm'},
                                          {"brake", required_argument, NULL, 'b'},
                                          {0}};
    struct options o = {.load = "idle", .pending = 100000};
    int c;

    while (-1 != (c = getopt_long(argc, argv, "", known, NULL))) {
        switch (c) {
        case 'l': o.load = optarg; break;
        case 'p': o.pending = test_number("pending", optarg, 0, MAX_SEND); break;
        case 'm': o.mib = test_number("mib", optarg, 0, 1 << 20); break;
        case 'b': o.brake = optarg; break;
        default: usage();
        }
    }
    if (optind != argc) {
        usage();
    }
    return o;
}

/* The load is there. */
static void announce(void)
{
    if (SENDER == rank) {
        printf("load: running\n");
        fflush(stdout);
    }
}

/* ---- idle ---- */

/* Now and then a message, or what a move has closed would stay closed. */
static void wait_for_brake(const struct options *o)
{
    int on;

    do {
        test_pace(5000);
        on = test_exists(o->brake);
        test_mpi(MPI_Allreduce(MPI_IN_PLACE, &on, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD), "MPI_Allreduce");
    } while (on);
}

static void idle(const struct options *o)
{
    announce();
    wait_for_brake(o);
}

/* ---- flood, large, burst: in rounds; the last byte of the last round's last message is 1 ---- */

struct stream {
    int peer, sends, receives;
    char *out, *in; /* of one message; in is that of the last one received */
    MPI_Request *requests;
    bool over;
};

/* All messages of a round but the last have one buffer: nobody reads what is in it. */
static void start_round(struct stream *s, const struct shape *shape, bool last)
{
    char *scratch = s->in + shape->bytes, *plain = s->out + shape->bytes;
    MPI_Request *request = s->requests;

    s->out[shape->bytes - 1] = last;
    for (int i = 0; i < s->receives; i++) {
        test_mpi(MPI_Irecv(i + 1 == s->receives ? s->in : scratch, shape->bytes, MPI_CHAR, s->peer, TAG_LOAD,
                           MPI_COMM_WORLD, request++),
                 "MPI_Irecv");
    }
    for (int i = 0; i < s->sends; i++) {
        test_mpi(MPI_Isend(i + 1 == s->sends ? s->out : plain, shape->bytes, MPI_CHAR, s->peer, TAG_LOAD,
                           MPI_COMM_WORLD, request++),
                 "MPI_Isend");
    }
}

static void open_stream(struct stream *s, const struct shape *shape, int peer, int sends, int receives)
{
    *s = (struct stream){.peer = peer, .sends = sends, .receives = receives};
    s->out = test_alloc(2 * (size_t)shape->bytes);
    s->in = test_alloc(2 * (size_t)shape->bytes);
    memset(s->out, 0, 2 * (size_t)shape->bytes);
    memset(s->in, 0, 2 * (size_t)shape->bytes);
    s->requests = test_alloc((size_t)(sends + receives) * sizeof(MPI_Request));
    start_round(s, shape, false);
}

static void close_stream(struct stream *s)
{
    free(s->out);
    free(s->in);
    free(s->requests);
}

static void receive_streams(const struct shape *shape)
{
    struct stream streams[2];
    int count = shape->both ? 2 : 1, open = count, done;

    for (int i = 0; i < count; i++) {
        open_stream(&streams[i], shape, 0 == i ? SENDER : SECOND, shape->back ? shape->window : 0, shape->window);
    }
    while (0 < open) {
        for (int i = 0; i < count; i++) {
            struct stream *s = &streams[i];

            if (s->over) {
                continue;
            }
            test_mpi(MPI_Testall(s->sends + s->receives, s->requests, &done, MPI_STATUSES_IGNORE), "MPI_Testall");
            if (done && 0 != s->in[shape->bytes - 1]) {
                s->over = true;
                open--;
            } else if (done) {
                start_round(s, shape, false);
            }
        }
    }
    for (int i = 0; i < count; i++) {
        close_stream(&streams[i]);
    }
}

static void send_stream(const struct options *o, const struct shape *shape)
{
    int sends = shape->window;
    struct stream stream;
    bool last = false;

    if (!shape->back) {
        sends = (int)(o->pending + WINDOW - 1) / WINDOW * WINDOW;
    }
    open_stream(&stream, shape, MOVER, sends, shape->back ? shape->window : 0);
    for (;;) {
        test_mpi(MPI_Waitall(stream.sends + stream.receives, stream.requests, MPI_STATUSES_IGNORE), "MPI_Waitall");
        if (last) {
            break;
        }
        test_pace(shape->back ? 0 : 1000); /* sends that end at once do not drive progress, and nobody could move */
        last = !test_exists(o->brake);
        start_round(&stream, shape, last);
    }
    close_stream(&stream);
}

static void stream(const struct options *o, const struct shape *shape)
{
    announce();
    if (MOVER == rank) {
        receive_streams(shape);
    } else if (SENDER == rank || (SECOND == rank && shape->both)) {
        send_stream(o, shape);
    }
}

/* ---- pending ---- */

static void pending(const struct options *o)
{
    MPI_Request *requests = test_alloc((size_t)o->pending * sizeof(MPI_Request));
    char byte = 0;

    for (long i = 0; SENDER == rank && i < o->pending; i++) {
        test_mpi(MPI_Issend(&byte, 1, MPI_CHAR, MOVER, TAG_LOAD, MPI_COMM_WORLD, &requests[i]), "MPI_Issend");
    }
    announce();
    wait_for_brake(o);
    for (long i = 0; MOVER == rank && i < o->pending; i++) {
        test_mpi(MPI_Recv(&byte, 1, MPI_CHAR, SENDER, TAG_LOAD, MPI_COMM_WORLD, MPI_STATUS_IGNORE), "MPI_Recv");
    }
    if (SENDER == rank) {
        test_mpi(MPI_Waitall((int)o->pending, requests, MPI_STATUSES_IGNORE), "MPI_Waitall");
    }
    free(requests);
}

/* ---- held ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Prints and forgets what has been measured. */
static void report(const char *state, long pending, double seconds, double posting)
{
    size_t count = samples.count;

    if (0 < count) {
        qsort(samples.values, count, sizeof(samples.values[0]), ascending);
        printf("load: %s pending=%ld batches=%zu median=%.3f quarter=%.3f best=%.3f seconds=%.3f posting=%.3f\n", state,
               pending, count, samples.values[count / 2], samples.values[count / 4], samples.values[0], seconds,
               posting);
        fflush(stdout);
    }
    samples.count = 0;
}

/* Microseconds from the sender to the third party, half of the round trip. */
static double trips(void)
{
    double start = MPI_Wtime();
    char byte = 0;

    for (int i = 0; i < TRIPS; i++) {
        MPI_Send(&byte, 1, MPI_CHAR, THIRD, TAG_THIRD, MPI_COMM_WORLD);
        MPI_Recv(&byte, 1, MPI_CHAR, THIRD, TAG_THIRD, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    return (MPI_Wtime() - start) * 1e6 / (2 * TRIPS);
}

static void keep(double value)
{
    if (SAMPLES > samples.count) {
        samples.values[samples.count++] = value;
    }
}

/* The mover is held: sends pile up, and the third party is served until the mover's answer comes. */
static void while_held(long pending, MPI_Request *answer)
{
    static char byte;
    MPI_Request *requests = test_alloc((size_t)pending * sizeof(MPI_Request));
    double begin = MPI_Wtime(), posted, value;
    int done = 0;

    for (long i = 0; i < pending; i++) {
        test_mpi(MPI_Isend(&byte, 1, MPI_CHAR, MOVER, TAG_LOAD, MPI_COMM_WORLD, &requests[i]), "MPI_Isend");
    }
    posted = MPI_Wtime();
    while (!done) {
        value = trips();
        test_mpi(MPI_Test(answer, &done, MPI_STATUS_IGNORE), "MPI_Test");
        if (!done) {
            keep(value);
        }
    }
    report("held", pending, MPI_Wtime() - posted, posted - begin);
    test_mpi(MPI_Waitall((int)pending, requests, MPI_STATUSES_IGNORE), "MPI_Waitall");
    free(requests);
}

static void held_sender(const struct options *o)
{
    char out = 0, in;
    MPI_Request answer, question;
    double start, begin = MPI_Wtime();
    int done;

    do {
        test_mpi(MPI_Irecv(&in, 1, MPI_CHAR, MOVER, TAG_PING, MPI_COMM_WORLD, &answer), "MPI_Irecv");
        start = MPI_Wtime();
        test_mpi(MPI_Isend(&out, 1, MPI_CHAR, MOVER, TAG_PING, MPI_COMM_WORLD, &question), "MPI_Isend");
        do {
            test_mpi(MPI_Test(&answer, &done, MPI_STATUS_IGNORE), "MPI_Test");
        } while (!done && HELD > MPI_Wtime() - start);
        if (!done) {
            report("free", 0, start - begin, 0);
            while_held(o->pending, &answer);
            begin = MPI_Wtime();
        } else {
            keep(trips());
        }
        test_mpi(MPI_Wait(&question, MPI_STATUS_IGNORE), "MPI_Wait");
    } while (test_exists(o->brake));
    report("free", 0, MPI_Wtime() - begin, 0);
    MPI_Send(&out, 1, MPI_CHAR, MOVER, TAG_STOP, MPI_COMM_WORLD);
    MPI_Send(&out, 1, MPI_CHAR, THIRD, TAG_STOP, MPI_COMM_WORLD);
}

/* Answers what is to be answered, until it is told to stop. */
static void answer_all(void)
{
    MPI_Status status;
    char byte;

    do {
        test_mpi(MPI_Recv(&byte, 1, MPI_CHAR, SENDER, MPI_ANY_TAG, MPI_COMM_WORLD, &status), "MPI_Recv");
        if (TAG_PING == status.MPI_TAG || TAG_THIRD == status.MPI_TAG) {
            test_mpi(MPI_Send(&byte, 1, MPI_CHAR, SENDER, status.MPI_TAG, MPI_COMM_WORLD), "MPI_Send");
        }
    } while (TAG_STOP != status.MPI_TAG);
}

static void held(const struct options *o)
{
    announce();
    if (SENDER == rank) {
        held_sender(o);
    } else if (SECOND != rank) {
        answer_all();
    }
}

/* ---- */

static void run(const struct options *o)
{
    static const struct shape shapes[] = {
        {"flood", 64, WINDOW, true, true},
        {"large", 4 << 20, 4, true, true},
        {"burst", 8, WINDOW, false, false},
    };

    static const struct {
        const char *load;
        void (*run)(const struct options *o);
    } others[] = {{"idle", idle}, {"pending", pending}, {"held", held}};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (0 == strcmp(others[i].load, o->load)) {
            others[i].run(o);
            return;
        }
    }
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        if (0 == strcmp(shapes[i].load, o->load)) {
            stream(o, &shapes[i]);
            return;
        }
    }
    usage();
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    int size;

    test_mpi(MPI_Init(NULL, NULL), "MPI_Init");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (RANKS != size) {
        usage();
    }
    memory = test_alloc(MOVER == rank ? (size_t)o.mib << 20 : 0);
    memset(memory, 1, MOVER == rank ? (size_t)o.mib << 20 : 0);
    MPI_Barrier(MPI_COMM_WORLD);
    test_print_places(MPI_COMM_WORLD, "load: ready");
    run(&o);
    /* who has nothing to do waits here, inside MPI */
    MPI_Barrier(MPI_COMM_WORLD);
    if (SENDER == rank) {
        printf("load: done\n");
    }
    MPI_Finalize();
    free(memory);
    return 0;
}
