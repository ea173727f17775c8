/*
 * A storm of MPI traffic of all kinds that proves that nothing is lost, doubled, reordered or corrupted.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * The run goes in rounds; each is of one kind (see --list-kinds) with sizes, pairs and roots drawn at random. All
 * ranks draw the same numbers, so they agree without a word, and a round ends for a rank when its own part is done.
 * Kinds are dealt like cards: a new deal begins when each has been used. Every CHECK_EVERY rounds all ranks meet,
 * compare how much was sent and received, and rank 0 decides whether to go on.
 */
#include <pthread.h>
#include <time.h>

#include "storm.h"

#define KINDS_MAX   160
#define CHANNELS    (6 + 2 + WILD_COMMS)
#define WORKER_EACH 7 /* every so many rounds are made by another thread, with --thread serialized */

struct storm storm;

static const struct kind *kinds[KINDS_MAX];
static int kind_count, order[KINDS_MAX];
static uint64_t kind_rounds[KINDS_MAX];
static struct channel *channels[CHANNELS];

static const char *const class_names[] = {"0B",       "<header", "<=4KiB", "<=64KiB",
                                          "<=128KiB", "<=1MiB",  "<10MiB", "10MiB"};
static const struct kind *const tables[] = {p2p_kinds,       match_kinds, type_kinds,     coll_kinds,
                                            neighbour_kinds, comm_kinds,  onesided_kinds, other_kinds};

/* ---------------------------------------------------------------------- channels */

static struct channel *open_static(int index, long longest, bool open_ended)
{
    MPI_Comm comm;

    test_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
    channels[index] = channel_open(comm, (uint64_t)index + 1, longest);
    channels[index]->open_ended = open_ended;
    return channels[index];
}

