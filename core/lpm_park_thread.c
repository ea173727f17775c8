/*
 * The handler of the signal that parks threads, and the agent's end of it.
 *
 * In the handler nothing of the C library is called, so neither errno nor any of its locks matters.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_park_thread.h"
#include "lpm_task.h"

#ifdef LPM_PARK_SUPPORTED

#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* So often is looked whether the thread is there at all: one that ends does not answer. */
#define LOOK_EACH_MS 2

/* The signal that pthread_cancel() uses; the C library does not let it be blocked. */
#define CANCEL_SIGNAL 32

lpm_park_t lpm_park;

static unsigned state_of(unsigned word)
{
    return word % LPM_PARK_STATES;
}

static long futex(atomic_uint *word, int op, unsigned value, const struct timespec *limit)
{
    return lpm_call_raw(SYS_futex, (long)word, op | FUTEX_PRIVATE_FLAG, (long)value, (long)limit);
}

uint64_t lpm_park_thread_pointer(void)
{
    uint64_t pointer;

    __asm__("movq %%fs:0, %0" : "=r"(pointer));
    return pointer;
}

lpm_park_thread_t *lpm_park_after(const lpm_park_thread_t *thread)
{
    return (thread == &lpm_park.first) ? atomic_load(&lpm_park.others) : thread->next;
}

lpm_park_thread_t *lpm_park_thread_of(pid_t tid)
{
    lpm_park_thread_t *thread = &lpm_park.first;

    while (NULL != thread && tid != atomic_load(&thread->tid)) {
        thread = lpm_park_after(thread);
    }
    return thread;
}

/* ---- in the handler ---- */

/* The C library's handler for pthread_cancel() would end the thread from within our handler. */
static void stand_still(lpm_park_thread_t *thread, unsigned parked)
{
    uint64_t cancel = UINT64_C(1) << (CANCEL_SIGNAL - 1);

    (void)lpm_call_raw(SYS_rt_sigprocmask, SIG_BLOCK, (long)&cancel, 0, sizeof(cancel));
    atomic_store(&thread->word, parked);
    (void)futex(&thread->word, FUTEX_WAKE, 1, NULL);
    while (parked == atomic_load(&thread->word)) {
        (void)futex(&thread->word, FUTEX_WAIT, parked, NULL);
    }
}

static lpm_park_result_t consider(lpm_park_thread_t *thread, const ucontext_t *context, unsigned question)
{
    switch (question) {
    case LPM_PARK_MEASURE:
        thread->pointer = lpm_park_thread_pointer();
        thread->sp = (uint64_t)context->uc_mcontext.gregs[REG_RSP];
        return LPM_PARK_PARKED;
    case LPM_PARK_LEARN:
        return lpm_park_stack_learn(&thread->stack, context, &thread->calls) ? LPM_PARK_PARKED : LPM_PARK_UNSAFE;
    default: return lpm_park_stack_judge(&thread->stack, context, &thread->calls);
    }
}

static void answer(lpm_park_thread_t *thread, const ucontext_t *context, unsigned asked)
{
    unsigned base = asked - state_of(asked);

    if (LPM_PARK_MEASURE != state_of(asked) && thread->pointer != lpm_park_thread_pointer()) {
        thread->pointer = 0; /* a new thread with the number of one that is gone */
        thread->said = LPM_PARK_BUSY;
    } else {
        thread->said = consider(thread, context, state_of(asked));
    }
    if (LPM_PARK_PARKED == thread->said && LPM_PARK_ASK == state_of(asked)) {
        stand_still(thread, base + LPM_PARK_STANDING);
        return;
    }
    atomic_store(&thread->word, base + LPM_PARK_REFUSED);
    (void)futex(&thread->word, FUTEX_WAKE, 1, NULL);
}

static bool is_question(unsigned word)
{
    return LPM_PARK_ASK == state_of(word) || LPM_PARK_MEASURE == state_of(word) || LPM_PARK_LEARN == state_of(word);
}

