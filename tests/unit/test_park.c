/*
 * Parking: a thread that is parked stands still, goes on as if nothing had been, and is not parked where it must not
 * be.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "park_victim.h"

#include <fenv.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include "lpm_park_unwind.h"

#ifdef LPM_PARK_SUPPORTED

#define CYCLES 10000

/* Frames to be compared, and how often. */
#define FRAMES  64
#define SAMPLES 3000

static unsigned long cycles(void)
{
    const char *text = getenv("LPM_TEST_PARK_CYCLES"); /* for long runs by hand */

    return (NULL == text) ? CYCLES : strtoul(text, NULL, 10);
}

/* ---- bodies ---- */

static void count_body(victim_t *victim)
{
    while (!atomic_load(&victim->stop)) {
        atomic_fetch_add(&victim->count, 1);
    }
}

static int ascending(const void *a, const void *b)
{
    const int *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

static void fill(int *numbers, size_t n, unsigned *seed)
{
    for (size_t i = 0; i < n; ++i) {
        *seed = *seed * 1664525 + 1013904223;
        numbers[i] = (int)(*seed >> 8);
    }
}

static bool sorts_well(unsigned *seed)
{
    enum { N = 100 };
    int numbers[N], *copy = malloc(sizeof(numbers));
    long before = 0, after = 0;
    bool good = true;

    fill(numbers, N, seed);
    memcpy(copy, numbers, sizeof(numbers));
    qsort(copy, N, sizeof(copy[0]), ascending);
    for (int i = 0; i < N; ++i) {
        before += numbers[i];
        after += copy[i];
        good = good && (0 == i || copy[i - 1] <= copy[i]);
    }
    free(copy);
    return good && before == after;
}

static bool allocates_well(unsigned *seed)
{
    enum { N = 20 };
    unsigned char *block[N];
    size_t size[N];
    bool good = true;

    for (int i = 0; i < N; ++i) {
        *seed = *seed * 1664525 + 1013904223;
        size[i] = 1 + (*seed >> 8) % (0 == i ? 300000 : 3000);
        block[i] = malloc(size[i]);
        memset(block[i], i + 1, size[i]);
    }
    for (int i = 0; i < N; ++i) {
        good = good && block[i][0] == i + 1 && block[i][size[i] - 1] == i + 1;
        free(block[i]);
    }
    return good;
}

static double compute(double x)
{
    for (int i = 0; i < 200; ++i) {
        x = sin(x) + 0.5 * cos(x * 1.0001) + 1.0;
    }
    return x;
}

/* What programs do between two calls of MPI, all results checked. */
static void mixed_body(victim_t *victim)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    FILE *null = fopen("/dev/null", "w");
    double start = compute(1.0), last = 0, now;
    unsigned seed = 1;

    while (!atomic_load(&victim->stop) && NULL == victim->error) {
        errno = 4711;
        victim->error = (start == compute(1.0)) ? NULL : "the computation came out differently";
        victim->error = (4711 == errno) ? victim->error : "errno has changed";
        victim->error = sorts_well(&seed) ? victim->error : "sorted wrongly";
        victim->error = allocates_well(&seed) ? victim->error : "memory is not what it was";
        fprintf(null, "%lu %f %s\n", atomic_load(&victim->count), start, "text");
        pthread_mutex_lock(&lock);
        now = victim_clock();
        pthread_mutex_unlock(&lock);
        victim->error = (last <= now) ? victim->error : "time went backwards";
        last = now;
        atomic_fetch_add(&victim->count, 1);
    }
    fclose(null);
}

/* ---- standing still ---- */

static void agent_allocates(void)
{
    void *block[100];

    for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < 100; ++i) {
            block[i] = malloc((size_t)(1 + i * 37 % 5000));
        }
        for (int i = 0; i < 100; ++i) {
            free(block[i]);
        }
    }
}

