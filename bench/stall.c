/*
 * How long ranks wait for each other: pairs exchange small messages, each rank notes its longest gaps.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * Who talks with whom is given by --channel A-B; nobody else does, there are no collectives: a rank without a channel
 * to another one stays unconnected with it. A gap is the time between two completed exchanges of a channel, by the wall
 * clock, which is the same before and after a move. Per channel and slice of time the longest one is printed at the
 * end.
 *
 * Between two looks at its channels a rank naps: there are more ranks than CPUs, and gaps that come from waiting for a
 * CPU would hide those that come from a move.
 */
#include <getopt.h>
#include <time.h>

#include "common.h"

#define CHANNELS_MAX 8
#define SLICE        0.02 /* seconds */
#define READY_AFTER  50   /* exchanges of each channel */
#define SLICES_MAX   20000

struct gap {
    double end, length; /* seconds */
};

struct channel {
    int peer;
    bool first; /* this end begins an exchange */
    bool over;
    int out, in; /* 1: the exchange is the last one */
    MPI_Request requests[2];
    long exchanges;
    double last;
    struct gap longest; /* of the slice */
    struct gap *slices;
    size_t slice_count;
};

struct options {
    long poll_us;
    const char *brake, *out;
    int ends[CHANNELS_MAX][2];
    int channel_count;
};

static int rank;
static struct channel channels[CHANNELS_MAX];
static int channel_count;

static void usage(void)
{
    fprintf(stderr, "usage: stall [OPTION...]\n"
                    "  --channel A-B     ranks A and B exchange messages; may be given several times\n"
                    "  --brake FILE      go on as long as this file is there\n"
                    "  --out FILE        rank R writes its gaps to FILE.R\n"
                    "  --poll-us T       microseconds between two looks, 0: spin\n");
    exit(TEST_USAGE);
}

static void add_ends(struct options *o, const char *text)
{
    int *ends = o->ends[o->channel_count];

    if (CHANNELS_MAX == o->channel_count || 2 != sscanf(text, "%d-%d", &ends[0], &ends[1]) || ends[0] == ends[1]) {
        usage();
    }
    o->channel_count++;
}

static struct options parse(int argc, char **argv)
{
    static const struct option known[] = {{"channel", required_argument, NULL, 'c'},
                                          {"brake", required_argument, NULL, 'b'},
                                          {"out", required_argument, NULL, 'o'},
                                          {"poll-us", required_argument, NULL, 'p'},
                                          {0}};
    struct options o = {.poll_us = 100};
    int c;

    while (-1 != (c = getopt_long(argc, argv, "", known, NULL))) {
        switch (c) {
        case 'c': add_ends(&o, optarg); break;
        case 'b': o.brake = optarg; break;
        case 'o': o.out = optarg; break;
        case 'p': o.poll_us = test_number("poll-us", optarg, 0, 1000000); break;
        default: usage();
        }
    }
    if (optind != argc || NULL == o.out) {
        usage();
    }
    return o;
}

static double wall_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Nothing here blocks: a rank that waits in a send to the mover could not serve its other channels. */
static void send(struct channel *c, int last)
{
    c->out = last;
    test_mpi(MPI_Isend(&c->out, 1, MPI_INT, c->peer, 1, MPI_COMM_WORLD, &c->requests[1]), "MPI_Isend");
}

static void receive(struct channel *c)
{
    test_mpi(MPI_Irecv(&c->in, 1, MPI_INT, c->peer, 1, MPI_COMM_WORLD, &c->requests[0]), "MPI_Irecv");
}

static void open_channels(const struct options *o)
{
    for (int i = 0; i < o->channel_count; i++) {
        struct channel *c = &channels[channel_count];
        bool first = rank == o->ends[i][0];

        if (!first && rank != o->ends[i][1]) {
            continue;
        }
        *c = (struct channel){.peer = o->ends[i][first], .first = first, .last = wall_clock()};
        c->slices = test_alloc(SLICES_MAX * sizeof(*c->slices));
        c->requests[1] = MPI_REQUEST_NULL;
        receive(c);
        if (c->first) {
            send(c, false);
        }
        channel_count++;
    }
}

static void note(struct channel *c)
{
    struct gap gap = {.end = wall_clock()};

    gap.length = gap.end - c->last;
    if ((long)(gap.end / SLICE) != (long)(c->last / SLICE) && SLICES_MAX > c->slice_count) {
        c->slices[c->slice_count++] = c->longest;
        c->longest = (struct gap){0};
    }
    if (gap.length > c->longest.length) {
        c->longest = gap;
    }
    c->last = gap.end;
    c->exchanges++;
}

/* Whether the channel has got on. The end that does not begin answers with what it has got. */
static bool look(struct channel *c, bool last)
{
    int done;

    test_mpi(MPI_Testall(2, c->requests, &done, MPI_STATUSES_IGNORE), "MPI_Testall");
    if (!done) {
        return false;
    }
    note(c);
    c->over = (0 != c->in);
    if (!c->first) {
        send(c, c->in);
    }
    if (c->over) {
        test_mpi(MPI_Wait(&c->requests[1], MPI_STATUS_IGNORE), "MPI_Wait");
        return true;
    }
    receive(c);
    if (c->first) {
        send(c, last);
    }
    return true;
}

static void say_ready(void)
{
    static bool said;
    char name[MPI_MAX_PROCESSOR_NAME];
    int length;

    for (int i = 0; i < channel_count; i++) {
        if (READY_AFTER > channels[i].exchanges) {
            return;
        }
    }
    if (!said) {
        said = true;
        test_mpi(MPI_Get_processor_name(name, &length), "MPI_Get_processor_name");
        printf("stall: ready %d@%s\n", rank, name);
        fflush(stdout);
    }
}

static void exchange(const struct options *o)
{
    bool last = false, moved = false;
    long slice = 0;
    int open;

    do {
        open = 0;
        moved = false;
        for (int i = 0; i < channel_count; i++) {
            if (!channels[i].over) {
                moved = look(&channels[i], last) || moved;
                open++;
            }
        }
        if (slice != (long)(wall_clock() / SLICE)) {
            slice = (long)(wall_clock() / SLICE);
            last = !test_exists(o->brake);
            say_ready();
        }
        if (!moved && 0 != o->poll_us) {
            usleep((useconds_t)o->poll_us);
        }
    } while (0 < open);
}

/* To a file of its own: mpirun may mix the lines of ranks that print much at the same time. */
static void print(const struct options *o)
{
    char path[4096];
    FILE *file;

    snprintf(path, sizeof(path), "%s.%d", o->out, rank);
    file = fopen(path, "w");
    if (NULL == file) {
        test_defect("%s: %s", path, strerror(errno));
    }
    for (const struct channel *c = channels; c < channels + channel_count; c++) {
        for (size_t i = 0; i < c->slice_count; i++) {
            fprintf(file, "stall: gap rank=%d peer=%d end=%.6f us=%.1f\n", rank, c->peer, c->slices[i].end,
                    c->slices[i].length * 1e6);
        }
    }
    if (0 != fclose(file)) {
        test_defect("%s: %s", path, strerror(errno));
    }
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);

    test_mpi(MPI_Init(NULL, NULL), "MPI_Init");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    open_channels(&o);
    exchange(&o);
    print(&o);
    for (int i = 0; i < channel_count; i++) {
        free(channels[i].slices);
    }
    MPI_Finalize();
    return 0;
}
