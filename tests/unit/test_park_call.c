/*
 * Parking in the middle of system calls: what they return, and that they do not end too early.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "park_victim.h"

#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unwind.h>

#include "lpm_park_unwind.h"

#ifdef LPM_PARK_SUPPORTED

/* How long the calls wait: long enough to be parked in, a few times. */
#define WAIT_MS 60

static const struct timespec wait_time = {.tv_nsec = WAIT_MS * 1000000L};

static struct timespec wait_until(clockid_t clock)
{
    struct timespec at;

    clock_gettime(clock, &at);
    at.tv_nsec += wait_time.tv_nsec;
    at.tv_sec += at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    return at;
}

/* ---- calls that end by their time limit: true when they have returned what they should ---- */

static int silent_pipe = -1, silent_socket = -1, silent_epoll = -1;

static bool do_nanosleep(void)
{
    return 0 == nanosleep(&wait_time, NULL);
}

static bool do_nanosleep_with_rest(void)
{
    struct timespec rest = {.tv_sec = 77}, request = wait_time;

    return 0 == nanosleep(&request, &rest);
}

static bool do_clock_nanosleep_until(void)
{
    struct timespec at = wait_until(CLOCK_MONOTONIC);

    return 0 == clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static bool do_clock_nanosleep(void)
{
    return 0 == clock_nanosleep(CLOCK_MONOTONIC, 0, &wait_time, NULL);
}

static bool do_usleep(void)
{
    return 0 == usleep(WAIT_MS * 1000);
}

static bool do_poll(void)
{
    struct pollfd fd = {.fd = silent_pipe, .events = POLLIN};

    return 0 == poll(&fd, 1, WAIT_MS);
}

static bool do_ppoll(void)
{
    struct pollfd fd = {.fd = silent_pipe, .events = POLLIN};

    return 0 == ppoll(&fd, 1, &wait_time, NULL);
}

static bool do_select(void)
{
    struct timeval limit = {.tv_usec = WAIT_MS * 1000};
    fd_set set;

    FD_ZERO(&set);
    FD_SET(silent_pipe, &set);
    return 0 == select(silent_pipe + 1, &set, NULL, NULL, &limit) && 0 == limit.tv_sec && 0 == limit.tv_usec;
}

static bool do_pselect(void)
{
    fd_set set;

    FD_ZERO(&set);
    FD_SET(silent_pipe, &set);
    return 0 == pselect(silent_pipe + 1, &set, NULL, NULL, &wait_time, NULL);
}

static bool do_epoll_wait(void)
{
    struct epoll_event event;

    return 0 == epoll_wait(silent_epoll, &event, 1, WAIT_MS);
}

static bool do_epoll_pwait(void)
{
    struct epoll_event event;
    sigset_t none;

    sigemptyset(&none);
    return 0 == epoll_pwait(silent_epoll, &event, 1, WAIT_MS, &none);
}

static bool do_recv(void)
{
    char byte;
    bool good = (-1 == recv(silent_socket, &byte, 1, 0) && EAGAIN == errno);

    errno = 0;
    return good;
}

static bool do_sem_timedwait(void)
{
    struct timespec at = wait_until(CLOCK_REALTIME);
    bool good;
    sem_t sem;

    sem_init(&sem, 0, 0);
    good = (-1 == sem_timedwait(&sem, &at) && ETIMEDOUT == errno);
    errno = 0;
    sem_destroy(&sem);
    return good;
}

static bool do_cond_timedwait(void)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    struct timespec at = wait_until(CLOCK_REALTIME);
    int result;

    pthread_mutex_lock(&lock);
    result = pthread_cond_timedwait(&cond, &lock, &at);
    pthread_mutex_unlock(&lock);
    return ETIMEDOUT == result;
}