static void open_channels(void)
{
    int index = 0;
    MPI_Comm comm;

    test_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &storm.collect), "MPI_Comm_dup");
    test_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &storm.overlap), "MPI_Comm_dup");
    test_mpi(MPI_Comm_set_errhandler(storm.collect, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    test_mpi(MPI_Comm_set_errhandler(storm.overlap, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    storm.plain = open_static(index++, LONGEST, false);
    storm.ack = open_static(index++, LONGEST, false);
    storm.late = open_static(index++, LONGEST, true);
    storm.early = open_static(index++, LONGEST, true);
    storm.flood[0] = open_static(index++, 256, false);
    storm.flood[1] = open_static(index++, 256, false);
    for (int i = 0; i < WILD_COMMS; i++) {
        storm.wild[i] = open_static(index++, WILD_MAX, false);
    }
    test_mpi(MPI_Comm_dup(MPI_COMM_SELF, &comm), "MPI_Comm_dup");
    storm.self = channel_open(comm, (uint64_t)index + 1, LONGEST);
}

static void close_channels(void)
{
    channel_close(storm.self);
    for (int i = 0; i < CHANNELS && NULL != channels[i]; i++) {
        channel_close(channels[i]);
    }
    test_mpi(MPI_Comm_free(&storm.overlap), "MPI_Comm_free");
    test_mpi(MPI_Comm_free(&storm.collect), "MPI_Comm_free");
}

struct channel *storm_wild(void)
{
    if (WILD_COMMS == storm.wild_used) {
        storm_sync();
    }
    return storm.wild[storm.wild_used++];
}

/* What others say they have sent has to be what came. */
static void compare_counts(const struct channel *c)
{
    uint64_t *sent = test_alloc(2 * (size_t)storm.size * sizeof(*sent)), *told = sent + storm.size;

    for (int i = 0; i < storm.size; i++) {
        sent[i] = c->pairs[i].sent;
    }
    test_mpi(MPI_Alltoall(sent, 1, MPI_UINT64_T, told, 1, MPI_UINT64_T, storm.collect), "MPI_Alltoall");
    for (int i = 0; i < storm.size; i++) {
        if (told[i] != c->pairs[i].expected) {
            storm_defect(told[i] > c->pairs[i].expected ? LOST : DOUBLED,
                         "pair %d -> %d, channel %" PRIx64 ": %" PRIu64 " messages were sent, %" PRIu64 " came", i,
                         storm.rank, c->id, told[i], c->pairs[i].expected);
        }
    }
    free(sent);
}

void storm_sync(void)
{
    storm.step = "meeting all ranks";
    test_mpi(MPI_Barrier(storm.collect), "MPI_Barrier");
    message_judge();
    for (int i = 0; i < CHANNELS && NULL != channels[i]; i++) {
        if (!channels[i]->open_ended) {
            channel_expect_empty(channels[i]);
        }
    }
    compare_counts(storm.plain);
    compare_counts(storm.wild[storm.round % WILD_COMMS]);
    storm.wild_used = 0;
}

/* ---------------------------------------------------------------------- kinds */

/* Whether a name is in a list with commas. */
static bool listed(const char *at, const char *name)
{
    size_t length = strlen(name);

    while (NULL != at && '\0' != *at) {
        size_t part = strcspn(at, ",");

        if (part == length && 0 == strncmp(at, name, length)) {
            return true;
        }
        at += part + (',' == at[part]);
    }
    return false;
}

static bool wanted(const struct kind *k)
{
    if ((NEED_SPAWN == k->need && !options.spawn) || (NEED_ONESIDED == k->need && !options.onesided) ||
        (NEED_IO == k->need && NULL == options.io)) {
        return false;
    }
    return (NULL == options.only || listed(options.only, k->name)) && !listed(options.except, k->name);
}

static void collect_kinds(void)
{
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        for (const struct kind *k = tables[i]; NULL != k->name; k++) {
            if (options.list) {
                printf("%s\n", k->name);
            } else if (wanted(k) && kind_count < KINDS_MAX) {
                kinds[kind_count++] = k;
            }
        }
    }
    if (options.list) {
        exit(0);
    }
    if (0 == kind_count) {
        fprintf(stderr, "no kind is left: there is none of that name, or it needs another option\n");
        exit(TEST_USAGE);
    }
}

/* The kind of this round: card number round % kind_count of the deal that is on. */
static int deal(void)
{
    int card = (int)(storm.round % kind_count);
    uint64_t random = mix(storm.seed ^ mix((uint64_t)(storm.round / kind_count)));

    if (0 == card) {
        for (int i = 0; i < kind_count; i++) {
            int other = (int)draw(&random, i + 1);

            order[i] = order[other];
            order[other] = i;
        }
    }
    return order[card];
}

/* Pure computation: no MPI call for some milliseconds, on some ranks. */
static void compute(void)
{
    uint64_t random = mix(storm.random ^ (uint64_t)storm.rank), sum = 0;
    struct timespec now, end;

    if (0 == options.compute || 0 != draw(&random, 8)) {
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += draw(&random, options.compute) * 1000000;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    do {
        for (int i = 0; i < 10000; i++) {
            sum += mix(sum + (uint64_t)i);
        }
        __asm__ volatile("" : : "r"(sum));
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
}

static void inject_stall(void)
{
    if (INJECT_STALL == storm.inject && storm.round > 2 && storm.rank == storm.size - 1) {
        storm.kind = "an injected stall";
        for (;;) {
            pause();
        }
    }
}

static void *run_kind(void *kind)
{
    const struct kind *k = kind;

    k->run(k->argument);
    return NULL;
}

static void run_round(void)
{
    int number = deal();
    const struct kind *k = kinds[number];
    pthread_t worker;
    char head[120];

    storm.random = mix(storm.seed ^ mix((uint64_t)storm.round + 77));
    storm.kind = k->name;
    storm.step = "its beginning";
    storm_guard();
    compute();
    inject_stall();
    if (MPI_THREAD_SERIALIZED == options.thread && 0 == storm.round % WORKER_EACH) {
        if (0 != pthread_create(&worker, NULL, run_kind, (void *)k) || 0 != pthread_join(worker, NULL)) {
            test_defect("no thread");
        }
    } else {
        run_kind((void *)k);
    }
    kind_rounds[number]++;
    storm.round++;
    if (0 != options.report && 0 == storm.round % options.report) {
        storm.step = "the report";
        snprintf(head, sizeof(head), "storm: round %ld kind %s", storm.round, k->name);
        test_print_places(storm.collect, head);
    }
}

/* Rank 0 decides where all ranks meet; every kind is run at least once. */
static bool another_round(double start)
{
    int more = 0;

    if (0 != options.rounds) {
        if (0 == storm.round % CHECK_EVERY) {
            storm_sync();
        }
        return storm.round < options.rounds || storm.round < kind_count;
    }
    if (0 != storm.round % CHECK_EVERY) {
        return true;
    }
    storm_sync();
    storm.step = "the decision";
    if (0 == storm.rank) {
        more = storm.round < kind_count || MPI_Wtime() - start < (double)options.seconds || test_exists(options.brake);
    }
    test_mpi(MPI_Bcast(&more, 1, MPI_INT, 0, storm.collect), "MPI_Bcast of the decision");
    return 0 != more;
}

/* ---------------------------------------------------------------------- beginning and end */

static void print_totals(void)
{
    uint64_t mine[10] = {storm.messages, storm.bytes}, all[10];

    memcpy(mine + 2, storm.classes, sizeof(storm.classes));
    test_mpi(MPI_Reduce(mine, all, 10, MPI_UINT64_T, MPI_SUM, 0, storm.collect), "MPI_Reduce of the totals");
    if (0 != storm.rank) {
        return;
    }
    printf("storm: sizes");
    for (int i = 0; i < 8; i++) {
        printf(" %s:%" PRIu64, class_names[i], all[2 + i]);
    }
    printf("\nstorm: kinds");
    for (int i = 0; i < kind_count; i++) {
        printf(" %s:%" PRIu64, kinds[i]->name, kind_rounds[i]);
    }
    printf("\nstorm: ok rounds=%ld messages=%" PRIu64 " bytes=%" PRIu64
           " kinds=%d lost=0 doubled=0 reordered=0 corrupted=0\n",
           storm.round, all[0], all[1], kind_count);
    fflush(stdout);
}

static void start(char **argv)
{
    storm_guard();
    open_channels();
    neighbour_start();
    if (options.onesided) {
        onesided_start();
    }
    if (NULL != options.io) {
        io_start(options.io);
    }
    if (options.spawn) {
        spawn_start(argv);
    }
}

static void finish(void)
{
    storm.kind = "the end";
    storm_guard();
    match_finish();
    comm_finish();
    storm_sync();
    if (options.spawn) {
        spawn_finish();
    }
    if (NULL != options.io) {
        io_finish();
    }
    if (options.onesided) {
        onesided_finish();
    }
    neighbour_finish();
    print_totals();
    close_channels();
}

int main(int argc, char **argv)
{
    int provided;
    double begin;

    options_parse(argc, argv);
    collect_kinds();
    test_mpi(MPI_Init_thread(NULL, NULL, options.thread, &provided), "MPI_Init_thread");
    if (provided < options.thread) {
        test_defect("thread level %d instead of %d", provided, options.thread);
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &storm.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &storm.size);
    storm.seed = mix((uint64_t)options.seed);
    storm.inject = options.inject;
    storm.kind = storm.step = "the start";
    storm_alarm_start();
    if (spawn_is_child()) {
        spawn_child();
    } else if (storm.size < 2) {
        test_defect("at least 2 ranks are needed");
    } else {
        start(argv);
        begin = MPI_Wtime();
        while (another_round(begin)) {
            run_round();
        }
        finish();
    }
    alarm(0);
    test_mpi(MPI_Finalize(), "MPI_Finalize");
    return 0;
}
