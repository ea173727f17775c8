/*
 * What a rank sees of itself: pid, threads, host, clock, open files, numbered output; and the ways it can end.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * Each step prints one line on stdout and one on stderr, both numbered from 1 per rank, exchanges a value with both
 * neighbours, and compares what may not change with what it was. Anything wrong ends the job with code 9.
 */
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include <time.h>

#include "common.h"

#define RECORD      32   /* bytes per record of the file that is read */
#define RECORDS     4096 /* records in it; reading goes on at the start when it has come to the end */
#define THREADS_MAX 64

struct options {
    long steps, step_ms;
    long exit_rank, exit_code;
    long abort_rank, abort_at;
    long die_rank, die_at, die_signal;
    long early_rank, early_at;
    long compute_rank;
    const char *dir, *brake, *trigger, *compute_while;
};

struct view {
    MPI_Comm comm; /* all ranks, or all but the one that leaves early */
    int rank;
    long step;   /* lines on stdout so far */
    long errors; /* lines on stderr so far */
    pid_t pid;
    char tids[THREADS_MAX * 12];
    char host[MPI_MAX_PROCESSOR_NAME];
    double time;
    double wall; /* wall clock less MPI_Wtime in the beginning */
    int in, out; /* files, -1 without --dir */
    char out_path[4096];
};

static void usage(void)
{
    fprintf(stderr,
            "usage: view [OPTION...]\n"
            "  --steps N --step-ms T             at least N steps of T ms each\n"
            "  --brake FILE                      go on as long as this file exists\n"
            "  --dir D                           write and read files in this directory, on a path all nodes share\n"
            "  --exit-rank R --exit-code C       rank R returns C from main after MPI_Finalize\n"
            "  --abort-rank R --abort-at K       rank R calls MPI_Abort with code 7 in step K\n"
            "  --die-rank R --die-at K           rank R raises a signal in step K\n"
            "  --die-signal N                    this signal, else SIGSEGV\n"
            "  --early-rank R --early-at K       rank R goes into MPI_Finalize after step K, the others work on\n"
            "  --trigger FILE                    abort, die, early: not in step K but as soon as this file exists\n"
            "  --compute-rank R --compute-while FILE\n"
            "                                    rank R stays out of MPI as long as this file exists\n");
    exit(TEST_USAGE);
}

static struct options parse(int argc, char **argv)
{
    struct options o = {.steps = 10,
                        .step_ms = 200,
                        .exit_rank = -1,
                        .abort_rank = -1,
                        .die_rank = -1,
                        .die_signal = SIGSEGV,
                        .early_rank = -1,
                        .compute_rank = -1};
    const struct {
        const char *name;
        long *value;
    } numbers[] = {{"steps", &o.steps},           {"step-ms", &o.step_ms},       {"exit-rank", &o.exit_rank},
                   {"exit-code", &o.exit_code},   {"abort-rank", &o.abort_rank}, {"abort-at", &o.abort_at},
                   {"die-rank", &o.die_rank},     {"die-at", &o.die_at},         {"die-signal", &o.die_signal},
                   {"early-rank", &o.early_rank}, {"early-at", &o.early_at},     {"compute-rank", &o.compute_rank}};
    const struct {
        const char *name;
        const char **value;
    } texts[] = {{"dir", &o.dir}, {"brake", &o.brake}, {"trigger", &o.trigger}, {"compute-while", &o.compute_while}};
    enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]), TEXTS = sizeof(texts) / sizeof(texts[0]) };
    struct option names[NUMBERS + TEXTS + 1] = {0};
    int c, index;

    for (int i = 0; i < NUMBERS; i++) {
        names[i] = (struct option){numbers[i].name, required_argument, NULL, 'n'};
    }
    for (int i = 0; i < TEXTS; i++) {
        names[NUMBERS + i] = (struct option){texts[i].name, required_argument, NULL, 't'};
    }
    while (-1 != (c = getopt_long(argc, argv, "", names, &index))) {
        if ('n' == c) {
            *numbers[index].value = test_number(names[index].name, optarg, 0, 1000000000);
        } else if ('t' == c) {
            *texts[index - NUMBERS].value = optarg;
        } else {
            usage();
        }
    }
    if (optind != argc) {
        usage();
    }
    return o;
}