static const struct {
    const char *name;
    bool (*call)(void);
    bool left_alone; /* nobody is parked in there */
} limited[] = {
    {"nanosleep", do_nanosleep, false},
    {"nanosleep with rest", do_nanosleep_with_rest, false},
    {"clock_nanosleep until", do_clock_nanosleep_until, false},
    {"clock_nanosleep", do_clock_nanosleep, false},
    {"usleep", do_usleep, false},
    {"poll", do_poll, false},
    {"ppoll", do_ppoll, false},
    {"select", do_select, false},
    {"pselect", do_pselect, false},
    {"epoll_wait", do_epoll_wait, false},
    {"epoll_pwait", do_epoll_pwait, false},
    {"recv", do_recv, true},
    {"sem_timedwait", do_sem_timedwait, false},
    {"pthread_cond_timedwait", do_cond_timedwait, false},
};

#define N_LIMITED ((int)(sizeof(limited) / sizeof(limited[0])))

static atomic_ulong parkings;

/* Makes the call until it has been parked in, and sees whether it was right each time. */
static void limited_body(victim_t *victim)
{
    static char problem[128];

    for (int i = 0; i < N_LIMITED && NULL == victim->error; ++i) {
        unsigned long before = atomic_load(&parkings);

        do {
            double start = victim_clock(), took;
            bool good;

            errno = 0;
            good = limited[i].call();
            took = victim_clock() - start;
            if (!good || 0 != errno || took < WAIT_MS * 0.001 - 1e-4) {
                snprintf(problem, sizeof(problem), "%s: %s, errno %d, %f s", limited[i].name, good ? "good" : "bad",
                         errno, took);
                victim->error = problem;
            }
        } while (before == atomic_load(&parkings) && NULL == victim->error && !limited[i].left_alone);
    }
}

