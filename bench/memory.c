/*
 * A process that uses its memory and notes how long it stood still: a rank that moves, or one without MPI.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * The same source makes `memory`, of which rank 1 moves and rank 0 answers it, and `alone` (ALONE is defined), which
 * stock CRIU can move: what they do with their memory is the same to the last instruction.
 *
 * A gap is the time between two looks, by the wall clock. The mover looks after every few pages; a look of a rank
 * counts when an exchange of messages with rank 0 has been completed in it, so what MPI needs to be quiet and to be
 * connected again is part of the gap. Rank 0 sleeps between two looks, as it shares the CPUs with the mover, with those
 * who move it, and with the stock processes.
 */
#include <getopt.h>
#include <unistd.h>

#ifndef ALONE
#include <mpi.h>
#endif

#include "plain.h"

#define STEP      4     /* pages between two looks */
#define NAP_US    100   /* of rank 0, and of a mover that does nothing */
#define BRAKE_S   0.02  /* between two looks for the brake */
#define GAP_S     0.001 /* shorter gaps are nobody's business */
#define TOUCH_S   20e-6 /* what is there, or comes from this machine, is touched in less */
#define NOTES_MAX 2000000

struct note {
    double end;
    float us;
    bool touch;
};

static struct {
    long mib;
    bool huge, touches;
    enum { IDLE, RANDOM, WRITE } use;
    const char *brake, *out;
} o = {.mib = 16};

static uint64_t *memory;
static size_t pages;
static struct note notes[NOTES_MAX]; /* memory is used only as far as there are any */
static size_t note_count;

static void usage(void)
{
    fprintf(stderr, "usage: memory|alone [OPTION...]\n"
                    "  --mib N        memory of the mover\n"
                    "  --huge         of huge pages\n"
                    "  --use HOW      idle, random, write\n"
                    "  --touches      note touches that took long, too (random)\n"
                    "  --brake FILE   go on as long as this file is there\n"
                    "  --out FILE     where to write what was noted\n");
    exit(2);
}

static int use_named(const char *name)
{
    static const char *const names[] = {"idle", "random", "write"};

    for (int i = 0; i < 3; i++) {
        if (0 == strcmp(names[i], name)) {
            return i;
        }
    }
    usage();
    return -1;
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = {{"mib", required_argument, NULL, 'm'},
                                          {"huge", no_argument, NULL, 'h'},
                                          {"use", required_argument, NULL, 'u'},
                                          {"touches", no_argument, NULL, 't'},
                                          {"brake", required_argument, NULL, 'b'},
                                          {"out", required_argument, NULL, 'o'},
                                          {0}};
    int c;

    while (-1 != (c = getopt_long(argc, argv, "", known, NULL))) {
        switch (c) {
        case 'm': o.mib = number(optarg, 1, 65536); break;
        case 'h': o.huge = true; break;
        case 'u': o.use = use_named(optarg); break;
        case 't': o.touches = true; break;
        case 'b': o.brake = optarg; break;
        case 'o': o.out = optarg; break;
        default: usage();
        }
    }
    if (optind != argc || NULL == o.brake || NULL == o.out) {
        usage();
    }
}

static void note(double end, double seconds, bool touch)
{
    if (NOTES_MAX > note_count) {
        notes[note_count++] = (struct note){end, (float)(seconds * 1e6), touch};
    }
}

/* ---- use of memory ---- */

static void touch(size_t page)
{
    volatile uint64_t *p = &memory[page * WORDS];
    const double before = o.touches ? wall_clock() : 0;
    double now;

    p[0]++;
    if (o.touches && TOUCH_S < (now = wall_clock()) - before) {
        note(now, now - before, true);
    }
    if (p[1] != word_of(page, 1)) {
        die("page %zu of %zu does not hold what was put into it", page, pages);
    }
}

static void step(void)
{
    static uint64_t state = 88172645463325252u;
    static size_t next;

    for (int i = 0; i < STEP; i++) {
        switch (o.use) {
        case RANDOM: touch(chance(&state) % pages); break;
        case WRITE:
            write_page(memory, next);
            next = (next + 1) % pages;
            break;
        default: break;
        }
    }
    if (IDLE == o.use) {
        usleep(NAP_US);
    }
}

/* ---- looks ---- */

#ifdef ALONE

static bool got_on(bool last)
{
    (void)last;
    return true;
}

static void end_exchange(void)
{
}

#else

#define TAG 1

static MPI_Request requests[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
static int sent, got;

static bool tested(void)
{
    int done;

    MPI_Testall(2, requests, &done, MPI_STATUSES_IGNORE);
    return done;
}

/* Whether an exchange has been completed; then the next one begins. */
static bool got_on(bool last)
{
    if (!tested()) {
        return false;
    }
    sent = last;
    MPI_Irecv(&got, 1, MPI_INT, 0, TAG, MPI_COMM_WORLD, &requests[0]);
    MPI_Isend(&sent, 1, MPI_INT, 0, TAG, MPI_COMM_WORLD, &requests[1]);
    return true;
}

static void end_exchange(void)
{
    while (!sent) {
        (void)got_on(true);
    }
    MPI_Waitall(2, requests, MPI_STATUSES_IGNORE);
}

/* Rank 0. */
static void answer(void)
{
    int last = 0;

    while (!last) {
        MPI_Irecv(&got, 1, MPI_INT, 1, TAG, MPI_COMM_WORLD, &requests[0]);
        while (!tested()) {
            usleep(NAP_US);
        }
        last = sent = got;
        MPI_Isend(&sent, 1, MPI_INT, 1, TAG, MPI_COMM_WORLD, &requests[1]);
    }
    MPI_Waitall(2, requests, MPI_STATUSES_IGNORE);
}

#endif

static void make_memory(void)
{
    pages = (size_t)o.mib * (1ul << 20) / PAGE;
    memory = map_memory(pages * PAGE, o.huge);
    for (size_t page = 0; page < pages; page++) {
        write_page(memory, page);
    }
}

static void run(void)
{
    double last = wall_clock(), looked = last, now;

    while (true) {
        step();
        if (!got_on(false)) {
            continue;
        }
        now = wall_clock();
        if (GAP_S < now - last) {
            note(now, now - last, false);
        }
        last = now;
        if (BRAKE_S < now - looked) {
            looked = now;
            if (0 != access(o.brake, F_OK)) {
                break;
            }
        }
    }
    end_exchange();
}

/* Appends, so that one file has the notes of all processes of a measurement: nobody writes at the same time. */
static void print(void)
{
    FILE *file = fopen(o.out, "a");

    if (NULL == file) {
        die("%s: %s", o.out, strerror(errno));
    }
    for (const struct note *n = notes; n < notes + note_count; n++) {
        fprintf(file, "memory: %s end=%.6f us=%.1f\n", n->touch ? "touch" : "gap", n->end, (double)n->us);
    }
    if (0 != fclose(file)) {
        die("%s: %s", o.out, strerror(errno));
    }
}

static void move_about(void)
{
    make_memory();
    printf("memory: ready %ld\n", (long)getpid());
    fflush(stdout);
    run();
    print();
    printf("memory: over\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
#ifdef ALONE
    move_about();
#else
    int rank;

    MPI_Init(NULL, NULL);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (0 == rank) {
        answer();
    } else {
        move_about();
    }
    MPI_Finalize();
#endif
    return 0;
}