static void on_signal(int sig, siginfo_t *info, void *arg)
{
    ucontext_t *context = arg;
    lpm_park_thread_t *thread;
    unsigned asked;
    bool taken = false;
    lpm_call_t call;

    /* the signal may also come from somebody who means nothing by it, and to any thread, also of a forked child */
    if (SI_TKILL != info->si_code || lpm_park.pid != info->si_pid ||
        lpm_park.pid != lpm_call_raw(SYS_getpid, 0, 0, 0, 0) ||
        NULL == (thread = lpm_park_thread_of((pid_t)lpm_call_raw(SYS_gettid, 0, 0, 0, 0)))) {
        return;
    }
    asked = atomic_load(&thread->word);
    if (is_question(asked)) {
        taken = atomic_compare_exchange_strong(&thread->word, &asked, asked - state_of(asked) + LPM_PARK_DECIDING);
    }
    lpm_call_begin(&call, context, taken ? &thread->seen : NULL);
    if (taken) {
        answer(thread, context, asked);
    }
    lpm_call_end(&call, context, &thread->calls, &thread->stack.bounds, sig);
}

/* ---- the agent: one thread ---- */

int64_t lpm_park_now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

typedef struct {
    bool ended;                /* the first thread, when it has ended before the others */
    uint64_t blocked, pending; /* signals: by the thread, and for it alone */
} status_t;

static bool look_at_status(pid_t tid, status_t *status)
{
    char text[4096], *at;

    (void)lpm_task_read(getpid(), tid, "status", text, sizeof(text));
    status->ended = (NULL != strstr(text, "\nState:\tZ"));
    if (NULL == (at = strstr(text, "\nSigPnd:"))) {
        return false;
    }
    status->pending = strtoull(at + 8, NULL, 16);
    if (NULL == (at = strstr(at, "\nSigBlk:"))) {
        return false;
    }
    status->blocked = strtoull(at + 8, NULL, 16);
    return true;
}

static bool has_ended(pid_t tid)
{
    status_t status;

    (void)look_at_status(tid, &status);
    return status.ended;
}

bool lpm_park_handler_is_ours(void)
{
    struct sigaction now;

    return 0 == sigaction(lpm_park.signal, NULL, &now) && 0 != (now.sa_flags & SA_SIGINFO) &&
           on_signal == now.sa_sigaction;
}

/*
 * Waits until the thread does not block the signal. A blocked one would stay, show up in sigpending() and sigwait(),
 * and the next one be added to it. It is blocked in our handler, too, which may not have returned since the last try.
 * @param under_way  is there one already?
 */
static bool await_unblocked(pid_t tid, int64_t until, bool *under_way)
{
    const struct timespec moment = {.tv_nsec = 50000};
    const uint64_t ours = UINT64_C(1) << (lpm_park.signal - 1);
    status_t status = {.pending = 0};

    while (look_at_status(tid, &status) && 0 != (status.blocked & ours)) {
        if (lpm_park_now_ms() >= until) {
            return false;
        }
        (void)nanosleep(&moment, NULL);
    }
    *under_way = (0 != (status.pending & ours));
    return true;
}

/* The first thread of a process stays listed when it has ended, and takes no more signals. */
bool lpm_park_is_gone(const lpm_park_thread_t *thread)
{
    const pid_t tid = atomic_load(&thread->tid);

    return 0 != syscall(SYS_tgkill, lpm_park.pid, tid, 0) || (tid == lpm_park.pid && has_ended(tid));
}

bool lpm_park_ring(pid_t tid)
{
    return 0 == syscall(SYS_tgkill, lpm_park.pid, tid, lpm_park.signal);
}

static void wait_while(atomic_uint *word, unsigned value, int64_t until)
{
    int64_t left = until - lpm_park_now_ms();
    struct timespec limit = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};

    if (0 < left) {
        (void)futex(word, FUTEX_WAIT, value, &limit);
    }
}