static void open_silent(void)
{
    const struct timeval limit = {.tv_usec = WAIT_MS * 1000};
    struct epoll_event event = {.events = EPOLLIN};
    int ends[2];

    assert_int_equal(0, pipe(ends)); /* the other ends stay open: silence, not the end */
    silent_pipe = ends[0];
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    silent_socket = ends[0];
    assert_int_equal(0, setsockopt(silent_socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
    silent_epoll = epoll_create1(0);
    assert_true(0 <= silent_epoll);
    assert_int_equal(0, epoll_ctl(silent_epoll, EPOLL_CTL_ADD, silent_pipe, &event));
}

static void calls_with_a_limit_wait_as_long_as_they_should(void **state)
{
    const struct timespec moment = {.tv_nsec = 3000000};

    (void)state;
    open_silent();
    for (int pause = 0; pause < 2; ++pause) {
        victim_t victim = {.number = 0};

        victim_start(&victim, limited_body);
        for (unsigned long tries = 0; !atomic_load(&victim.done); ++tries) {
            if (LPM_PARK_PARKED == lpm_park_try(VICTIM_LIMIT_S * 1000, NULL)) {
                atomic_fetch_add(&parkings, 1);
                lpm_park_release();
            }
            nanosleep(&moment, NULL); /* lets it get somewhere */
        }
        victim_end(&victim);
    }
}

static void sleep_body(victim_t *victim)
{
    double start = victim_clock(), took;
    unsigned rest;

    atomic_store(&victim->count, 1);
    rest = sleep(1);
    took = victim_clock() - start;
    victim->error = (0 == rest && 1.0 <= took) ? NULL : "sleep(1) has ended early";
}

/* Parked beyond the end of the sleep, it ends at once. */
static void sleeping_while_parked_counts(void **state)
{
    victim_t victim = {.number = 0};
    double start = victim_clock();

    (void)state;
    victim_start(&victim, sleep_body);
    while (0 == atomic_load(&victim.count)) {
        sched_yield();
    }
    victim_park();
    while (victim_clock() < start + 1.5) {
        sched_yield();
    }
    lpm_park_release();
    victim_end(&victim);
}

/* ---- calls that end by something happening ---- */

typedef enum { READ, READ_AGAIN, POLL, PAUSE, SIGSUSPEND, NANOSLEEP, USLEEP, SELECT, WAITPID, WAYS } way_t;

static int data_pipe[2];
static pid_t child;

static void short_handler(int sig)
{
    (void)sig;
}

/* Without a limit, or one that is far away. */
static int wait_for_it(way_t way)
{
    const struct timespec far = {.tv_sec = 10000};
    struct timeval far_too = {.tv_sec = 10000};
    struct pollfd fd = {.fd = data_pipe[0], .events = POLLIN};
    struct timespec rest = {.tv_sec = 0};
    sigset_t none;
    char byte = 0;
    int result = -1;

    errno = 0;
    switch (way) {
    case READ:
    case READ_AGAIN: result = (int)read(data_pipe[0], &byte, 1); break;
    case POLL: result = poll(&fd, 1, -1); break;
    case PAUSE: result = pause(); break;
    case SIGSUSPEND:
        sigemptyset(&none);
        result = sigsuspend(&none);
        break;
    case NANOSLEEP: result = nanosleep(&far, &rest); return (9000 < rest.tv_sec && rest.tv_sec < 10000) ? result : 4711;
    case USLEEP: result = usleep(4000000000U); break;
    case SELECT: result = select(0, NULL, NULL, NULL, &far_too); break;
    case WAITPID: result = (child == waitpid(child, NULL, 0)) ? 1 : -1; break;
    default: break;
    }
    return result;
}

static void waiting_body(victim_t *victim)
{
    way_t way = (way_t)(victim->number % WAYS);
    bool by_signal = (victim->number >= WAYS) && READ_AGAIN != way;
    int result;

    atomic_store(&victim->count, 1);
    result = wait_for_it(way);
    if (by_signal ? (-1 != result || EINTR != errno) : 1 != result) {
        print_message("way %d %s: %d, errno %d\n", (int)way, by_signal ? "by a signal" : "", result, errno);
        victim->error = "the call has returned something else";
    }
}

/* The thread sleeps in a system call, says the kernel. */
static void await_sleep(pid_t tid)
{
    char path[64], state = '?';
    double limit = victim_clock() + VICTIM_LIMIT_S;

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
    while ('S' != state) {
        FILE *file = fopen(path, "r");

        assert_non_null(file);
        assert_int_equal(1, fscanf(file, "%*d (%*[^)]) %c", &state));
        fclose(file);
        assert_true(victim_clock() < limit);
    }
}

static pid_t victim_tid;

static void tid_body(victim_t *victim)
{
    victim_tid = gettid();
    waiting_body(victim);
}

static void start_waiting(victim_t *victim)
{
    victim_start(victim, tid_body);
    while (0 == atomic_load(&victim->count)) {
        sched_yield();
    }
    await_sleep(victim_tid);
}

static void the_call_goes_on_until_it_happens(void **state)
{
    static const way_t ways[] = {READ, POLL, WAITPID};
    char byte;

    (void)state;
    assert_int_equal(0, pipe(data_pipe));
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); ++i) {
        victim_t victim = {.number = ways[i]};

        if (WAITPID == ways[i] && 0 == (child = fork())) {
            _exit(1 == read(data_pipe[0], &byte, 1) ? 0 : 1);
        }
        start_waiting(&victim);
        for (int round = 0; round < 50; ++round) {
            victim_park();
            if (49 == round) {
                assert_int_equal(1, write(data_pipe[1], "x", 1));
            }
            lpm_park_release();
        }
        victim_end(&victim);
        if (POLL == ways[i]) {
            assert_int_equal(1, read(data_pipe[0], &byte, 1));
        }
    }
}

/* What a signal of the application interrupts fails with EINTR, also when the signal comes while the thread is parked.
 */
static void signals_of_the_application_end_calls(void **state)
{
    static const way_t ways[] = {READ, READ_AGAIN, POLL, PAUSE, SIGSUSPEND, NANOSLEEP, USLEEP, SELECT};
    struct sigaction action = {.sa_handler = short_handler}, before;

    (void)state;
    assert_int_equal(0, pipe(data_pipe));
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); ++i) {
        for (int while_parked = 0; while_parked < 2; ++while_parked) {
            victim_t victim = {.number = WAYS + (int)ways[i]};

            action.sa_flags = (READ_AGAIN == ways[i]) ? SA_RESTART : 0;
            sigaction(SIGUSR1, &action, &before);
            start_waiting(&victim);
            for (int round = 0; round < 20; ++round) {
                victim_park();
                if (19 == round && while_parked) {
                    pthread_kill(victim.thread, SIGUSR1);
                }
                lpm_park_release();
            }
            if (!while_parked) {
                await_sleep(victim_tid);
                pthread_kill(victim.thread, SIGUSR1);
            }
            if (READ_AGAIN == ways[i]) {
                assert_int_equal(1, write(data_pipe[1], "x", 1));
            }
            victim_end(&victim);
            sigaction(SIGUSR1, &before, NULL);
        }
    }
}

