/*
 * The helper at the target: take the images, restore the process, let it run or kill it.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper.h"
#include "image_net.h"
#include "lpm_msg.h"
#include "trace.h"
#include "util_proc.h"

typedef enum { TGT_OPENING, TGT_OPEN, TGT_RECEIVED, TGT_RESTORING, TGT_RESTORED } target_state_t;

static const char *const stage_of[] = {"connect", "receive", "restore", "restore", "restore"};

typedef struct {
    work_t w;
    target_state_t state;
    image_listener_t *listener;
    const int *passed; /* descriptors that the daemon gave us for the restored process */
    size_t n_passed;
    json_t *inherit; /* of the restore command, NULL before it */
    pid_t pid;       /* of the process, known when the images have come */
    bool ran;        /* the last word was "running" */
    bool stopped;    /* it was dumped as stopped, since its memory follows, and is restored so */
    int copy;        /* pidfd of the restored process when it is to die, else -1 */
    struct event *ev_copy;
    double since;
} target_t;

static void on_copy_dead(evutil_socket_t fd, short what, void *arg)
{
    target_t *t = arg;

    (void)fd;
    (void)what;
    work_close(&t->w);
}

/*
 * CRIU kills what it restored when it fails, but not when it is killed itself. Before the restore the process id was
 * free, and what CRIU restores is our parent's child: so this child of our parent is the copy.
 */
static void bury_copy(target_t *t)
{
    if (TGT_RESTORING <= t->state && 0 > t->copy && util_parent_of(t->pid) == getppid()) {
        t->copy = util_pidfd_open(t->pid);
    }
    if (0 <= t->copy && !util_pidfd_ended(t->copy)) {
        util_pidfd_kill(t->copy);
        t->ev_copy = event_new(t->w.base, t->copy, EV_READ, on_copy_dead, t);
        if (NULL != t->ev_copy && 0 == event_add(t->ev_copy, NULL)) {
            return;
        }
    }
    work_close(&t->w);
}

/* The verdict stands: no copy may be left, then we say it. */
static void wind_up(target_t *t)
{
    image_listener_free(t->listener);
    t->listener = NULL;
    work_stop_criu(&t->w);
    if (CRIU_GONE == t->w.phase) {
        bury_copy(t);
    }
}

#define TARGET_FAIL(t, stage, ...)                                                                                     \
    do {                                                                                                               \
        if (work_judge(&(t)->w, (stage), __VA_ARGS__)) {                                                               \
            wind_up(t);                                                                                                \
        }                                                                                                              \
    } while (0)

static void target_undo(void *self)
{
    target_t *t = self;

    if (!t->w.committed && work_judge(&t->w, NULL, "rollback")) {
        wind_up(t);
    }
}

static void opened_when_complete(target_t *t)
{
    if (TGT_OPENING == t->state && CRIU_IDLE == t->w.phase && NULL != t->w.stream) {
        t->state = TGT_OPEN;
        helper_say(t->w.h, json_pack("{s:s}", "event", "opened"));
    }
}

static void on_stuck(work_t *w)
{
    target_t *t = (target_t *)w;

    if (w->verdict.set || w->committed) {
        criu_session_kill(w->cs); /* the copy is killed next, so it does no harm that it is half-way */
        return;
    }
    TARGET_FAIL(t, CRIU_STARTING == w->phase ? "open" : "restore", "CRIU made no progress for %d ms", w->timeout_ms);
}

/* ---- restore ---- */

/* far below what any node's memory does: 20 MB/s */
#define RESTORE_BYTES_PER_MS 20000

static void restore_when_complete(target_t *t)
{
    criu_job_t job = {.dir_fd = util_dir_fd(t->w.dir), .log_level = t->w.log_level, .inherit = t->inherit};
    int other;

    if (TGT_RECEIVED != t->state || NULL == t->inherit || CRIU_IDLE != t->w.phase) {
        return;
    }
    other = util_pidfd_open(t->pid);
    if (0 <= other || ESRCH != errno) {
        if (0 <= other) {
            close(other);
        }
        TARGET_FAIL(t, "restore", "process id %d is taken on this node", (int)t->pid);
        return;
    }
    t->state = TGT_RESTORING;
    t->w.phase = CRIU_WORKING;
    t->since = util_now_ms();
    t->w.allowance_ms = (int64_t)(util_dir_bytes(t->w.dir) / RESTORE_BYTES_PER_MS); /* a restore only reads */
    work_watch(&t->w);
    if (0 != criu_session_restore(t->w.cs, &job)) {
        TARGET_FAIL(t, "restore", "CRIU does not take the request");
    }
}