static void a_parked_thread_stands_still(void **state)
{
    victim_t victim = {.number = 0};
    unsigned long before;

    (void)state;
    victim_start(&victim, count_body);
    for (int i = 0; i < 20; ++i) {
        victim_await(&victim, 1000);
        victim_park();
        before = atomic_load(&victim.count);
        agent_allocates();
        assert_int_equal(before, atomic_load(&victim.count));
        lpm_park_release();
    }
    victim_await(&victim, 1000);
    victim_end(&victim);
}

static void a_program_survives_many_parkings(void **state)
{
    victim_t victim = {.number = 0};
    unsigned long n = cycles(), before, tries = 0;

    (void)state;
    victim_start(&victim, mixed_body);
    for (unsigned long i = 0; i < n; ++i) {
        tries += victim_try_until(LPM_PARK_PARKED, NULL);
        before = atomic_load(&victim.count);
        free(malloc(1 + i % 10000));
        if (0 == i % 100) {
            agent_allocates();
        }
        assert_int_equal(before, atomic_load(&victim.count));
        lpm_park_release();
        assert_null(victim.error);
    }
    victim_await(&victim, 1);
    victim_end(&victim);
    print_message("%lu parkings took %lu tries\n", n, tries);
}

static void *park_from_a_thread(void *arg)
{
    victim_t *victim = arg;
    const char *why = "";
    unsigned long before;

    for (int i = 0; i < 100 && NULL == victim->error; ++i) {
        while (LPM_PARK_PARKED != lpm_park_try(VICTIM_LIMIT_S * 1000, &why)) {
            sched_yield();
        }
        before = atomic_load(&victim->count);
        agent_allocates();
        victim->error = (before == atomic_load(&victim->count)) ? NULL : "it did not stand still";
        lpm_park_release();
    }
    atomic_store(&victim->stop, true);
    return NULL;
}

static void the_main_thread_can_be_parked(void **state)
{
    static const char *const nothing[] = {NULL};
    victim_t victim = {.number = 0};
    const char *why = NULL;
    pthread_t agent;

    (void)state;
    assert_int_equal(0, lpm_park_init(nothing, &why));
    assert_int_equal(0, pthread_create(&agent, NULL, park_from_a_thread, &victim));
    count_body(&victim);
    assert_int_equal(0, pthread_join(agent, NULL));
    lpm_park_fini();
    assert_null(victim.error);
}

/* ---- where it must not be stopped ---- */

/* Calls back while a frame of libjansson is on the stack. */
static int in_the_middle(const char *buffer, size_t size, void *arg)
{
    (void)buffer;
    (void)size;
    count_body(arg);
    return 0;
}

static void callback_body(victim_t *victim)
{
    json_t *json = json_pack("[i]", 1);

    json_dump_callback(json, in_the_middle, victim, 0);
    json_decref(json);
    atomic_store(&victim->stop, false);
    count_body(victim);
}

static void a_forbidden_frame_anywhere_forbids(void **state)
{
    static const char *const forbidden[] = {"libnothing", "libjansson", NULL};
    victim_t victim = {.forbidden = forbidden};
    const char *why = NULL;

    (void)state;
    victim_start(&victim, callback_body);
    victim_await(&victim, 10);
    for (int i = 0; i < 100; ++i) {
        assert_int_equal(LPM_PARK_BUSY, lpm_park_try(VICTIM_LIMIT_S * 1000, &why));
        assert_non_null(strstr(why, "libjansson"));
    }
    victim_await(&victim, 10);
    atomic_store(&victim.stop, true); /* once: it leaves the library */
    victim_park();
    lpm_park_release();
    while (!atomic_load(&victim.done)) {
        atomic_store(&victim.stop, true);
    }
    victim_end(&victim);
}

static victim_t *sorting;

static int counts(const void *a, const void *b)
{
    if (!atomic_load(&sorting->stop)) {
        count_body(sorting);
    }
    return ascending(a, b);
}

static void sort_body(victim_t *victim)
{
    int numbers[] = {3, 1, 2};

    sorting = victim;
    qsort(numbers, 3, sizeof(numbers[0]), counts);
}

static void the_comparison_of_qsort_is_outside_of_the_library(void **state)
{
    victim_t victim = {.number = 0};

    (void)state;
    victim_start(&victim, sort_body);
    victim_await(&victim, 10);
    victim_park();
    lpm_park_release();
    victim_end(&victim);
}