/* ---- the registers of the caller ---- */

typedef struct {
    uint64_t rdi, rsi, rdx, r10, r8, r9, rbx, rbp, r12, r13, r14, r15, rax;
} registers_t;

/* System calls with all registers from memory, and back to memory. The red zone is used, too. */
#define RAW_CALL(name, number)                                                                                         \
    void name(registers_t *registers);                                                                                 \
    __asm__(".text\n"                                                                                                  \
            ".type " #name ", @function\n" #name ":\n"                                                                 \
            ".cfi_startproc\n"                                                                                         \
            "    pushq %rbx\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset rbx, 0\n"                                     \
            "    pushq %rbp\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset rbp, 0\n"                                     \
            "    pushq %r12\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset r12, 0\n"                                     \
            "    pushq %r13\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset r13, 0\n"                                     \
            "    pushq %r14\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset r14, 0\n"                                     \
            "    pushq %r15\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset r15, 0\n"                                     \
            "    movq %rdi, -64(%rsp)\n"                                                                               \
            "    movq %rdi, %rax\n"                                                                                    \
            "    movq 8(%rax), %rsi\n movq 16(%rax), %rdx\n movq 24(%rax), %r10\n movq 32(%rax), %r8\n"                \
            "    movq 40(%rax), %r9\n movq 48(%rax), %rbx\n movq 56(%rax), %rbp\n movq 64(%rax), %r12\n"               \
            "    movq 72(%rax), %r13\n movq 80(%rax), %r14\n movq 88(%rax), %r15\n movq 0(%rax), %rdi\n"               \
            "    movl $" #number ", %eax\n"                                                                            \
            "    syscall\n"                                                                                            \
            "    movq -64(%rsp), %rcx\n"                                                                               \
            "    movq %rdi, 0(%rcx)\n movq %rsi, 8(%rcx)\n movq %rdx, 16(%rcx)\n movq %r10, 24(%rcx)\n"                \
            "    movq %r8, 32(%rcx)\n movq %r9, 40(%rcx)\n movq %rbx, 48(%rcx)\n movq %rbp, 56(%rcx)\n"                \
            "    movq %r12, 64(%rcx)\n movq %r13, 72(%rcx)\n movq %r14, 80(%rcx)\n movq %r15, 88(%rcx)\n"              \
            "    movq %rax, 96(%rcx)\n"                                                                                \
            "    popq %r15\n .cfi_adjust_cfa_offset -8\n .cfi_restore r15\n"                                           \
            "    popq %r14\n .cfi_adjust_cfa_offset -8\n .cfi_restore r14\n"                                           \
            "    popq %r13\n .cfi_adjust_cfa_offset -8\n .cfi_restore r13\n"                                           \
            "    popq %r12\n .cfi_adjust_cfa_offset -8\n .cfi_restore r12\n"                                           \
            "    popq %rbp\n .cfi_adjust_cfa_offset -8\n .cfi_restore rbp\n"                                           \
            "    popq %rbx\n .cfi_adjust_cfa_offset -8\n .cfi_restore rbx\n"                                           \
            "    ret\n"                                                                                                \
            ".cfi_endproc\n"                                                                                           \
            ".size " #name ", . - " #name "\n")

RAW_CALL(raw_poll, 7);
RAW_CALL(raw_nanosleep, 35);

static const char *raw_call_keeps_registers(registers_t *registers, void (*call)(registers_t *))
{
    registers_t before = *registers, after;

    before.rbx = 0x1111;
    before.rbp = 0x2222;
    before.r12 = 0x3333;
    before.r13 = 0x4444;
    before.r14 = 0x5555;
    before.r15 = 0x6666;
    before.rax = 0; /* the result */
    after = before;
    call(&after);
    if (0 != after.rax) {
        return "the call has failed";
    }
    return 0 == memcmp(&before, &after, sizeof(before)) ? NULL : "a register has changed";
}

static void raw_body(victim_t *victim)
{
    struct pollfd fd = {.fd = silent_pipe, .events = POLLIN};
    registers_t sleep = {.rdi = (uintptr_t)&wait_time, .rdx = 3, .r10 = 4, .r8 = 5, .r9 = 6};
    registers_t poll = {.rdi = (uintptr_t)&fd, .rsi = 1, .rdx = WAIT_MS, .r10 = 4, .r8 = 5, .r9 = 6};

    while (!atomic_load(&victim->stop) && NULL == victim->error) {
        victim->error = raw_call_keeps_registers(&sleep, raw_nanosleep);
        if (NULL == victim->error) {
            victim->error = raw_call_keeps_registers(&poll, raw_poll);
        }
        atomic_fetch_add(&victim->count, 1);
    }
}

static void the_caller_keeps_its_registers(void **state)
{
    victim_t victim = {.number = 0};

    (void)state;
    open_silent();
    victim_start(&victim, raw_body);
    while (3 > atomic_load(&victim.count) && !atomic_load(&victim.done)) {
        victim_park();
        lpm_park_release();
    }
    victim_end(&victim);
}

/* ---- a handler of the application on top of a call that has been made again ---- */

static sigjmp_buf out;
static atomic_int frames_seen;

/* Symbols, so that their addresses can be compared. */
void sleeper(void);

static _Unwind_Reason_Code look_for_sleeper(struct _Unwind_Context *context, void *arg)
{
    if ((uintptr_t)sleeper == _Unwind_GetRegionStart(context)) {
        *(int *)arg = 1;
    }
    return _URC_NO_REASON;
}

static void jumping_handler(int sig)
{
    int found = 0;

    (void)sig;
    _Unwind_Backtrace(look_for_sleeper, &found);
    atomic_fetch_add(&frames_seen, found);
    siglongjmp(out, 1);
}

__attribute__((noinline)) void sleeper(void)
{
    usleep(4000000000U);
    __asm__ volatile("" ::: "memory"); /* no call at the end */
}

static void jumping_body(victim_t *victim)
{
    victim_tid = gettid();
    while (!atomic_load(&victim->stop)) {
        if (0 == sigsetjmp(out, 1)) {
            atomic_fetch_add(&victim->count, 1);
            sleeper();
        }
    }
}

static void a_call_can_be_left_by_longjmp(void **state)
{
    struct sigaction action = {.sa_handler = jumping_handler}, before;
    victim_t victim = {.number = 0};
    enum { ROUNDS = 50 };

    (void)state;
    sigaction(SIGUSR1, &action, &before);
    victim_start(&victim, jumping_body);
    for (int i = 1; i <= ROUNDS; ++i) {
        while ((unsigned long)i > atomic_load(&victim.count)) {
            sched_yield();
        }
        await_sleep(victim_tid);
        for (int k = 0; k < 3; ++k) {
            victim_park();
            lpm_park_release();
        }
        await_sleep(victim_tid);
        atomic_store(&victim.stop, ROUNDS == i);
        pthread_kill(victim.thread, SIGUSR1);
    }
    victim_end(&victim);
    sigaction(SIGUSR1, &before, NULL);
    assert_int_equal(ROUNDS, atomic_load(&frames_seen));
}

/* An argument selects tests by a pattern. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_with_a_limit_wait_as_long_as_they_should),
        cmocka_unit_test(sleeping_while_parked_counts),
        cmocka_unit_test(the_call_goes_on_until_it_happens),
        cmocka_unit_test(signals_of_the_application_end_calls),
        cmocka_unit_test(the_caller_keeps_its_registers),
        cmocka_unit_test(a_call_can_be_left_by_longjmp),
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
