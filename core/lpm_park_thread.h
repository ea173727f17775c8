/*
 * The inner side of parking: the threads that may be parked, and what the agent, which parks them, asks of them.
 *
 * One word of memory for each thread is all that it and the agent have to agree on. The signal is just a bell: what is
 * asked is in the word, so a bell that rings late finds nothing to do. The agent may take back a question that has not
 * been answered.
 *
 *       agent                    word          thread, in the handler
 *       lpm_park_ask         ->  ASKED         or MEASURE, LEARN: questions whose answer is always REFUSED
 *                                DECIDING  <-  has seen it
 *                                REFUSED   <-  and returns
 *                                PARKED    <-  and waits while the word stays the same
 *       lpm_park_let_go      ->  IDLE          returns
 *
 * The thread that has initialised MPI knows its stack. Of any other the agent first has to find out where the stack is
 * (MEASURE), then where it ends and whose thread it is (LEARN).
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_PARK_THREAD_H
#define LPM_PARK_THREAD_H

#include "lpm_park.h"
#include "lpm_park_call.h"
#include "lpm_park_stack.h"
#include "lpm_park_unwind.h"

#ifdef LPM_PARK_SUPPORTED

#include <signal.h>
#include <stdatomic.h>

enum {
    LPM_PARK_IDLE,
    LPM_PARK_ASK,
    LPM_PARK_MEASURE,
    LPM_PARK_LEARN,
    LPM_PARK_DECIDING,
    LPM_PARK_REFUSED,
    LPM_PARK_STANDING,
    LPM_PARK_STATES = 8
};

typedef enum {
    LPM_PARK_STRANGER,  /* nothing is known about it */
    LPM_PARK_MEASURED,  /* .stack.bounds is known */
    LPM_PARK_APPLICANT, /* of the application, .stack is known */
    LPM_PARK_FOREIGN    /* of Open MPI, or of something below it */
} lpm_park_kind_t;

typedef struct lpm_park_thread {
    struct lpm_park_thread *next;
    _Atomic pid_t tid;    /* 0: the thread is gone */
    lpm_park_kind_t kind; /* the agent's, as the next three */
    uint64_t started;     /* in ticks since the system's start; tells threads with the same number apart */
    bool seen_now;        /* is there such a thread? */
    bool asked;           /* and is there to be an answer? */
    uint64_t pointer, sp; /* set while DECIDING: of the thread that has been MEASUREd */
    lpm_park_stack_t stack;
    lpm_call_slots_t calls;

    /* between the two threads */
    atomic_uint word;       /* number of the try * STATES + state */
    unsigned number;        /* of the try; the agent's */
    lpm_call_seen_t seen;   /* set before ASKED, read while DECIDING */
    lpm_park_result_t said; /* set while DECIDING */
} lpm_park_thread_t;

typedef struct {
    bool on, pinned;
    pid_t pid;
    int signal;
    struct sigaction before;
    lpm_park_thread_t first;             /* the one that has initialised MPI */
    _Atomic(lpm_park_thread_t *) others; /* never freed: a handler may be late */
} lpm_park_t;

extern lpm_park_t lpm_park;

/** The next of all threads, of which lpm_park.first is the first. Async-signal-safe. */
lpm_park_thread_t *lpm_park_after(const lpm_park_thread_t *thread);

/** @return the entry of a thread, or NULL. Async-signal-safe. */
lpm_park_thread_t *lpm_park_thread_of(pid_t tid);

/** What %fs points to: another one for each thread that lives, at the upper end of its stack. */
uint64_t lpm_park_thread_pointer(void);

unsigned lpm_park_state(const lpm_park_thread_t *thread);

/** Take an unused signal for the handler. @return NULL, or what prevents it. */
const char *lpm_park_take_signal(void);

void lpm_park_return_signal(void);

bool lpm_park_handler_is_ours(void);

/** Let the thread, or the calling one, be interrupted. @return false when it is gone. */
bool lpm_park_ring(pid_t tid);

/** The agent's clock, for the limits below. @return milliseconds */
int64_t lpm_park_now_ms(void);

/**
 * Ask a thread, as far as it can be interrupted. The agent's, as the following.
 * @param question  LPM_PARK_ASK, MEASURE or LEARN.
 * @return PARKED if it has been asked; otherwise .stack.where says why not.
 */
lpm_park_result_t lpm_park_ask(lpm_park_thread_t *thread, unsigned question, int64_t until);

/** @return PARKED: the thread stands still, or has found out what it was asked to */
lpm_park_result_t lpm_park_await_answer(lpm_park_thread_t *thread, int64_t until);

lpm_park_result_t lpm_park_ask_and_wait(lpm_park_thread_t *thread, unsigned question, int64_t until);

/** Does nothing when it is not parked. */
void lpm_park_let_go(lpm_park_thread_t *thread);

/** Is there no such thread any more? */
bool lpm_park_is_gone(const lpm_park_thread_t *thread);

/** @return NULL, or why nobody can be parked */
const char *lpm_park_check(void);

/** Set *why, unless it is NULL. @return @p result */
static inline lpm_park_result_t lpm_park_tell(lpm_park_result_t result, const char *text, const char **why)
{
    if (NULL != why) {
        *why = text;
    }
    return result;
}

#endif
#endif /* LPM_PARK_THREAD_H */
