/*
 * A rank with much memory that knows what is in every page of it, and uses it in one way or another.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * All ranks pass a numbered message round a ring; between two of them each uses its memory. A page that does not hold
 * what was last put into it, be it zeros, ends the job with code 9. In the end every page is looked at.
 */
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "common.h"

#define PAGE       4096
#define WORDS      (PAGE / sizeof(uint64_t))
#define HUGE       (2ul << 20)
#define THREADS    64
#define LOOKS      64 /* pages in one step of a random use */
#define WRITES     16
#define GAP_MS     20.0
#define BLOCKS_MAX 4096

/** Memory that moves as a whole, and what has been put into each page: 0 for zeros. */
struct block {
    uint64_t *at;
    size_t pages;
    uint16_t *version; /* room for twice the pages that there are at first */
    size_t written;    /* where a sequential use goes on */
};

struct options {
    long mib, blocks, threads, steps, fork_every, pace_us;
    bool huge;
    enum { IDLE, RANDOM, WRITE, CHURN, CHECK } use;
    const char *brake;
};

struct worker {
    pthread_t thread;
    long number;
    unsigned seed;
};

static struct options o = {.mib = 64, .blocks = 1, .threads = 1, .steps = 100};
static struct block block[BLOCKS_MAX];
static struct worker worker[THREADS];
static size_t block_pages;
static volatile bool stop;

static void usage(void)
{
    fprintf(stderr,
            "usage: memory [OPTION...]\n"
            "  --mib N              memory of each rank\n"
            "  --blocks N           in so many mappings\n"
            "  --huge               of huge pages, as far as the system permits\n"
            "  --use HOW            idle, random, write, churn (map, move, discard, grow), check (all of it, always)\n"
            "  --threads N          so many threads use it, each its own blocks\n"
            "  --fork-every N       every so many steps a child is made that looks at all memory\n"
            "  --steps N            messages round the ring, at least\n"
            "  --pace-us N          pause between two steps\n"
            "  --brake FILE         go on as long as this file exists\n");
    exit(TEST_USAGE);
}

static int use_named(const char *name)
{
    static const char *const names[] = {"idle", "random", "write", "churn", "check"};

    for (int i = 0; i < (int)(sizeof(names) / sizeof(names[0])); i++) {
        if (0 == strcmp(name, names[i])) {
            return i;
        }
    }
    usage();
    return -1;
}

static void parse(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"mib", required_argument, NULL, 'm'},     {"blocks", required_argument, NULL, 'b'},
        {"huge", no_argument, NULL, 'h'},          {"use", required_argument, NULL, 'u'},
        {"threads", required_argument, NULL, 't'}, {"fork-every", required_argument, NULL, 'f'},
        {"steps", required_argument, NULL, 's'},   {"pace-us", required_argument, NULL, 'p'},
        {"brake", required_argument, NULL, 'r'},   {NULL, 0, NULL, 0}};
    int c;

    while (-1 != (c = getopt_long(argc, argv, "", long_options, NULL))) {
        switch (c) {
        case 'm': o.mib = test_number("mib", optarg, 1, 65536); break;
        case 'b': o.blocks = test_number("blocks", optarg, 1, BLOCKS_MAX); break;
        case 'h': o.huge = true; break;
        case 'u': o.use = use_named(optarg); break;
        case 't': o.threads = test_number("threads", optarg, 1, THREADS); break;
        case 'f': o.fork_every = test_number("fork-every", optarg, 0, LONG_MAX); break;
        case 's': o.steps = test_number("steps", optarg, 1, LONG_MAX); break;
        case 'p': o.pace_us = test_number("pace-us", optarg, 0, 1000000); break;
        case 'r': o.brake = optarg; break;
        default: usage();
        }
    }
    if (optind != argc || o.threads > o.blocks || (1 < o.threads && 0 < o.fork_every)) {
        usage();
    }
}

/* ---- pages ---- */

static uint64_t word_of(const struct block *b, size_t page, uint16_t version, size_t i)
{
    return 0 == version ? 0
                        : ((uint64_t)(b - block) << 48 ^ (uint64_t)page << 20 ^ (uint64_t)version << 4 ^ i) *
                              UINT64_C(0x9e3779b97f4a7c15);
}

static void wrong(const struct block *b, size_t page, size_t i)
{
    test_defect("block %d, page %zu of %zu at %p, version %u, word %zu: %016" PRIx64 " instead of %016" PRIx64,
                (int)(b - block), page, b->pages, (void *)&b->at[page * WORDS], b->version[page], i,
                b->at[page * WORDS + i], word_of(b, page, b->version[page], i));
}