static void allocate_body(victim_t *victim)
{
    while (!atomic_load(&victim->stop)) {
        free(malloc(100000 + atomic_fetch_add(&victim->count, 1) % 1000));
    }
}

static void an_allocating_thread_is_parked_in_between(void **state)
{
    victim_t victim = {.number = 0};

    (void)state;
    victim_start(&victim, allocate_body);
    for (int i = 0; i < 200; ++i) {
        victim_park();
        free(malloc(100500));
        lpm_park_release();
    }
    victim_end(&victim);
}

static void stream_body(victim_t *victim)
{
    FILE *stream = fdopen(victim->number, "r");
    int letter;

    while (EOF != (letter = getc(stream))) {
        atomic_fetch_add(&victim->count, 1);
        victim->error = ('x' == letter) ? victim->error : "read something else";
    }
    victim->error = ferror(stream) ? "reading has failed" : victim->error;
    fclose(stream);
    count_body(victim);
}

/* It holds the lock of the stream. */
static void a_thread_inside_of_stdio_is_busy(void **state)
{
    victim_t victim = {.number = 0};
    int ends[2];

    (void)state;
    assert_int_equal(0, pipe(ends));
    victim.number = ends[0];
    victim_start(&victim, stream_body);
    victim_answers_for_good(LPM_PARK_BUSY);
    assert_int_equal(1, write(ends[1], "x", 1));
    close(ends[1]);
    victim_park();
    lpm_park_release();
    victim_end(&victim);
}

/* ---- stacks that are not understood ---- */

/* Loops until *%rdi is not zero; no unwind information. */
void bare_loop(const int *flag);
__asm__(".text\n"
        ".type bare_loop, @function\n"
        "bare_loop:\n"
        "1:  pause\n"
        "    cmpl $0, (%rdi)\n"
        "    je 1b\n"
        "    ret\n"
        ".size bare_loop, . - bare_loop\n");

/* Calls %rdi(%rsi); no unwind information, and the same registers as any function. */
void bare_call(void (*function)(victim_t *), victim_t *victim);
__asm__(".text\n"
        ".type bare_call, @function\n"
        "bare_call:\n"
        "    pushq %rbx\n"
        "    movq %rdi, %rax\n"
        "    movq %rsi, %rdi\n"
        "    call *%rax\n"
        "    popq %rbx\n"
        "    ret\n"
        ".size bare_call, . - bare_call\n");

/* As bare_loop(), with unwind information that is wrong: it leads to nonsense in %rax. */
void wrong_loop(const int *flag);
__asm__(".text\n"
        ".type wrong_loop, @function\n"
        "wrong_loop:\n"
        ".cfi_startproc\n"
        ".cfi_def_cfa rax, 8\n"
        "    movabsq $0x123456789abc, %rax\n"
        "1:  pause\n"
        "    cmpl $0, (%rdi)\n"
        "    je 1b\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size wrong_loop, . - wrong_loop\n");

static int flag;

static void bare_body(victim_t *victim)
{
    atomic_fetch_add(&victim->count, 1);
    bare_loop(&flag);
    bare_call(count_body, victim);
    atomic_store(&victim->stop, false);
    atomic_fetch_add(&victim->count, 1);
    wrong_loop(&flag);
    count_body(victim);
}

static void set_flag(int value)
{
    __atomic_store_n(&flag, value, __ATOMIC_SEQ_CST);
}

static void code_without_unwind_information_is_unsafe(void **state)
{
    victim_t victim = {.number = 0};

    (void)state;
    set_flag(0);
    victim_start(&victim, bare_body);
    victim_answers_for_good(LPM_PARK_UNSAFE);
    set_flag(1);
    victim_await(&victim, 10);
    victim_answers_for_good(LPM_PARK_UNSAFE);
    set_flag(0);
    atomic_store(&victim.stop, true);
    while (atomic_load(&victim.stop)) {
        sched_yield();
    }
    victim_try_until(LPM_PARK_UNSAFE, NULL);
    victim_answers_for_good(LPM_PARK_UNSAFE);
    set_flag(1);
    victim_park();
    lpm_park_release();
    victim_end(&victim);
}

