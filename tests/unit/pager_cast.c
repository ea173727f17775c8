/*
 * For test_pager: the processes that pages are moved between.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "pager_cast.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pages_ranges.h"

#define WORDS     (PAGE_BYTES / sizeof(uint64_t))
#define AREA      ((size_t)CAST_PAGES * PAGE_BYTES)
#define CHECKED   (CAST_PAGES - CAST_ZONE)
#define HOLE      7000u /* a few pages in the midst that belong to no range */
#define HOLE_END  7010u
#define UNWRITTEN 5u

/** What a page has to hold. */
typedef enum { AS_HELD, ZEROS, OWN, GONE } kind_t;

typedef uint64_t page_t[WORDS];

static page_t *area, *yard; /* the memory; addresses where it can move to */
/* the rank's: where its pages are, and what is in them */
static page_t *where[CAST_PAGES];
static kind_t kind[CAST_PAGES];
static int go[2], report[2], gate[2];
static atomic_uint *verified; /* shared with the rank's children */

/* ---- contents ---- */

static bool is_written(unsigned i)
{
    return UNWRITTEN != i % 8 && (i < HOLE || i >= HOLE_END) && (i < 9000 || i >= 9600);
}

uint64_t cast_written(void)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < CAST_PAGES; i++) {
        n += is_written(i) ? 1 : 0;
    }
    return n;
}

unsigned cast_unwritten_page(void)
{
    return UNWRITTEN;
}

static uint64_t word_of(unsigned page, size_t k)
{
    return (page + 1) * 0x9e3779b97f4a7c15ull + k;
}

static void write_page(page_t *p, unsigned number)
{
    for (size_t k = 0; k < WORDS; k++) {
        (*p)[k] = word_of(number, k);
    }
}

/* What the rank itself has written since is another page's contents. */
static bool is_right(unsigned i)
{
    const volatile uint64_t *p = where[i] == NULL ? NULL : *where[i];
    const bool zeros = ZEROS == kind[i] || (AS_HELD == kind[i] && !is_written(i));
    bool right = true;

    if (GONE == kind[i]) {
        return true;
    }
    for (size_t k = 0; k < WORDS; k++) {
        right = right && p[k] == (zeros ? 0 : word_of(OWN == kind[i] ? i + CAST_PAGES : i, k));
    }
    return right;
}

json_t *cast_ranges(void)
{
    const json_int_t start = (json_int_t)(uintptr_t)area;

    return json_pack("[[I,I],[I,I]]", start, start + (json_int_t)HOLE * PAGE_BYTES,
                     start + (json_int_t)HOLE_END * PAGE_BYTES, start + (json_int_t)AREA);
}

/* ---- jobs ---- */

uint64_t cast_verify(unsigned thread)
{
    const unsigned step = 2 * (thread * 1237 + 2749) + 1; /* odd: it meets every page */
    uint64_t wrong = 0;

    for (unsigned n = 0, i = thread * 5000; n < CAST_PAGES; n++, i += step) {
        const unsigned page = i % CAST_PAGES;

        if (CHECKED > page && !is_right(page)) {
            wrong++;
        }
    }
    (void)atomic_fetch_add(verified, 1);
    return wrong;
}

static void set_kind(unsigned from, unsigned to, kind_t k)
{
    for (unsigned i = from; i < to; i++) {
        kind[i] = k;
    }
}

static bool move(unsigned from, unsigned to, page_t *onto, int flags)
{
    const size_t bytes = (size_t)(to - from) * PAGE_BYTES;

    if (onto != mremap(where[from], bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | flags, onto)) {
        return false;
    }
    for (unsigned i = from; i < to; i++) {
        where[i] = onto + (i - from);
    }
    return true;
}

/* Onto pages that are missing themselves; to a place where nothing was; leaving the mapping where it had been. */
static bool move_some(void)
{
    page_t *const left = where[4000];
    bool ok = move(1000, 1512, yard, 0) && move(2000, 2256, where[3000], 0);

    set_kind(3000, 3256, GONE);
    ok = ok && move(1100, 1200, yard + 2000, 0); /* once more */
    ok = ok && move(4000, 4100, yard + 4000, MREMAP_DONTUNMAP);
    for (unsigned i = 0; ok && i < 100; i++) {
        ok = 0 == ((volatile uint64_t *)left[i])[7];
    }
    return ok;
}

uint64_t cast_change(unsigned thread)
{
    bool ok = 0 == munmap(area + 100, 300 * PAGE_BYTES) && 0 == madvise(area + 500, 300 * PAGE_BYTES, MADV_DONTNEED);

    (void)thread;
    set_kind(100, 400, GONE);
    set_kind(500, 800, ZEROS);
    for (unsigned i = 600; i < 700; i++) { /* a page that was discarded, and one that is missing */
        write_page(area + i, i + CAST_PAGES);
        write_page(area + i + 5400, i + 5400 + CAST_PAGES);
    }
    set_kind(600, 700, OWN);
    set_kind(6000, 6100, OWN);
    ok = ok && move_some();
    ok = ok && 0 == mprotect(area + 5000, 64 * PAGE_BYTES, PROT_READ) &&
         0 == mprotect(area + 5100, 64 * PAGE_BYTES, PROT_NONE) &&
         0 == mprotect(area + 5100, 64 * PAGE_BYTES, PROT_READ | PROT_WRITE);
    /* shorter by some pages in the midst of it all */
    ok = ok && where[8000] == mremap(where[8000], 128 * PAGE_BYTES, 64 * PAGE_BYTES, 0);
    set_kind(8064, 8128, GONE);
    return ok ? 0 : 1;
}

static uint64_t await_child(pid_t pid)
{
    int status = -1;

    return 0 < pid && pid == waitpid(pid, &status, 0) && WIFEXITED(status) && 0 == WEXITSTATUS(status) ? 0 : 1;
}