static void check_page(const struct block *b, size_t page)
{
    const uint64_t *p = &b->at[page * WORDS];
    const uint16_t version = b->version[page];

    for (size_t i = 0; i < WORDS; i++) {
        if (p[i] != word_of(b, page, version, i)) {
            wrong(b, page, i);
        }
    }
}

static void write_page(struct block *b, size_t page)
{
    uint64_t *p = &b->at[page * WORDS];
    const uint16_t version = ++b->version[page];

    for (size_t i = 0; i < WORDS; i++) {
        p[i] = word_of(b, page, version, i);
    }
}

static void check_block(const struct block *b)
{
    for (size_t page = 0; page < b->pages; page++) {
        check_page(b, page);
    }
}

static void check_all(void)
{
    for (long i = 0; i < o.blocks; i++) {
        check_block(&block[i]);
    }
}

/* ---- mappings ---- */

static uint64_t *map(size_t pages)
{
    char *room = mmap(NULL, pages * PAGE + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at;

    if (MAP_FAILED == (void *)room) {
        test_defect("no memory for %zu pages: %s", pages, strerror(errno));
    }
    at = (char *)(((uintptr_t)room + HUGE - 1) & ~(HUGE - 1));
    if (at > room) {
        (void)munmap(room, (size_t)(at - room));
    }
    (void)munmap(at + pages * PAGE, (size_t)(room + HUGE - at));
    if (0 != madvise(at, pages * PAGE, o.huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE)) {
        test_defect("madvise: %s", strerror(errno));
    }
    return (uint64_t *)at;
}

static void make_block(struct block *b)
{
    b->pages = block_pages;
    b->at = map(b->pages);
    b->version = test_alloc(2 * block_pages * sizeof(*b->version));
    memset(b->version, 0, 2 * block_pages * sizeof(*b->version));
    for (size_t page = 0; page < b->pages; page++) {
        if (page % 16 != 7) { /* some are never written */
            write_page(b, page);
        }
    }
}

static void renew(struct block *b)
{
    (void)munmap(b->at, b->pages * PAGE);
    b->pages = block_pages;
    b->at = map(b->pages);
    memset(b->version, 0, 2 * block_pages * sizeof(*b->version));
}

/* To another place, perhaps larger or smaller: what is new is zeros. */
static void move_block(struct block *b, size_t pages)
{
    uint64_t *place = map(pages);

    b->at = mremap(b->at, b->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    if (MAP_FAILED == (void *)b->at) {
        test_defect("mremap: %s", strerror(errno));
    }
    for (size_t page = b->pages; page < pages; page++) {
        b->version[page] = 0;
    }
    b->pages = pages;
}

static void resize(struct block *b, size_t pages)
{
    b->at = mremap(b->at, b->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE);
    if (MAP_FAILED == (void *)b->at) {
        test_defect("mremap: %s", strerror(errno));
    }
    for (size_t page = b->pages; page < pages; page++) {
        b->version[page] = 0;
    }
    b->pages = pages;
}

static void discard(struct block *b, unsigned *seed)
{
    const size_t from = (size_t)rand_r(seed) % b->pages, n = 1 + (size_t)rand_r(seed) % (b->pages - from);

    if (0 != madvise(&b->at[from * WORDS], n * PAGE, MADV_DONTNEED)) {
        test_defect("madvise: %s", strerror(errno));
    }
    memset(&b->version[from], 0, n * sizeof(*b->version));
}

/* ---- uses ---- */

static void look_around(struct block *b, unsigned *seed)
{
    for (int i = 0; i < LOOKS; i++) {
        check_page(b, (size_t)rand_r(seed) % b->pages);
    }
}

static void write_on(struct block *b)
{
    for (int i = 0; i < WRITES; i++) {
        b->written = (b->written + 1) % b->pages;
        check_page(b, b->written);
        write_page(b, b->written);
    }
}

static void churn(struct block *b, unsigned *seed)
{
    switch (rand_r(seed) % 8) {
    case 0: renew(b); break;
    case 1: move_block(b, b->pages); break;
    case 2: move_block(b, 1 + (size_t)rand_r(seed) % (2 * block_pages)); break;
    case 3: resize(b, 1 + (size_t)rand_r(seed) % (2 * block_pages)); break;
    case 4: discard(b, seed); break;
    case 5:
        for (size_t i = 0; i < b->pages; i += 1 + (size_t)rand_r(seed) % 8) {
            write_page(b, i);
        }
        break;
    default: look_around(b, seed); break;
    }
}

static void use(struct block *b, unsigned *seed)
{
    switch (o.use) {
    case RANDOM: look_around(b, seed); break;
    case WRITE: write_on(b); break;
    case CHURN: churn(b, seed); break;
    case CHECK: check_block(b); break;
    default: break;
    }
}

/* One of the thread's own blocks. */
static void use_one(struct worker *w)
{
    const long own = (o.blocks - w->number + o.threads - 1) / o.threads;

    use(&block[w->number + rand_r(&w->seed) % own * o.threads], &w->seed);
}

static void *work(void *arg)
{
    while (!stop) {
        use_one(arg);
    }
    return NULL;
}

/* The child has a copy of all memory, what is missing in it included. */
static void look_with_child(int rank)
{
    int status;
    pid_t child = fork();

    if (0 == child) {
        for (long i = 0; i < o.blocks; i++) {
            for (size_t page = 0; page < block[i].pages; page++) {
                const uint64_t *p = &block[i].at[page * WORDS];

                for (size_t k = 0; k < WORDS; k += 73) {
                    if (p[k] != word_of(&block[i], page, block[i].version[page], k)) {
                        _exit(TEST_DEFECT);
                    }
                }
            }
        }
        _exit(0);
    }
    if (0 > child || child != waitpid(child, &status, 0) || !WIFEXITED(status) || 0 != WEXITSTATUS(status)) {
        test_defect("the child of rank %d found other memory, or ended badly", rank);
    }
}

/* ---- the job ---- */

static double now_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* Says how long the rank stood still when it finds itself on another host. */
static void watch(int rank, double gap)
{
    static char host[256];
    static double longest;
    char now[256] = "?";

    longest = gap > longest ? gap : longest;
    (void)gethostname(now, sizeof(now) - 1);
    if (0 == strcmp(host, now)) {
        return;
    }
    if ('\0' != host[0]) {
        printf("memory: rank %d is on %s, gap %.1f ms\n", rank, now, longest);
        fflush(stdout);
    }
    longest = 0;
    strcpy(host, now);
}

static void pass_on(int rank, int size, long step)
{
    int64_t sent[2] = {rank, step}, got[2] = {-1, -1};
    const int left = (rank + size - 1) % size, right = (rank + 1) % size;

    test_mpi(
        MPI_Sendrecv(sent, 2, MPI_INT64_T, right, 3, got, 2, MPI_INT64_T, left, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE),
        "MPI_Sendrecv");
    if (got[0] != left || got[1] != step) {
        test_defect("step %ld: message %" PRId64 " of rank %" PRId64, step, got[1], got[0]);
    }
}

static bool goes_on(long step, int rank)
{
    int more = 0 == rank && (step < o.steps || (NULL != o.brake && test_exists(o.brake)));

    test_mpi(MPI_Bcast(&more, 1, MPI_INT, 0, MPI_COMM_WORLD), "MPI_Bcast");
    return more;
}

static void run(int rank, int size)
{
    double last = now_ms(), now;

    for (long step = 0; goes_on(step, rank); step++) {
        pass_on(rank, size, step);
        use_one(&worker[0]);
        if (0 < o.fork_every && 0 == step % o.fork_every) {
            look_with_child(rank);
        }
        test_pace(o.pace_us);
        now = now_ms();
        watch(rank, now - last);
        last = now;
        if (0 == step) {
            test_print_places(MPI_COMM_WORLD, "memory: running");
        }
    }
}

int main(int argc, char **argv)
{
    int rank, size, provided;

    parse(argc, argv);
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    block_pages = (size_t)o.mib * (1u << 20) / PAGE / (size_t)o.blocks;
    for (long i = 0; i < o.blocks; i++) {
        make_block(&block[i]);
    }
    for (long i = 0; i < o.threads; i++) {
        worker[i].number = i;
        worker[i].seed = (unsigned)(rank * THREADS + i + 1);
        if (0 < i && 0 != pthread_create(&worker[i].thread, NULL, work, &worker[i])) {
            test_defect("no thread");
        }
    }
    run(rank, size);
    stop = true;
    for (long i = 1; i < o.threads; i++) {
        pthread_join(worker[i].thread, NULL);
    }
    check_all();
    test_mpi(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
    if (0 == rank) {
        printf("memory: every page is right\n");
    }
    MPI_Finalize();
    return 0;
}
