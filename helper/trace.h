/*
 * Holding the threads of another process with ptrace(2), and letting one of them make a system call for us.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef TRACE_H
#define TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * A process is stopped with SIGSTOP first. A thread that is let go of then does not run: the kernel puts it back into
 * the group stop before it executes a single instruction of the program. So the process can be handed over to another
 * tracer, CRIU, and does not run in between. What the program sees of it is what it sees of any stop by signal:
 * some system calls return EINTR.
 *
 * All functions belong on one thread, that of the tracer. They wait for threads of the other process, as long as
 * limit_ms at most. On failure errno is set; ENOTSUP: not on this kind of processor.
 */

/** The threads that are held; to be set to zero, except limit_ms. */
typedef struct {
    pid_t pid;
    pid_t *tids;
    size_t n;
    int limit_ms;
} trace_t;

/** A thread that is in use for system calls, and all that has to be put back. */
typedef struct {
    pid_t tid;
    uint64_t syscall_at; /* address of a system call instruction */
    uint64_t mask;
    uint64_t regs[27]; /* struct user_regs_struct */
    pid_t child;       /* made by the last call, held like its parent; 0: none */
    int limit_ms;
} trace_call_t;

/**
 * SIGSTOP to each thread: none of them returns from the system call that it is in. Of a signal to the process the other
 * threads would not hear before the one that it is given to has come back from a wait in the kernel. Only for a process
 * that is let go on afterwards: the signals stay where they are until then.
 * @return 0, or -1 with errno set
 */
int trace_order_stop(pid_t pid);

/** SIGSTOP, and wait until every thread has stopped. Nothing is held yet. @return 0, or -1 with errno set */
int trace_stop(pid_t pid, int limit_ms);

/** Has every thread stopped, or does it wait for a page that userfaultfd(2) reports, or is it gone? */
bool trace_is_still(pid_t pid);

/** Let a process that was stopped go on. */
void trace_cont(pid_t pid);

/** Wait until every thread stands still that is to. @return 0, or -1 with errno set */
int trace_await_stop(pid_t pid, int limit_ms);

/**
 * Hold every thread of a stopped process. A tracer that dies takes the process with it (PTRACE_O_EXITKILL): the thread
 * that makes system calls for us could not go on.
 * @return 0, or -1 with errno set, and nothing is held.
 */
int trace_hold(trace_t *t, pid_t pid);

/** Hold one thread, running or not, of a process that goes on when the tracer dies. @return as trace_hold() */
int trace_hold_one(trace_t *t, pid_t pid, pid_t tid);

/** Where the stack and the thread-local storage of the thread number @p i are. @return 0, or -1 with errno set */
int trace_stack(const trace_t *t, size_t i, uint64_t *stack, uint64_t *tls);

/** Let go of all, which then stand or run as they did before. */
void trace_release(trace_t *t);

/** Prepare the thread @p tid, which is held, for calls. @return 0, or -1 with errno set and nothing changed */
int trace_call_begin(trace_call_t *c, pid_t tid, int limit_ms);

/** Make the call number @p nr. @return its result, -errno on failure; *failed is set when the call was not made. */
int64_t trace_call(trace_call_t *c, bool *failed, long nr, uint64_t a, uint64_t b, uint64_t d, uint64_t e);

/** The same in two steps, so that several threads work at once. @return 0, or -1 when the call is not made */
int trace_call_start(trace_call_t *c, long nr, uint64_t a, uint64_t b, uint64_t d, uint64_t e);
int64_t trace_call_finish(trace_call_t *c, bool *failed);

/** Put everything back. @return 0, or -1 when that fails: the thread must not run any more. */
int trace_call_end(trace_call_t *c);

/**
 * A child that trace_call() has made, and that is held: instead of going on where its parent is it will wait for ever
 * in code of ours, all signals blocked, and is let go of.
 * @return 0, or -1 with errno set; the child is to be killed then.
 */
int trace_put_to_sleep(pid_t child, int limit_ms);

#endif /* TRACE_H */