uint64_t cast_fork(unsigned thread)
{
    const pid_t pid = fork();

    if (0 == pid) {
        const pid_t grandchild = fork();
        uint64_t wrong = cast_verify(thread + 3);

        if (0 != grandchild) {
            wrong += await_child(grandchild);
        }
        _exit(0 == wrong ? 0 : 1);
    }
    return cast_verify(thread) + await_child(pid);
}

static void say(uint64_t wrong)
{
    const cast_report_t r = {wrong};

    if (sizeof(r) != write(report[1], &r, sizeof(r))) {
        _exit(2);
    }
}

uint64_t cast_fork_and_wait(unsigned thread)
{
    const pid_t pid = fork();
    char c;

    if (0 == pid) {
        _exit(1 == read(gate[0], &c, 1) && 0 == cast_verify(thread) ? 0 : 1);
    }
    say(0 < pid ? 0 : 1);
    return await_child(pid);
}

/* Discards some, moves some there and back, and forks now and then. */
static bool churn_once(unsigned round)
{
    page_t *const a = area + CHECKED + round % 64, *const b = area + CHECKED + 128;
    const size_t half = 64 * PAGE_BYTES;
    pid_t pid;

    if (0 != madvise(a, PAGE_BYTES, MADV_DONTNEED) || 0 != (*(volatile page_t *)a)[3]) {
        return false;
    }
    if (0 == round % 16 && (yard + 8000 != mremap(b, half, half, MREMAP_MAYMOVE | MREMAP_FIXED, yard + 8000) ||
                            b != mremap(yard + 8000, half, half, MREMAP_MAYMOVE | MREMAP_FIXED, b))) {
        return false;
    }
    if (0 == round % 64) {
        pid = fork();
        if (0 == pid) {
            _exit(is_right(round % CHECKED) ? 0 : 1);
        }
        return 0 == await_child(pid);
    }
    return true;
}

uint64_t cast_churn(unsigned thread)
{
    (void)thread;
    for (unsigned round = 0; CAST_THREADS - 1 > atomic_load(verified); round++) {
        if (!churn_once(round)) {
            return 1;
        }
    }
    for (unsigned i = 0; i < 64; i++) { /* moved again and again, they are what they were */
        if (!is_right(CHECKED + 128 + i)) {
            return 1;
        }
    }
    return 0;
}

uint64_t cast_touch_unwritten(unsigned thread)
{
    (void)thread;
    return is_right(UNWRITTEN) ? 0 : 1;
}

/* ---- processes ---- */

static void *be_thread(void *arg)
{
    cast_job_t job;

    while (sizeof(job) == read(go[0], &job, sizeof(job))) {
        say(job((unsigned)(uintptr_t)arg));
    }
    return NULL;
}

static void die_with(pid_t parent)
{
    if (0 != prctl(PR_SET_PDEATHSIG, SIGKILL) || parent != getppid()) {
        _exit(2);
    }
}

static void be_rank(void)
{
    pthread_t thread;

    for (unsigned i = 0; i < CAST_PAGES; i++) {
        where[i] = area + i;
        kind[i] = AS_HELD;
    }
    (void)setpgid(0, 0);
    for (uintptr_t i = 1; i < CAST_THREADS; i++) {
        if (0 != pthread_create(&thread, NULL, be_thread, (void *)i)) {
            _exit(2);
        }
    }
    say(0);
    (void)be_thread(NULL);
    _exit(2);
}

static void be_holder(void)
{
    for (unsigned i = 0; i < CAST_PAGES; i++) {
        if (is_written(i)) {
            write_page(area + i, i);
        }
    }
    say(0);
    for (;;) {
        (void)pause();
    }
}

static int map_all(void)
{
    area = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    yard = mmap(NULL, AREA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    verified = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return MAP_FAILED == (void *)area || MAP_FAILED == (void *)yard || MAP_FAILED == (void *)verified ||
                   0 != madvise(area, AREA, MADV_NOHUGEPAGE) /* pages are counted one by one */
               ? -1
               : 0;
}

int cast_start(cast_t *c)
{
    const pid_t parent = getpid();
    cast_report_t r;

    *c = (cast_t){.holder = -1, .rank = -1};
    if (0 != map_all() || 0 != pipe(go) || 0 != pipe(report) || 0 != pipe(gate)) {
        return -1;
    }
    c->go = go[1];
    c->report = report[0];
    c->gate = gate[1];
    c->holder = fork();
    if (0 == c->holder) {
        die_with(parent);
        be_holder();
    }
    c->rank = fork();
    if (0 == c->rank) {
        die_with(parent);
        be_rank();
    }
    for (int i = 0; i < 2; i++) { /* both are ready */
        if (sizeof(r) != read(report[0], &r, sizeof(r))) {
            return -1;
        }
    }
    return 0;
}

static void reap(pid_t *pid)
{
    int status;

    if (0 < *pid) {
        (void)kill(*pid, SIGKILL);
        (void)waitpid(*pid, &status, 0);
        *pid = -1;
    }
}

void cast_end(cast_t *c)
{
    if (0 < c->rank) {
        (void)kill(-c->rank, SIGKILL);
    }
    reap(&c->rank);
    reap(&c->holder);
    for (int i = 0; i < 2; i++) {
        (void)close(go[i]);
        (void)close(report[i]);
        (void)close(gate[i]);
    }
    (void)munmap(area, AREA);
    (void)munmap(yard, AREA);
    (void)munmap(verified, PAGE_BYTES);
}

int cast_tell(const cast_t *c, cast_job_t job)
{
    return sizeof(job) == write(c->go, &job, sizeof(job)) ? 0 : -1;
}
