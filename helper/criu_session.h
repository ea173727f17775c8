/*
 * A conversation with one CRIU worker process, on the event loop.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef CRIU_SESSION_H
#define CRIU_SESSION_H

#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct criu_session criu_session_t;

/** What CRIU says. Everything runs on the event loop's thread; no callback may free the session but gone(). */
typedef struct {
    /** Answer to criu_session_ask_version(). */
    void (*version)(int major, int minor, int sub, void *arg);
    /** Answer to criu_session_warm_up(). */
    void (*warm)(void *arg);
    /** CRIU stands still at @p script until criu_session_answer(). @p pid is 0 when it did not say one. */
    void (*notify)(const char *script, pid_t pid, void *arg);
    /** The dump or restore has ended. @p pid: the restored process, else 0. @p text may be NULL. */
    void (*done)(bool success, pid_t pid, const char *text, void *arg);
    /** The process has ended, with or without a word before. The last callback. */
    void (*gone)(void *arg);
} criu_session_ops_t;

/** What a dump or a restore is given; all borrowed for the time of the call. */
typedef struct {
    int dir_fd;
    int log_level;
    pid_t pid;               /* dump: the process; restore: 0 */
    const json_t *externals; /* dump: array of strings, or NULL */
    const json_t *inherit;   /* restore: array of {"key":string,"fd":int}, or NULL; the caller has checked it */
} criu_job_t;

/**
 * Start a CRIU worker. For @p sibling and @p keep see criu_spawn().
 * @return NULL with errno set.
 */
criu_session_t *criu_session_new(struct event_base *base, const char *program, bool sibling, const int *keep,
                                 size_t n_keep, const criu_session_ops_t *ops, void *arg);

/** Requests: 0, or -1 when the socket does not take it (the process is ending: gone() follows). */
int criu_session_ask_version(criu_session_t *cs);
/** Let CRIU probe the kernel, which takes it some 30 ms once per boot where its /run is a tmpfs. */
int criu_session_warm_up(criu_session_t *cs);
int criu_session_dump(criu_session_t *cs, const criu_job_t *job);
int criu_session_restore(criu_session_t *cs, const criu_job_t *job);
int criu_session_answer(criu_session_t *cs, bool success);

/** Take away its socket: an idle worker ends by itself. gone() follows. */
void criu_session_hang_up(criu_session_t *cs);

/** SIGKILL; gone() follows. */
void criu_session_kill(criu_session_t *cs);

/** Free; a worker that still runs sees the end of its socket. NULL is accepted. */
void criu_session_free(criu_session_t *cs);

#endif /* CRIU_SESSION_H */