static ucontext_t outside, inside;
static victim_t *fiber_victim;

static void fiber(void)
{
    count_body(fiber_victim);
}

static void fiber_body(victim_t *victim)
{
    static char stack[65536];

    fiber_victim = victim;
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = sizeof(stack);
    inside.uc_link = &outside;
    makecontext(&inside, fiber, 0);
    swapcontext(&outside, &inside);
    atomic_store(&victim->stop, false);
    count_body(victim);
}

/* What is on the stack that it is to come back to cannot be known. */
static void another_stack_is_unsafe(void **state)
{
    victim_t victim = {.number = 0};

    (void)state;
    victim_start(&victim, fiber_body);
    victim_await(&victim, 10);
    victim_answers_for_good(LPM_PARK_UNSAFE);
    atomic_store(&victim.stop, true);
    victim_park();
    lpm_park_release();
    while (!atomic_load(&victim.done)) {
        atomic_store(&victim.stop, true);
    }
    victim_end(&victim);
}

__attribute__((noinline)) static unsigned long recurse(victim_t *victim, unsigned depth)
{
    volatile unsigned long here = depth;

    if (0 == depth) {
        count_body(victim);
        return 0;
    }
    __asm__ volatile("" ::: "memory"); /* a frame for each call, whatever the compiler thinks of it */
    return recurse(victim, depth - 1) + here;
}

static void deep_body(victim_t *victim)
{
    unsigned depth = (unsigned)victim->number;

    victim->error = (depth * (depth + 1UL) / 2 == recurse(victim, depth)) ? NULL : "wrong sum";
}

static void deep_stacks(void **state)
{
    victim_t victim = {.number = 10000}, deeper = {.number = 50000};

    (void)state;
    victim_start(&victim, deep_body);
    victim_await(&victim, 10);
    for (int i = 0; i < 10; ++i) {
        victim_park();
        lpm_park_release();
    }
    victim_end(&victim);
    victim_start(&deeper, deep_body);
    victim_await(&deeper, 10);
    assert_int_equal(LPM_PARK_UNSAFE, lpm_park_try(VICTIM_LIMIT_S * 1000, NULL));
    victim_end(&deeper);
}

/* ---- signals ---- */

static void blocking_body(victim_t *victim)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    count_body(victim);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    atomic_store(&victim->stop, false);
    count_body(victim);
}

static void blocked_signals_give_no_answer(void **state)
{
    victim_t victim = {.number = 0};
    unsigned long before;

    (void)state;
    victim_start(&victim, blocking_body);
    victim_await(&victim, 10);
    for (int i = 0; i < 10; ++i) {
        assert_int_equal(LPM_PARK_NO_ANSWER, lpm_park_try(1, NULL));
    }
    before = atomic_load(&victim.count);
    victim_await(&victim, 10);
    assert_true(before < atomic_load(&victim.count));
    atomic_store(&victim.stop, true);
    victim_park();
    lpm_park_release();
    while (!atomic_load(&victim.done)) {
        atomic_store(&victim.stop, true);
    }
    victim_end(&victim);
}