/* One numbered line on stderr. */
__attribute__((format(printf, 2, 3))) static void note(struct view *v, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "view-err: rank %d line %ld: %s\n", v->rank, ++v->errors, text);
}

static int compare_numbers(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;

    return (x > y) - (x < y);
}

/* The ids of the process's threads, sorted, with commas between. */
static void read_tids(char *text, size_t bytes)
{
    long tids[THREADS_MAX];
    int count = 0;
    size_t used = 0;
    struct dirent *entry;
    DIR *dir = opendir("/proc/self/task");

    if (NULL == dir) {
        test_defect("/proc/self/task: %s", strerror(errno));
    }
    while (NULL != (entry = readdir(dir))) {
        if ('.' == entry->d_name[0]) {
            continue;
        }
        if (THREADS_MAX == count) {
            test_defect("more than %d threads", THREADS_MAX);
        }
        tids[count++] = test_number("tid", entry->d_name, 1, 1L << 30);
    }
    closedir(dir);
    qsort(tids, (size_t)count, sizeof(tids[0]), compare_numbers);
    for (int i = 0; i < count; i++) {
        used += (size_t)snprintf(text + used, bytes - used, "%s%ld", 0 == i ? "" : ",", tids[i]);
    }
}

static void write_all(int fd, const char *data, size_t bytes, const char *what)
{
    while (0 < bytes) {
        ssize_t n = write(fd, data, bytes);

        if (n < 0 && EINTR != errno) {
            test_defect("%s: %s", what, strerror(errno));
        }
        if (n > 0) {
            data += n;
            bytes -= (size_t)n;
        }
    }
}

/* Record `number` of the file that rank `rank` reads; text has room for RECORD bytes and a null. */
static void format_record(char *text, int rank, long number)
{
    char wide[64];

    if (RECORD != snprintf(wide, sizeof(wide), "rank %6d record %12ld\n", rank, number)) {
        test_defect("a record is not %d bytes long", RECORD);
    }
    memcpy(text, wide, RECORD + 1);
}

/* Makes the file to be read: numbered records of one length. Returns it open at its start. */
static int make_input(const char *dir, int rank)
{
    char path[4096], record[RECORD + 1];
    int fd;

    snprintf(path, sizeof(path), "%s/view.%d.in", dir, rank);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) {
        test_defect("%s: %s", path, strerror(errno));
    }
    for (long i = 0; i < RECORDS; i++) {
        format_record(record, rank, i);
        write_all(fd, record, RECORD, path);
    }
    if (0 != lseek(fd, 0, SEEK_SET)) {
        test_defect("%s: %s", path, strerror(errno));
    }
    return fd;
}

