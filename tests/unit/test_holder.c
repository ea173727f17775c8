/*
 * The holder of a rank's memory: made from a live process with many threads, read, given back.
 *
 * Needs the right to trace (root).
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "holder.h"
#include "holder_memory.h"
#include "trace.h"

#define THREADS   8
#define BYTES     (48u << 20)
#define LIMIT_MS  10000
#define LEAST     (1u << 20)
#define STAYS     (1u << 20) /* at most, next to a stack */
#define WORD_STEP 64         /* words from one checked to the next */

typedef struct {
    atomic_ulong rounds[THREADS];
    atomic_int wrong;
} shared_t;

static shared_t *shared; /* of the test and the victim */
static uint64_t *area;   /* of the victim, at the same address in the test */

static uint64_t pattern(size_t i)
{
    return i * 2654435761u + 1;
}

static void *worker(void *arg)
{
    const size_t me = (size_t)(uintptr_t)arg, words = BYTES / sizeof(*area);

    for (;;) {
        for (size_t i = me * WORD_STEP; i < words; i += THREADS * WORD_STEP) {
            if (pattern(i) != area[i]) {
                atomic_fetch_add(&shared->wrong, 1);
            }
        }
        atomic_fetch_add(&shared->rounds[me], 1);
    }
    return NULL;
}

static void be_victim(void)
{
    pthread_t thread;

    for (size_t i = 0; i < BYTES / sizeof(*area); i++) {
        area[i] = pattern(i);
    }
    for (uintptr_t i = 1; i < THREADS; i++) {
        if (0 != pthread_create(&thread, NULL, worker, (void *)i)) {
            _exit(1);
        }
    }
    (void)worker(NULL);
}

/* Every thread has been through all memory since. */
static void await_rounds(unsigned long more)
{
    unsigned long at[THREADS];

    for (size_t i = 0; i < THREADS; i++) {
        at[i] = atomic_load(&shared->rounds[i]);
    }
    for (size_t i = 0; i < THREADS; i++) {
        while (atomic_load(&shared->rounds[i]) < at[i] + more) {
            (void)poll(NULL, 0, 1);
        }
    }
}

static int set_up(void **state)
{
    static pid_t pid;

    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    area = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(MAP_FAILED != (void *)shared && MAP_FAILED != (void *)area);
    pid = fork();
    if (0 == pid) {
        be_victim();
    }
    *state = &pid;
    await_rounds(1);
    return 0;
}

static int tear_down(void **state)
{
    const pid_t pid = *(pid_t *)*state;
    int status;

    (void)kill(pid, SIGKILL);
    assert_int_equal(pid, waitpid(pid, &status, 0));
    (void)munmap(shared, sizeof(*shared));
    (void)munmap(area, BYTES);
    return 0;
}

/* It may lie in one mapping with a stack of a thread, around which some memory stays. */
static const pages_range_t *range_of_area(const holder_t *h)
{
    const pages_range_t *r = pages_ranges_find(&h->ranges, (uintptr_t)area + BYTES / 2);

    assert_non_null(r);
    assert_true(r->start <= (uintptr_t)area + STAYS && r->end >= (uintptr_t)area + BYTES - STAYS);
    return r;
}

static void check_held(const holder_t *h)
{
    static uint64_t page[PAGE_BYTES / sizeof(uint64_t)];
    holder_view_t view;
    holder_runs_t runs;

    assert_int_equal(0, holder_view(&view, h->pid));
    for (size_t i = 0; i < BYTES / sizeof(*area); i += sizeof(page) / sizeof(page[0])) {
        assert_int_equal(0, holder_read(&view, (uintptr_t)&area[i], page, sizeof(page)));
        assert_int_equal(pattern(i), page[0]);
        assert_int_equal(pattern(i + 511), page[511]);
    }
    assert_int_equal(0, holder_runs(h->pid, &h->ranges, &runs));
    assert_true(runs.pages >= (BYTES - 2 * STAYS) / PAGE_BYTES);
    holder_runs_free(&runs);
    holder_view_close(&view);
}

static uint64_t pages_in(pid_t pid, const pages_ranges_t *ranges)
{
    holder_runs_t runs;
    uint64_t pages;

    assert_int_equal(0, holder_runs(pid, ranges, &runs));
    pages = runs.pages;
    holder_runs_free(&runs);
    return pages;
}

static void make(holder_t *h, pid_t pid)
{
    const char *why = "";
    vma_list_t known;

    assert_int_equal(0, holder_look(pid, &known));
    assert_int_equal(0, holder_make(h, pid, &known, LEAST, LIMIT_MS, &why));
    vma_free(&known);
    assert_null(why);
    assert_int_equal(0, trace_await_stop(pid, 0));
    (void)range_of_area(h);
    assert_int_equal(0, pages_in(pid, &h->ranges));
}

static void reap_holder(pid_t pid)
{
    int status;

    assert_int_equal(pid, waitpid(pid, &status, __WALL));
    assert_true(WIFSIGNALED(status) && SIGKILL == WTERMSIG(status));
}

static void test_hold_and_give_back(void **state)
{
    const pid_t pid = *(pid_t *)*state;
    holder_t h;
    pid_t holder;

    for (int i = 0; i < 5; i++) {
        make(&h, pid);
        holder = h.pid;
        check_held(&h);
        assert_int_equal(0, holder_give_back(&h, pid));
        reap_holder(holder);
        holder_leave(&h);
        await_rounds(1);
        assert_int_equal(0, atomic_load(&shared->wrong));
    }
}

/* The holder never runs the program's code, whatever signal it gets. */
static void test_holder_sleeps(void **state)
{
    const pid_t pid = *(pid_t *)*state;
    unsigned long before[THREADS];
    holder_t h;
    siginfo_t end;
    int status;

    make(&h, pid);
    for (size_t i = 0; i < THREADS; i++) {
        before[i] = atomic_load(&shared->rounds[i]);
    }
    (void)kill(h.pid, SIGCONT);
    (void)kill(h.pid, SIGUSR1);
    (void)kill(h.pid, SIGTERM);
    assert_int_equal(0, waitpid(h.pid, &status, WNOHANG | __WALL));
    check_held(&h);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(before[i], atomic_load(&shared->rounds[i]));
    }
    assert_int_equal(0, kill(h.pid, SIGKILL));
    reap_holder(h.pid);
    /* its memory is lost with it: the rank must not go on */
    assert_int_equal(-1, holder_give_back(&h, pid));
    holder_leave(&h);
    assert_int_equal(0, waitid(P_PID, (id_t)pid, &end, WEXITED | WNOWAIT));
    assert_int_equal(CLD_KILLED, end.si_code);
}

/* CRIU waits in vain for a thread that is seized while it is about to stop. */
static void test_too_small(void **state)
{
    const pid_t pid = *(pid_t *)*state;
    const char *why = NULL;
    holder_t h;

    for (int i = 0; i < 100; i++) {
        assert_int_equal(0, holder_make(&h, pid, NULL, 16ull * BYTES, LIMIT_MS, &why));
        assert_non_null(why);
        assert_int_equal(0, trace_await_stop(pid, 0));
        assert_int_equal(0, h.pid);
        assert_true(json_array_size(h.kept) > 0);
        assert_true(h.stopped);
        assert_int_equal(0, holder_give_back(&h, pid));
        holder_leave(&h);
    }
    await_rounds(1);
    assert_int_equal(0, atomic_load(&shared->wrong));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hold_and_give_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_holder_sleeps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_small, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