/* A thread that waits for its child to leave its memory takes no signals, and has none blocked. */
static void vfork_body(victim_t *victim)
{
    char byte;
    pid_t child;

    atomic_fetch_add(&victim->count, 1);
    child = vfork();
    if (0 == child) {
        (void)!read(victim->number, &byte, 1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    atomic_fetch_add(&victim->count, 1);
    count_body(victim);
}

static void a_signal_that_comes_late_does_nothing(void **state)
{
    victim_t victim = {.number = 0};
    int ends[2];

    (void)state;
    assert_int_equal(0, pipe(ends));
    victim.number = ends[0];
    victim_start(&victim, vfork_body);
    for (int in_a_row = 0; in_a_row < 20; ++in_a_row) {
        if (LPM_PARK_NO_ANSWER != lpm_park_try(10, NULL)) { /* not there yet, or again after a pause */
            lpm_park_release();
            in_a_row = -1;
        }
    }
    assert_int_equal(1, write(ends[1], "x", 1));
    victim_await(&victim, 1000);
    victim_park();
    lpm_park_release();
    victim_await(&victim, 1000);
    victim_end(&victim);
    close(ends[0]);
    close(ends[1]);
}

static void late_at_the_end_body(victim_t *victim)
{
    sigset_t all, before;

    /* the tests of the agent see it unblocked: it has asked just before */
    while (!atomic_load(&victim->stop)) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        atomic_fetch_add(&victim->count, 1);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
}

static void blocking_and_unblocking_all_the_time(void **state)
{
    (void)state;
    for (int round = 0; round < 20; ++round) {
        victim_t victim = {.number = 0};

        victim_start(&victim, late_at_the_end_body);
        for (int i = 0; i < 100; ++i) {
            if (LPM_PARK_PARKED == lpm_park_try(i % 2, NULL)) {
                lpm_park_release();
            }
        }
        victim_end(&victim); /* calls lpm_park_fini() with a signal under way, perhaps */
    }
}

static void own_handler(int sig)
{
    (void)sig;
}

static void taking_body(victim_t *victim)
{
    for (int sig = SIGRTMIN; sig <= SIGRTMAX; ++sig) {
        signal(sig, own_handler);
    }
    count_body(victim);
    for (int sig = SIGRTMIN; sig <= SIGRTMAX; ++sig) {
        signal(sig, SIG_DFL);
    }
}

static void a_signal_that_the_application_takes_is_left_to_it(void **state)
{
    victim_t victim = {.number = 0};

    (void)state;
    victim_start(&victim, taking_body);
    victim_await(&victim, 10);
    assert_int_equal(LPM_PARK_OFF, lpm_park_try(1, NULL));
    victim_end(&victim);
}

static volatile sig_atomic_t in_handler;
static victim_t *handler_victim;

static void counting_handler(int sig)
{
    (void)sig;
    in_handler = 1;
    count_body(handler_victim);
}

/* The handler of the application is on a stack of its own, and ours is there, too. */
static void alternate_body(victim_t *victim)
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)}, none = {.ss_flags = SS_DISABLE};
    struct sigaction action = {.sa_handler = counting_handler, .sa_flags = victim->number}, before;
    char calm[64];

    handler_victim = victim;
    memset(calm, 'c', sizeof(calm));
    sigaltstack(&alternate, NULL);
    sigaction(SIGUSR1, &action, &before);
    in_handler = 0;
    syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1); /* not pthread_kill(), which is no place to be parked in */
    for (size_t i = 0; i < sizeof(calm); ++i) {
        victim->error = ('c' == calm[i]) ? victim->error : "the stack has changed";
    }
    atomic_store(&victim->stop, false);
    count_body(victim);
    sigaltstack(&none, NULL);
    sigaction(SIGUSR1, &before, NULL);
}

static void park_in_handler(int flags)
{
    victim_t victim = {.number = flags};

    victim_start(&victim, alternate_body);
    victim_await(&victim, 10);
    assert_int_equal(1, in_handler);
    for (int i = 0; i < 100; ++i) {
        victim_park();
        lpm_park_release();
    }
    atomic_store(&victim.stop, true);
    while (atomic_load(&victim.stop)) {
        sched_yield();
    }
    for (int i = 0; i < 100; ++i) {
        victim_park();
        lpm_park_release();
    }
    victim_end(&victim);
}

static void a_handler_of_the_application_can_be_parked(void **state)
{
    (void)state;
    park_in_handler(0);
    park_in_handler(SA_ONSTACK);
}

/* ---- registers ---- */