static void on_restored(target_t *t, pid_t pid)
{
    t->w.phase = CRIU_HOLDING;
    work_unwatch(&t->w);
    if (pid != t->pid) {
        TARGET_FAIL(t, "restore", "CRIU restored process %d instead of %d", (int)pid, (int)t->pid);
        return;
    }
    t->copy = util_pidfd_open(pid);
    if (0 > t->copy) {
        TARGET_FAIL(t, "restore", "the restored process %d: %s", (int)pid, strerror(errno));
        return;
    }
    t->state = TGT_RESTORED;
    helper_say(t->w.h,
               json_pack("{s:s,s:i,s:f}", "event", "restored", "pid", (int)pid, "ms", util_now_ms() - t->since));
}

/* ---- CRIU ---- */

static void on_version(int major, int minor, int sub, void *arg)
{
    target_t *t = arg;

    if (t->w.verdict.set) {
        return;
    }
    if (0 != work_check_version(&t->w, major, minor, sub)) {
        wind_up(t);
    }
}

static void on_warm(void *arg)
{
    target_t *t = arg;

    if (!t->w.verdict.set) {
        work_criu_ready(&t->w);
        opened_when_complete(t);
    }
}

static void on_notify(const char *script, pid_t pid, void *arg)
{
    target_t *t = arg;

    if (!t->w.verdict.set && !t->w.committed && 0 == strcmp(script, "post-restore")) {
        on_restored(t, pid);
        return;
    }
    if (0 != criu_session_answer(t->w.cs, !t->w.verdict.set)) {
        criu_session_hang_up(t->w.cs);
    }
}

static void on_done(bool success, pid_t pid, const char *text, void *arg)
{
    target_t *t = arg;

    (void)pid;
    (void)text; /* CRIU's first error, often a harmless one: the last ones in its log tell more */
    if (success && t->w.committed && !t->w.verdict.set) {
        if (t->stopped) {
            trace_cont(t->pid);
        }
        t->ran = true;
        helper_say(t->w.h, json_pack("{s:s,s:i}", "event", "running", "pid", (int)t->pid));
        return;
    }
    TARGET_FAIL(t, "restore", "CRIU could not restore process %d", (int)t->pid);
}

static void on_gone(void *arg)
{
    target_t *t = arg;

    t->w.phase = CRIU_GONE;
    work_unwatch(&t->w);
    if (t->ran) {
        helper_end(t->w.h, 0);
        return;
    }
    (void)work_judge(&t->w, TGT_OPENING == t->state ? "open" : stage_of[t->state], "CRIU (%s) ended without an answer",
                     t->w.criu);
    wind_up(t);
}

/* ---- images ---- */

static void on_received(image_stream_t *st, const image_summary_t *sum, void *arg)
{
    target_t *t = arg;

    (void)st;
    t->pid = sum->pid;
    t->state = TGT_RECEIVED;
    helper_say(t->w.h, json_pack("{s:s,s:I,s:f}", "event", "received", "bytes", (json_int_t)sum->bytes, "ms", sum->ms));
    restore_when_complete(t);
}

static void on_stream_failed(image_stream_t *st, const char *why, void *arg)
{
    target_t *t = arg;

    (void)st;
    TARGET_FAIL(t, stage_of[t->state], "%s", why);
}

static void on_connected(image_stream_t *st, void *arg)
{
    static const image_stream_cbs_t cbs = {.done = on_received, .failed = on_stream_failed};
    target_t *t = arg;

    image_stream_set_cbs(st, &cbs, t);
    t->w.stream = st;
    image_listener_free(t->listener);
    t->listener = NULL;
    opened_when_complete(t);
}

