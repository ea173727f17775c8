/*
 * The helper process: what its two roles share.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef HELPER_H
#define HELPER_H

#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "criu_session.h"
#include "image_stream.h"
#include "util_dir.h"

/*
 * Everything runs on one event loop. CRIU is a process of its own and the images go through non-blocking sockets in
 * pieces of 128 KiB, so a rollback or the end of the control connection is heard at any time, and no thread or lock is
 * needed to cancel anything. Only reading and writing the image files blocks, a piece at a time.
 */

typedef struct helper helper_t;

/** A role: the source or the target of a migration, or one end of the page channel. */
typedef struct {
    /** A command other than rollback. */
    void (*command)(void *self, const char *op, const json_t *msg);
    /** Roll back; nothing when the role has committed or is undoing already. */
    void (*undo)(void *self);
    void (*dispose)(void *self);
    /** Would the daemon start another one if this one was killed now? Then SIGTERM means no more. NULL: it would not.
     */
    bool (*replaceable)(void *self);
} helper_role_t;

/** Send an event (stolen); dropped when the daemon is gone. */
void helper_say(helper_t *h, json_t *event);

/** Say the last word (stolen) and end. Dropped when the last word was said before: a cause may be heard of twice. */
void helper_last_word(helper_t *h, json_t *event, int code);

/** The last word "failed", of roles without a log of CRIU. */
void helper_fail(helper_t *h, const char *stage, const char *message);

/** The last word was said: clean up and let the process end with @p code. The role is disposed of a little later,
 *  never from within this call. */
void helper_end(helper_t *h, int code);

/** Read "secret" and "timeout_ms", which every command that opens has. @return 0, or -1: missing or out of range */
int helper_read_channel(const json_t *msg, image_stream_conf_t *conf);

/** Where CRIU stands. */
typedef enum {
    CRIU_STARTING, /* asked for its version, then probing the kernel; at the source also on its way to the process */
    CRIU_IDLE,     /* waiting for a request */
    CRIU_WORKING,  /* dumping or restoring */
    CRIU_HOLDING,  /* stands still at a notification until we answer: the point of decision */
    CRIU_GONE
} criu_phase_t;

/** What a role ends with when it does not commit. */
typedef struct {
    bool set;
    const char *stage; /* NULL: an ordered rollback */
    bool again;        /* what was in the way is likely to be gone soon */
    char message[640];
} verdict_t;

/** One role's work. The role's struct begins with it. */
typedef struct work work_t;
struct work {
    helper_t *h;
    struct event_base *base;
    const char *log_name;    /* of CRIU, in the directory */
    const char *undone_word; /* event that answers a rollback */
    char *criu;
    int log_level, timeout_ms;
    util_dir_t *dir;
    image_stream_conf_t stream_conf;
    image_stream_t *stream;
    criu_session_t *cs;
    criu_phase_t phase;
    struct event *watchdog;
    uint64_t watched_bytes;
    int64_t allowance_ms;        /* time on top of the limit, for work whose progress cannot be seen */
    void (*on_stuck)(work_t *w); /* CRIU makes no progress */
    bool committed;
    verdict_t verdict;
};

/**
 * Read the members that both open_* have, make the directory and the watchdog.
 * @return 0, or -1 and the verdict is set (nothing is running then).
 */
int work_init(work_t *w, helper_t *h, struct event_base *base, const json_t *msg);

/** Start CRIU and ask for its version. @return 0, or -1 and the verdict is set. */
int work_start_criu(work_t *w, bool sibling, const int *keep, size_t n_keep, const criu_session_ops_t *ops);

/** Is this version good for this kernel? Then let it warm up; else the verdict is set and -1 returned. */
int work_check_version(work_t *w, int major, int minor, int sub);

/** It is warm: it can take a dump or restore. */
void work_criu_ready(work_t *w);

/** Set the verdict unless there is one. @p stage NULL: rollback. @return true when this one was the first. */
bool work_judge(work_t *w, const char *stage, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/** With a verdict set: bring CRIU to its end, however far it is. The end is heard by gone(). */
void work_stop_criu(work_t *w);

/** Say the verdict, with what CRIU's log tells, and end the process. */
void work_close(work_t *w);

/** Call on_stuck() when the images do not grow for the time limit; again and again until work_unwatch(). */
void work_watch(work_t *w);
void work_unwatch(work_t *w);

/** Undo work_init() and what came after; the directory goes too. */
void work_dispose(work_t *w);

/** Begin a role. NULL: the failure has been said and the process ends. */
void *source_new(helper_t *h, struct event_base *base, const json_t *msg, helper_role_t *role);
void *target_new(helper_t *h, struct event_base *base, const json_t *msg, const int *passed, size_t n_passed,
                 helper_role_t *role);
void *serve_new(helper_t *h, struct event_base *base, const json_t *msg, helper_role_t *role);
void *fill_new(helper_t *h, struct event_base *base, const json_t *msg, helper_role_t *role);
void *recover_new(helper_t *h, const json_t *msg, helper_role_t *role);

#endif /* HELPER_H */