/* Keeps patterns in registers over a loop and looks whether they are still there. */
static bool vector_registers_are_kept(uint64_t seed)
{
    uint64_t in[4] = {seed, ~seed, seed * 3, seed * 5}, out[8];

    if (!__builtin_cpu_supports("avx2")) {
        return true;
    }
    __asm__ volatile("vmovdqu (%0), %%ymm0\n"
                     "vmovdqu (%0), %%ymm15\n"
                     "movl $20000, %%ecx\n"
                     "1: decl %%ecx\n"
                     "jnz 1b\n"
                     "vmovdqu %%ymm0, (%1)\n"
                     "vmovdqu %%ymm15, 32(%1)\n"
                     "vzeroupper\n"
                     :
                     : "r"(in), "r"(out)
                     : "rcx", "cc", "memory", "xmm0", "xmm15");
    return 0 == memcmp(in, out, 32) && 0 == memcmp(in, out + 4, 32);
}

static bool long_double_is_kept(int i)
{
    volatile int n = i;
    long double sum = 0;

    for (int k = 1; k <= 1000; ++k) {
        sum += (long double)(n + k);
    }
    return sum == 1000.0L * n + 500500.0L;
}

static void register_body(victim_t *victim)
{
    fesetround(FE_UPWARD);
    while (!atomic_load(&victim->stop) && NULL == victim->error) {
        unsigned long i = atomic_fetch_add(&victim->count, 1);

        if (!vector_registers_are_kept(i * 0x9e3779b97f4a7c15)) {
            victim->error = "a vector register has changed";
        } else if (!long_double_is_kept((int)(i % 1000))) {
            victim->error = "an x87 register has changed";
        } else if (FE_UPWARD != fegetround()) {
            victim->error = "the rounding has changed";
        }
    }
}

static void registers_are_kept(void **state)
{
    volatile double agent = 1.0;
    victim_t victim = {.number = 0};

    (void)state;
    victim_start(&victim, register_body);
    for (int i = 0; i < 2000; ++i) {
        victim_park();
        agent = agent * 1.5 + 1 / (agent + 2);
        assert_true(vector_registers_are_kept((uint64_t)i));
        lpm_park_release();
    }
    victim_end(&victim);
}

/* ---- the unwinder against that of libgcc ---- */

static struct {
    lpm_unwind_t cursor;
    lpm_range_t stack;
    uintptr_t ours[FRAMES], theirs[FRAMES];
    int n_ours, n_theirs;
    unsigned samples, different;
    bool at_end;
    uintptr_t example;
} compared;

static _Unwind_Reason_Code their_frame(struct _Unwind_Context *context, void *arg)
{
    uintptr_t pc = _Unwind_GetIP(context), *interrupted = arg;

    /* the first ones are those of the handler */
    if (0 == compared.n_theirs && pc != *interrupted) {
        return _URC_NO_REASON;
    }
    if (0 == pc || FRAMES == compared.n_theirs) {
        return _URC_END_OF_STACK;
    }
    compared.theirs[compared.n_theirs++] = pc;
    return _URC_NO_REASON;
}

static void our_frames(const ucontext_t *context)
{
    lpm_unwind_t *cursor = &compared.cursor;
    lpm_unwind_result_t result = LPM_UNWIND_OK;

    lpm_unwind_begin(cursor, context);
    cursor->stacks[0] = compared.stack;
    compared.n_ours = 0;
    while (LPM_UNWIND_OK == result && FRAMES > compared.n_ours) {
        compared.ours[compared.n_ours++] = cursor->reg[LPM_UNWIND_PC];
        result = lpm_unwind_look(cursor);
        result = (LPM_UNWIND_OK == result) ? lpm_unwind_step(cursor) : result;
    }
    compared.at_end = (LPM_UNWIND_END == result);
}

static void compare(int sig, siginfo_t *info, void *arg)
{
    const ucontext_t *context = arg;
    uintptr_t interrupted = (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    int saved = errno;

    (void)sig;
    (void)info;
    our_frames(context);
    compared.n_theirs = 0;
    _Unwind_Backtrace(their_frame, &interrupted);
    ++compared.samples;
    if (!compared.at_end || compared.n_ours != compared.n_theirs ||
        0 != memcmp(compared.ours, compared.theirs, (size_t)compared.n_ours * sizeof(compared.ours[0]))) {
        ++compared.different;
        compared.example = interrupted;
    }
    errno = saved;
}

static void find_stack(lpm_range_t *stack)
{
    pthread_attr_t attributes;
    void *low;
    size_t size;

    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &low, &size);
    pthread_attr_destroy(&attributes);
    *stack = (lpm_range_t){.low = (uintptr_t)low, .high = (uintptr_t)low + size};
}