static void on_not_connected(const char *why, void *arg)
{
    target_t *t = arg;

    TARGET_FAIL(t, "connect", "%s", why);
}

/* ---- commands ---- */

static bool was_passed(const target_t *t, json_int_t fd)
{
    for (size_t i = 0; i < t->n_passed; i++) {
        if (t->passed[i] == fd) {
            return true;
        }
    }
    return false;
}

static void target_restore(target_t *t, const json_t *msg)
{
    json_t *inherit = json_object_get(msg, "inherit"), *one;
    size_t i;

    if (!json_is_array(inherit)) {
        TARGET_FAIL(t, "restore", "\"inherit\" is to be an array");
        return;
    }
    json_array_foreach(inherit, i, one) {
        json_t *fd = json_object_get(one, "fd");

        if (NULL == lpm_msg_str(one, "key") || !json_is_integer(fd) || !was_passed(t, json_integer_value(fd))) {
            TARGET_FAIL(t, "restore", "\"inherit\" number %zu does not name a descriptor that was passed", i);
            return;
        }
    }
    t->inherit = json_incref(inherit);
    restore_when_complete(t);
}

static void target_commit(target_t *t, const json_t *msg)
{
    t->stopped = lpm_msg_true(msg, "stopped");
    t->w.committed = true;
    t->w.phase = CRIU_WORKING;
    work_watch(&t->w);
    if (0 != criu_session_answer(t->w.cs, true)) {
        criu_session_kill(t->w.cs);
    }
}

static void target_command(void *self, const char *op, const json_t *msg)
{
    target_t *t = self;

    if (t->w.verdict.set || t->w.committed) {
        return; /* the answer to everything is under way */
    }
    if (0 == strcmp(op, "restore") && NULL == t->inherit && TGT_OPENING != t->state) {
        target_restore(t, msg);
    } else if (0 == strcmp(op, "commit") && TGT_RESTORED == t->state) {
        target_commit(t, msg);
    } else {
        TARGET_FAIL(t, stage_of[t->state], "command \"%s\" out of turn", op);
    }
}

static void target_dispose(void *self)
{
    target_t *t = self;

    image_listener_free(t->listener);
    work_dispose(&t->w);
    json_decref(t->inherit);
    if (NULL != t->ev_copy) {
        event_free(t->ev_copy);
    }
    if (0 <= t->copy) {
        close(t->copy);
    }
    free(t);
}

/* Everything that opening needs; -1 and the verdict is set. */
static int open_all(target_t *t, helper_t *h, struct event_base *base, const json_t *msg)
{
    static const criu_session_ops_t ops = {on_version, on_warm, on_notify, on_done, on_gone};
    static const image_net_cbs_t net = {on_connected, on_not_connected};
    int port = 0;

    if (0 != work_init(&t->w, h, base, msg)) {
        return -1;
    }
    t->listener = image_listener_new(base, json_object_get(msg, "listen_addrs"), t->w.timeout_ms, &t->w.stream_conf,
                                     &net, t, &port);
    if (NULL == t->listener) {
        (void)work_judge(&t->w, "connect", "cannot listen: %s", strerror(errno));
        return -1;
    }
    if (0 != work_start_criu(&t->w, true, t->passed, t->n_passed, &ops)) {
        return -1;
    }
    helper_say(h, json_pack("{s:s,s:i}", "event", "listening", "port", port));
    return 0;
}

void *target_new(helper_t *h, struct event_base *base, const json_t *msg, const int *passed, size_t n_passed,
                 helper_role_t *role)
{
    target_t *t = calloc(1, sizeof(*t));

    if (NULL == t) {
        return NULL;
    }
    t->copy = -1;
    t->passed = passed;
    t->n_passed = n_passed;
    t->w.log_name = "restore.log";
    t->w.undone_word = "discarded";
    t->w.on_stuck = on_stuck;
    *role = (helper_role_t){target_command, target_undo, target_dispose, NULL};
    if (0 != open_all(t, h, base, msg)) {
        wind_up(t);
    }
    return t;
}
