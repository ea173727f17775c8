/*
 * System calls that our signal interrupts, made to look as if it had not.
 *
 * The kernel restarts some calls by itself after a handler with SA_RESTART (read, write, waitpid, futex without a
 * limit ...). Others fail with EINTR in spite of it. Those are made again when the handler returns: a call that waits
 * for a time that is given as a period with what is left of it, so that it ends when it would have ended, or at once
 * if that has passed meanwhile.
 *
 *   made again           pause, sigsuspend, msgsnd, msgrcv, semop, and those with a point in time as their limit:
 *                        clock_nanosleep until then, futex as in pthread_cond_timedwait, sem_timedwait ...
 *   what is left, exact  nanosleep and clock_nanosleep if the caller wants to know what is left, as sleep(3) does;
 *                        select, pselect, ppoll through the C library
 *   what is left, less   nanosleep without that, as usleep(3); poll, epoll_wait, epoll_pwait, epoll_pwait2,
 *   exact                semtimedop: the kernel does not say how long they have been waiting, so the period counts
 *                        from the first signal. They never end early, and late by at most what had passed until then,
 *                        however often they are interrupted afterwards.
 *   left alone           recv, send, accept and their relatives on a socket with a time limit; connect, sigtimedwait,
 *                        io_getevents, recvmmsg, io_uring_enter, futex_waitv, futex with a period, clock_nanosleep by
 *                        CPU time. lpm_call_may_be_interrupted() says no for a thread that sleeps in these. One that
 *                        enters such a call at that very moment sees EINTR, or waits as long again.
 *
 * A call that a signal of the application is to interrupt as well does return EINTR, also when that signal comes while
 * the thread is parked. The one exception is a handler of the application that blocks all signals and ends just when
 * ours is waiting: that it has interrupted a call cannot be told from our having done it.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_PARK_CALL_H
#define LPM_PARK_CALL_H

#include "lpm_park_unwind.h"

#ifdef LPM_PARK_SUPPORTED

#include <sys/types.h>
#include <time.h>

/* Where a thread sleeps, as /proc tells. */
typedef struct {
    bool known; /* it sleeps in a system call */
    long number;
    uint64_t argument[6], sp, pc;
} lpm_call_seen_t;

/* A handler of the application can interrupt such a call and make another one, and so on. */
#define LPM_CALL_SLOTS 8

/* A call that is made again with another limit. The layout is known to the assembly. */
typedef struct {
    uint64_t rip, rbx, rdi, rdx, r10; /* the caller's */
    uint64_t busy;
    uint64_t rsp; /* tells whether a busy slot is still in use: a handler of the application may have jumped out */
    const struct lpm_call_row *row;
    int64_t deadline;
    struct timespec period;
} lpm_call_slot_t;

/* Those of one thread. They start as zeros, and stay where they are for as long as the thread lives. */
typedef struct {
    lpm_call_slot_t slot[LPM_CALL_SLOTS];
} lpm_call_slots_t;

/* A call that has been interrupted, between the two ends of a handler. */
typedef struct {
    bool failed;                    /* with EINTR */
    bool restarted;                 /* the kernel is going to make it again by itself */
    const struct lpm_call_row *row; /* what is known about such calls, or NULL */
    lpm_call_slot_t *slot;          /* it had been interrupted before, and has this */
    int64_t entered, deadline;      /* ns of CLOCK_MONOTONIC; deadline 0: no period */
} lpm_call_t;

/** System call in the handler: sets no errno, and is no function of the C library. @return the result or -errno. */
static inline long lpm_call_raw(long number, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}

/** Look what system call the thread sleeps in. Not for handlers. */
void lpm_call_look(pid_t tid, lpm_call_seen_t *seen);

/** Can the handler hide that the thread has been interrupted there? */
bool lpm_call_may_be_interrupted(const lpm_call_seen_t *seen);

/**
 * First thing in the handler: find out which call was interrupted.
 * @param seen  what was seen shortly before the signal was sent, or NULL.
 * Async-signal-safe, as is lpm_call_end().
 */
void lpm_call_begin(lpm_call_t *call, const ucontext_t *context, const lpm_call_seen_t *seen);

/**
 * Last thing in the handler: change the context so that the call goes on.
 * @param slots       the thread's.
 * @param stack       the thread's stack, not one for signals.
 * @param own_signal  the number of our signal, which is not one of the application.
 */
void lpm_call_end(lpm_call_t *call, ucontext_t *context, lpm_call_slots_t *slots, const lpm_range_t *stack,
                  int own_signal);

/** Is the thread inside a wait for a futex as the C library's semaphores, conditions and joins do it? */
bool lpm_call_waits_for_futex(const ucontext_t *context);

/** Does @p pc lie in the code that makes a call again? */
bool lpm_call_is_ours(uintptr_t pc);

/** What the unwinder has to read for frames of that code. */
lpm_range_t lpm_call_memory(const lpm_call_slots_t *slots);

#endif
#endif /* LPM_PARK_CALL_H */