static void compared_body(victim_t *victim)
{
    find_stack(&compared.stack);
    mixed_body(victim);
}

/* Everywhere in the loop, so also in prologues, in stubs of the dynamic linker, in the vDSO. */
static void both_unwinders_see_the_same(void **state)
{
    struct sigaction action = {.sa_sigaction = compare, .sa_flags = SA_SIGINFO | SA_RESTART}, before;
    victim_t victim = {.number = 0};
    unsigned sent = 0;

    (void)state;
    sigaction(SIGUSR1, &action, &before);
    victim_start(&victim, compared_body);
    victim_await(&victim, 2);
    while (SAMPLES > sent) {
        unsigned seen = __atomic_load_n(&compared.samples, __ATOMIC_SEQ_CST);

        pthread_kill(victim.thread, SIGUSR1);
        ++sent;
        while (seen == __atomic_load_n(&compared.samples, __ATOMIC_SEQ_CST)) {
            sched_yield();
        }
    }
    victim_end(&victim);
    sigaction(SIGUSR1, &before, NULL);
    if (0 != compared.different) {
        fail_msg("%u of %u stacks differ, one at %#lx", compared.different, sent, compared.example);
    }
}

/* ---- starting and stopping ---- */

static void parking_is_off_unless_initialised(void **state)
{
    const char *why = NULL;

    (void)state;
    assert_int_equal(LPM_PARK_OFF, lpm_park_try(1, &why));
    assert_non_null(why);
    lpm_park_release();
    lpm_park_fini();
}

static void the_signal_is_given_back(void **state)
{
    static const char *const nothing[] = {NULL};
    struct sigaction action;

    (void)state;
    for (int i = 0; i < 3; ++i) {
        int used = 0;

        assert_int_equal(0, lpm_park_init(nothing, NULL));
        assert_int_equal(-1, lpm_park_init(nothing, NULL));
        for (int sig = SIGRTMIN; sig <= SIGRTMAX; ++sig) {
            sigaction(sig, NULL, &action);
            used += (SIG_DFL != action.sa_handler);
        }
        assert_int_equal(1, used);
        lpm_park_fini();
        for (int sig = SIGRTMIN; sig <= SIGRTMAX; ++sig) {
            sigaction(sig, NULL, &action);
            assert_ptr_equal(SIG_DFL, action.sa_handler);
        }
    }
}

/* An argument selects tests by a pattern. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parking_is_off_unless_initialised),
        cmocka_unit_test(a_parked_thread_stands_still),
        cmocka_unit_test(a_program_survives_many_parkings),
        cmocka_unit_test(the_main_thread_can_be_parked),
        cmocka_unit_test(a_forbidden_frame_anywhere_forbids),
        cmocka_unit_test(the_comparison_of_qsort_is_outside_of_the_library),
        cmocka_unit_test(an_allocating_thread_is_parked_in_between),
        cmocka_unit_test(a_thread_inside_of_stdio_is_busy),
        cmocka_unit_test(code_without_unwind_information_is_unsafe),
        cmocka_unit_test(another_stack_is_unsafe),
        cmocka_unit_test(deep_stacks),
        cmocka_unit_test(blocked_signals_give_no_answer),
        cmocka_unit_test(a_signal_that_comes_late_does_nothing),
        cmocka_unit_test(blocking_and_unblocking_all_the_time),
        cmocka_unit_test(a_signal_that_the_application_takes_is_left_to_it),
        cmocka_unit_test(a_handler_of_the_application_can_be_parked),
        cmocka_unit_test(registers_are_kept),
        cmocka_unit_test(both_unwinders_see_the_same),
        cmocka_unit_test(the_signal_is_given_back),
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
