/*
 * Parking all threads of the application: all stand still, whatever they do, or none; those of others run on.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "park_victim.h"

#include <event2/event.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lpm_park_unwind.h"

#ifdef LPM_PARK_SUPPORTED

#define CYCLES     300
#define COMPANIONS 6

/* A thread besides the victim, which has initialised parking. */
typedef struct {
    pthread_t thread;
    victim_t *victim;
    atomic_ulong count;
    unsigned char *block;
} companion_t;

static bool goes_on(const companion_t *companion)
{
    return !atomic_load(&companion->victim->stop);
}

/* ---- what they do ---- */

static void *compute(void *arg)
{
    companion_t *companion = arg;

    while (goes_on(companion)) {
        atomic_fetch_add(&companion->count, 1);
    }
    return NULL;
}

static void *allocate(void *arg)
{
    companion_t *companion = arg;

    for (size_t i = 0; goes_on(companion); ++i) {
        companion->block = malloc(1 + i % 5000);
        companion->block[i % 5000] = (unsigned char)i;
        if (companion->block[i % 5000] != (unsigned char)i) {
            companion->victim->error = "memory is not what it was";
        }
        free(companion->block);
        atomic_fetch_add(&companion->count, 1);
    }
    return NULL;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static unsigned turn;

/* Two of them take turns: mostly one waits for the other. */
static void *take_turns(void *arg, unsigned mine)
{
    companion_t *companion = arg;

    pthread_mutex_lock(&lock);
    while (goes_on(companion)) {
        struct timespec limit;

        clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec += 1;
        if (mine != turn % 2 && 0 != pthread_cond_timedwait(&turned, &lock, &limit)) {
            continue;
        }
        if (mine == turn % 2) {
            ++turn;
            atomic_fetch_add(&companion->count, 1);
            pthread_cond_signal(&turned);
        }
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void *take_even_turns(void *arg)
{
    return take_turns(arg, 0);
}

static void *take_odd_turns(void *arg)
{
    return take_turns(arg, 1);
}

static void *doze(void *arg)
{
    companion_t *companion = arg;

    while (goes_on(companion)) {
        struct timespec nap = {.tv_nsec = 3000000};
        double start = victim_clock();

        if (0 != nanosleep(&nap, NULL) || victim_clock() - start < 0.003) {
            companion->victim->error = "a nap was cut short";
        }
        atomic_fetch_add(&companion->count, 1);
    }
    return NULL;
}

static void *once(void *arg)
{
    companion_t *companion = arg;

    atomic_fetch_add(&companion->count, 1);
    return NULL;
}

/* There is always another thread. */
static void *multiply(void *arg)
{
    companion_t *companion = arg;
    pthread_t child;

    while (goes_on(companion)) {
        if (0 != pthread_create(&child, NULL, once, companion) || 0 != pthread_join(child, NULL)) {
            companion->victim->error = "no thread";
        }
    }
    return NULL;
}

static void count_body(victim_t *victim)
{
    while (!atomic_load(&victim->stop)) {
        atomic_fetch_add(&victim->count, 1);
    }
}

/* ---- and what is seen of them ---- */

static void start(companion_t *companion, victim_t *victim, void *(*body)(void *))
{
    companion->victim = victim;
    atomic_store(&companion->count, 0);
    assert_int_equal(0, pthread_create(&companion->thread, NULL, body, companion));
}

static void end(companion_t *companion)
{
    assert_int_equal(0, pthread_join(companion->thread, NULL));
}

/* @return how many tries it took */
static unsigned park_all(void)
{
    double limit = victim_clock() + VICTIM_LIMIT_S;
    const char *why = "";
    unsigned tries = 1;

    while (LPM_PARK_PARKED != lpm_park_try_all(VICTIM_LIMIT_S * 1000, &why)) {
        ++tries;
        if (limit < victim_clock()) {
            fail_msg("not parked: %s", why);
        }
        sched_yield();
    }
    return tries;
}

static void expect_standstill(const victim_t *victim, const companion_t *companions, size_t n)
{
    const struct timespec moment = {.tv_nsec = 500000};
    unsigned long before[COMPANIONS], first = atomic_load(&victim->count);
    void *block[50];

    for (size_t i = 0; i < n; ++i) {
        before[i] = atomic_load(&companions[i].count);
    }
    for (size_t i = 0; i < 50; ++i) { /* no lock of the allocator is held */
        block[i] = malloc(10 + 100 * i);
    }
    nanosleep(&moment, NULL);
    for (size_t i = 0; i < 50; ++i) {
        free(block[i]);
    }
    for (size_t i = 0; i < n; ++i) {
        if (before[i] != atomic_load(&companions[i].count)) {
            fail_msg("companion %zu went on", i);
        }
    }
    assert_int_equal(first, atomic_load(&victim->count));
}

static void await_progress(companion_t *companions, size_t n)
{
    double limit = victim_clock() + VICTIM_LIMIT_S;

    for (size_t i = 0; i < n; ++i) {
        unsigned long before = atomic_load(&companions[i].count);

        while (before == atomic_load(&companions[i].count)) {
            if (limit < victim_clock()) {
                fail_msg("companion %zu does not go on", i);
            }
            sched_yield();
        }
    }
}

static unsigned long cycles(void)
{
    const char *text = getenv("LPM_TEST_PARK_CYCLES"); /* for long runs by hand */

    return (NULL == text) ? CYCLES : strtoul(text, NULL, 10);
}

static void all_threads_stand_still_and_go_on(void **state)
{
    void *(*const bodies[COMPANIONS])(void *) = {compute, allocate, take_even_turns, take_odd_turns, doze, multiply};
    victim_t victim = {.number = 0};
    companion_t companions[COMPANIONS];
    unsigned long tries = 0;

    (void)state;
    victim_start(&victim, count_body);
    for (size_t i = 0; i < COMPANIONS; ++i) {
        start(&companions[i], &victim, bodies[i]);
    }
    for (unsigned long i = 0; i < cycles() && NULL == victim.error; ++i) {
        tries += park_all();
        expect_standstill(&victim, companions, COMPANIONS);
        lpm_park_release();
        if (0 == i % 10) {
            await_progress(companions, COMPANIONS);
        }
    }
    printf("%lu parkings of %d threads took %lu tries\n", cycles(), COMPANIONS + 1, tries);
    atomic_store(&victim.stop, true);
    for (size_t i = 0; i < COMPANIONS; ++i) {
        end(&companions[i]);
    }
    victim_end(&victim);
}

/* ---- threads that are not the application's ---- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    companion_t *companion = arg;

    (void)fd;
    (void)what;
    atomic_fetch_add(&companion->count, 1);
}

static struct event_base *ticking_base(companion_t *companion, struct event **timer)
{
    const struct timeval period = {.tv_usec = 1000};
    struct event_base *base = event_base_new();

    assert_non_null(base);
    *timer = event_new(base, -1, EV_PERSIST, on_timer, companion);
    assert_int_equal(0, event_add(*timer, &period));
    return base;
}

static void *dispatch(void *arg)
{
    (void)event_base_dispatch(arg);
    return NULL;
}

static const char *const libevent[] = {"libevent", NULL};

static void end_loop(companion_t *companion, struct event_base *base, struct event *timer)
{
    event_base_loopbreak(base);
    end(companion);
    event_free(timer);
    event_base_free(base);
}

/* The first function of the thread is one of the forbidden library. */
static void a_thread_of_a_forbidden_library_runs_on(void **state)
{
    victim_t victim = {.forbidden = libevent};
    companion_t companion = {.victim = &victim};
    struct event *timer;
    struct event_base *base = ticking_base(&companion, &timer);
    void *(*loop)(void *);
    int (*const library)(struct event_base *) = event_base_dispatch;

    (void)state;
    memcpy(&loop, &library, sizeof(loop));
    victim_start(&victim, count_body);
    assert_int_equal(0, pthread_create(&companion.thread, NULL, loop, base));
    for (int i = 0; i < 20; ++i) {
        (void)park_all();
        expect_standstill(&victim, NULL, 0);
        await_progress(&companion, 1);
        lpm_park_release();
    }
    end_loop(&companion, base, timer);
    victim_end(&victim);
}

static void expect_none_parked(victim_t *victim, lpm_park_result_t wanted)
{
    double limit = victim_clock() + VICTIM_LIMIT_S;

    for (int in_a_row = 0; in_a_row < 20; ++in_a_row) {
        const char *why = NULL;
        lpm_park_result_t result = lpm_park_try_all(20, &why);

        assert_true(LPM_PARK_PARKED != result);
        assert_non_null(why);
        in_a_row = (wanted == result) ? in_a_row : -1;
        victim_await(victim, 1000);
        assert_true(victim_clock() < limit);
    }
}

static void a_thread_in_a_forbidden_library_prevents_all(void **state)
{
    victim_t victim = {.forbidden = libevent};
    companion_t companion = {.victim = &victim};
    struct event *timer;
    struct event_base *base = ticking_base(&companion, &timer);

    (void)state;
    victim_start(&victim, count_body);
    assert_int_equal(0, pthread_create(&companion.thread, NULL, dispatch, base));
    await_progress(&companion, 1);
    expect_none_parked(&victim, LPM_PARK_BUSY);
    end_loop(&companion, base, timer);
    (void)park_all();
    lpm_park_release();
    victim_end(&victim);
}

static void *deaf(void *arg)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    return compute(arg);
}

static void a_deaf_thread_prevents_all(void **state)
{
    victim_t victim = {.number = 0}, other = {.number = 0};
    companion_t companion;

    (void)state;
    victim_start(&victim, count_body);
    start(&companion, &other, deaf);
    await_progress(&companion, 1);
    expect_none_parked(&victim, LPM_PARK_NO_ANSWER);
    atomic_store(&other.stop, true);
    end(&companion);
    (void)park_all();
    lpm_park_release();
    victim_end(&victim);
}

/* ---- the one that has initialised parking ends before the others ---- */

static void *init_and_end(void *arg)
{
    static const char *const nothing[] = {NULL};

    (void)arg;
    assert_int_equal(0, lpm_park_init(nothing, NULL));
    return NULL;
}

static void the_first_thread_may_end(void **state)
{
    victim_t victim = {.number = 0};
    companion_t companions[2];
    pthread_t first;

    (void)state;
    assert_int_equal(0, pthread_create(&first, NULL, init_and_end, NULL));
    pthread_join(first, NULL);
    start(&companions[0], &victim, compute);
    start(&companions[1], &victim, doze);
    for (int i = 0; i < 20; ++i) {
        (void)park_all();
        expect_standstill(&victim, companions, 2);
        lpm_park_release();
        await_progress(companions, 2);
    }
    atomic_store(&victim.stop, true);
    end(&companions[0]);
    end(&companions[1]);
    lpm_park_fini();
}

static void *park_orphans(void *arg)
{
    companion_t *companion = arg;

    for (int i = 0; i < 20; ++i) {
        (void)park_all();
        expect_standstill(companion->victim, companion, 1);
        lpm_park_release();
        await_progress(companion, 1);
    }
    _exit(0);
}

/* The process' first thread has ended: it is still listed. */
static void the_main_thread_may_end(void **state)
{
    static const char *const nothing[] = {NULL};
    int status;
    pid_t child = fork();

    (void)state;
    assert_true(0 <= child);
    if (0 == child) {
        static victim_t victim;
        static companion_t companion;
        pthread_t agent;

        assert_int_equal(0, lpm_park_init(nothing, NULL));
        start(&companion, &victim, compute);
        assert_int_equal(0, pthread_create(&agent, NULL, park_orphans, &companion));
        pthread_exit(NULL);
    }
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_int_equal(0, status);
}

static void it_is_off_unless_initialised(void **state)
{
    const char *why = NULL;

    (void)state;
    assert_int_equal(LPM_PARK_OFF, lpm_park_try_all(1, &why));
    assert_non_null(why);
}

/* An argument selects tests by a pattern. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_off_unless_initialised),
        cmocka_unit_test(all_threads_stand_still_and_go_on),
        cmocka_unit_test(a_thread_of_a_forbidden_library_runs_on),
        cmocka_unit_test(a_thread_in_a_forbidden_library_prevents_all),
        cmocka_unit_test(a_deaf_thread_prevents_all),
        cmocka_unit_test(the_first_thread_may_end),
        cmocka_unit_test(the_main_thread_may_end),
    };

    cmocka_set_test_filter(1 < argc ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    return 77; /* skipped */
}

#endif