static void files_open(struct view *v, const char *dir)
{
    v->in = v->out = -1;
    if (NULL == dir) {
        return;
    }
    v->in = make_input(dir, v->rank);
    snprintf(v->out_path, sizeof(v->out_path), "%s/view.%d.out", dir, v->rank);
    /* No O_APPEND: the lines come out right only when the file offset is kept. */
    v->out = open(v->out_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (v->out < 0) {
        test_defect("%s: %s", v->out_path, strerror(errno));
    }
}

/* Writes the step's line and reads the step's record. */
static void files_step(struct view *v)
{
    char line[128], expected[RECORD + 1], record[RECORD + 1] = "";
    long number = (v->step - 1) % RECORDS;

    if (v->out < 0) {
        return;
    }
    write_all(v->out, line, (size_t)snprintf(line, sizeof(line), "rank %d step %ld\n", v->rank, v->step), v->out_path);
    if (0 == number && 0 != lseek(v->in, 0, SEEK_SET)) {
        test_defect("going back to the start of the input: %s", strerror(errno));
    }
    if (RECORD != read(v->in, record, RECORD)) {
        test_defect("record %ld of the input cannot be read", number);
    }
    format_record(expected, v->rank, number);
    if (0 != strcmp(record, expected)) {
        test_defect("record %ld of the input is \"%.*s\"", number, RECORD - 1, record);
    }
}

/* The written file holds every line once and in order, and nothing else. */
static void files_verify(struct view *v)
{
    char line[128], expected[128];
    long step = 0;
    FILE *file;

    if (v->out < 0) {
        return;
    }
    if (0 != close(v->out) || 0 != close(v->in)) {
        test_defect("%s: closing: %s", v->out_path, strerror(errno));
    }
    file = fopen(v->out_path, "r");
    if (NULL == file) {
        test_defect("%s: %s", v->out_path, strerror(errno));
    }
    while (NULL != fgets(line, sizeof(line), file)) {
        snprintf(expected, sizeof(expected), "rank %d step %ld\n", v->rank, ++step);
        if (0 != strcmp(line, expected)) {
            test_defect("%s: line %ld is \"%.*s\"", v->out_path, step, (int)strcspn(line, "\n"), line);
        }
    }
    if (0 != ferror(file) || step != v->step) {
        test_defect("%s: %ld lines in place of %ld", v->out_path, step, v->step);
    }
    fclose(file);
}

/* How far MPI_Wtime may be from the wall clock's count of the seconds, however many moves there were. */
#define WTIME_TOLERANCE 0.02

/* The wall clock less MPI_Wtime, from two readings with nothing between them. */
static double wall_offset(void)
{
    struct timespec wall;
    double before, after;

    do {
        before = MPI_Wtime();
        clock_gettime(CLOCK_REALTIME, &wall);
        after = MPI_Wtime();
    } while (after - before > 0.001);
    return (double)wall.tv_sec + (double)wall.tv_nsec / 1e9 - before;
}

/* Takes what may not change from now on. All ranks have spoken to each other by then, so every thread is there. */
static void remember(struct view *v)
{
    test_mpi(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
    v->pid = getpid();
    read_tids(v->tids, sizeof(v->tids));
    v->time = MPI_Wtime();
    v->wall = wall_offset();
}

static void check_self(struct view *v)
{
    char tids[sizeof(v->tids)], host[256] = "";
    int length;
    double time = MPI_Wtime();

    if (getpid() != v->pid) {
        test_defect("the pid was %d and is %d", (int)v->pid, (int)getpid());
    }
    read_tids(tids, sizeof(tids));
    if (0 != strcmp(tids, v->tids)) {
        test_defect("the threads were %s and are %s", v->tids, tids);
    }
    if (time < v->time) {
        test_defect("MPI_Wtime went back from %.9f to %.9f", v->time, time);
    }
    v->time = time;
    if (fabs(wall_offset() - v->wall) > WTIME_TOLERANCE) {
        test_defect("MPI_Wtime is %.3f s behind the wall clock", wall_offset() - v->wall);
    }
    if (0 != gethostname(host, sizeof(host) - 1)) {
        test_defect("gethostname: %s", strerror(errno));
    }
    test_mpi(MPI_Get_processor_name(v->host, &length), "MPI_Get_processor_name");
    if (0 != strcmp(host, v->host)) {
        test_defect("MPI_Get_processor_name says %s, gethostname %s", v->host, host);
    }
}

/* A value goes round the ring both ways. */
static void exchange(struct view *v)
{
    int rank, size;
    long out[2], in[2];

    MPI_Comm_rank(v->comm, &rank);
    MPI_Comm_size(v->comm, &size);
    for (int way = -1; way <= 1; way += 2) {
        int to = (rank + way + size) % size, from = (rank - way + size) % size;

        out[0] = rank;
        out[1] = v->step;
        test_mpi(
            MPI_Sendrecv(out, 2, MPI_LONG, to, way + 1, in, 2, MPI_LONG, from, way + 1, v->comm, MPI_STATUS_IGNORE),
            "MPI_Sendrecv");
        if (from != in[0] || v->step != in[1]) {
            test_defect("rank %d, step %ld came from %d in step %ld", (int)in[0], in[1], from, v->step);
        }
    }
}

/* Whether the moment of an action has come. */
static bool due(const struct view *v, const struct options *o, long rank, long at)
{
    if (rank != v->rank) {
        return false;
    }
    return NULL != o->trigger ? test_exists(o->trigger) : v->step == at;
}

/* Ends this rank the hard way when it is its turn. */
static void act(struct view *v, const struct options *o)
{
    struct rlimit none = {0, 0};

    if (due(v, o, o->abort_rank, o->abort_at)) {
        note(v, "calls MPI_Abort");
        MPI_Abort(MPI_COMM_WORLD, 7);
    }
    if (due(v, o, o->die_rank, o->die_at)) {
        note(v, "raises signal %ld", o->die_signal);
        if (0 != setrlimit(RLIMIT_CORE, &none) || 0 != raise((int)o->die_signal)) {
            test_defect("cannot raise signal %ld: %s", o->die_signal, strerror(errno));
        }
    }
}

/* Computes without a call of MPI, as an application does between two exchanges. */
static void compute(struct view *v, const struct options *o)
{
    volatile double x = 1.0;
    sigset_t all, before;

    if (o->compute_rank != v->rank || !test_exists(o->compute_while)) {
        return;
    }
    /* deaf: LPM would stop it outside MPI otherwise, and nobody would have to wait */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    note(v, "computes outside MPI");
    while (test_exists(o->compute_while)) {
        for (int i = 0; i < 100000; i++) {
            x = x * 1.0000001 + 1e-9;
        }
    }
    note(v, "is done computing");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The first rank of the communicator decides for all. */
static bool another_step(const struct view *v, const struct options *o)
{
    int rank, more = 0;

    MPI_Comm_rank(v->comm, &rank);
    if (0 == rank) {
        more = v->step < o->steps || test_exists(o->brake);
    }
    test_mpi(MPI_Bcast(&more, 1, MPI_INT, 0, v->comm), "MPI_Bcast of the decision");
    return 0 != more;
}

static void run(struct view *v, const struct options *o)
{
    while (another_step(v, o)) {
        v->step++;
        test_pace(o->step_ms * 1000);
        check_self(v);
        exchange(v);
        files_step(v);
        printf("view: rank %d step %ld host %s name %s pid %d tids %s wtime %.6f\n", v->rank, v->step, v->host, v->host,
               (int)v->pid, v->tids, v->time);
        note(v, "step %ld", v->step);
        act(v, o);
        compute(v, o);
        if (due(v, o, o->early_rank, o->early_at)) {
            note(v, "goes into MPI_Finalize");
            break;
        }
    }
}

int main(int argc, char **argv)
{
    struct view v = {0};
    struct options o;

    test_mpi(MPI_Init(&argc, &argv), "MPI_Init");
    o = parse(argc, argv);
    if (0 != setvbuf(stdout, NULL, _IOLBF, 4096)) {
        test_defect("setvbuf: %s", strerror(errno));
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &v.rank);
    test_mpi(MPI_Comm_split(MPI_COMM_WORLD, v.rank == o.early_rank, v.rank, &v.comm), "MPI_Comm_split");
    files_open(&v, o.dir);
    remember(&v);
    run(&v, &o);
    check_self(&v);
    files_verify(&v);
    printf("view: rank %d ok after step %ld\n", v.rank, v.step);
    test_mpi(MPI_Comm_free(&v.comm), "MPI_Comm_free");
    test_mpi(MPI_Finalize(), "MPI_Finalize");
    return v.rank == o.exit_rank ? (int)o.exit_code : 0;
}