lpm_park_result_t lpm_park_ask(lpm_park_thread_t *thread, unsigned question, int64_t until)
{
    const pid_t tid = atomic_load(&thread->tid);
    bool under_way = false;
    unsigned base;

    if (!await_unblocked(tid, until, &under_way)) {
        return lpm_park_stack_say(&thread->stack, LPM_PARK_NO_ANSWER, "the thread blocks signals", "");
    }
    lpm_call_look(tid, &thread->seen);
    if (!lpm_call_may_be_interrupted(&thread->seen)) {
        return lpm_park_stack_say(&thread->stack, LPM_PARK_BUSY, "in a system call that shows when it is interrupted",
                                  "");
    }
    base = ++thread->number * LPM_PARK_STATES;
    thread->stack.where[0] = '\0';
    atomic_store(&thread->word, base + question);
    if (!under_way && !lpm_park_ring(tid)) {
        atomic_store(&thread->word, base + LPM_PARK_IDLE);
        return lpm_park_stack_say(&thread->stack, LPM_PARK_NO_ANSWER, "the thread is gone", "");
    }
    return LPM_PARK_PARKED;
}

lpm_park_result_t lpm_park_await_answer(lpm_park_thread_t *thread, int64_t until)
{
    unsigned base = thread->number * LPM_PARK_STATES, word;

    while (is_question(word = atomic_load(&thread->word)) || LPM_PARK_DECIDING == state_of(word)) {
        const int64_t now = lpm_park_now_ms();
        const bool gone = lpm_park_is_gone(thread);

        if (LPM_PARK_DECIDING == state_of(word)) { /* the answer is coming */
            wait_while(&thread->word, word, now + LOOK_EACH_MS);
        } else if (now < until && !gone) {
            wait_while(&thread->word, word, (until < now + LOOK_EACH_MS) ? until : now + LOOK_EACH_MS);
        } else if (atomic_compare_exchange_strong(&thread->word, &word, base + LPM_PARK_IDLE)) {
            return lpm_park_stack_say(&thread->stack, LPM_PARK_NO_ANSWER,
                                      gone ? "the thread is gone" : "the thread does not run", "");
        }
    }
    if (LPM_PARK_STANDING == state_of(word)) {
        return LPM_PARK_PARKED;
    }
    atomic_store(&thread->word, base + LPM_PARK_IDLE);
    return thread->said;
}

lpm_park_result_t lpm_park_ask_and_wait(lpm_park_thread_t *thread, unsigned question, int64_t until)
{
    lpm_park_result_t result = lpm_park_ask(thread, question, until);

    return (LPM_PARK_PARKED == result) ? lpm_park_await_answer(thread, until) : result;
}

void lpm_park_let_go(lpm_park_thread_t *thread)
{
    if (LPM_PARK_STANDING == lpm_park_state(thread)) {
        atomic_store(&thread->word, thread->number * LPM_PARK_STATES + LPM_PARK_IDLE);
        (void)futex(&thread->word, FUTEX_WAKE, 1, NULL);
    }
}

const char *lpm_park_check(void)
{
    if (!lpm_park.on) {
        return "parking is not available";
    }
    return lpm_park_handler_is_ours() ? NULL : "the application has taken the signal for itself";
}

unsigned lpm_park_state(const lpm_park_thread_t *thread)
{
    return state_of(atomic_load(&thread->word));
}

/* ---- the signal ---- */

const char *lpm_park_take_signal(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigset_t blocked;

    sigfillset(&action.sa_mask);
    if (0 != pthread_sigmask(SIG_SETMASK, NULL, &blocked)) {
        return "the blocked signals are not known";
    }
    for (lpm_park.signal = SIGRTMAX; SIGRTMIN <= lpm_park.signal; --lpm_park.signal) {
        if (0 == sigismember(&blocked, lpm_park.signal) && 0 == sigaction(lpm_park.signal, NULL, &lpm_park.before) &&
            SIG_DFL == lpm_park.before.sa_handler && 0 == sigaction(lpm_park.signal, &action, NULL)) {
            return NULL;
        }
    }
    return "there is no unused real-time signal";
}

/* First ignoring it, which throws away what is still under way: with the default action that would kill the process. */
void lpm_park_return_signal(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    if (lpm_park_handler_is_ours()) {
        (void)sigaction(lpm_park.signal, &ignore, NULL);
        (void)sigaction(lpm_park.signal, &lpm_park.before, NULL);
    }
}

#endif /* LPM_PARK_SUPPORTED */
