/*
 * The helper at the source: freeze the process, send its images, let it die or run on.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper.h"
#include "holder.h"
#include "image_net.h"
#include "lpm_children.h"
#include "lpm_msg.h"
#include "util_proc.h"

typedef enum { SRC_OPENING, SRC_OPEN, SRC_FREEZING, SRC_SENDING, SRC_SENT } source_state_t;

static const char *const stage_of[] = {"connect", "freeze", "freeze", "send", "send"};

typedef struct {
    work_t w;
    source_state_t state;
    pid_t pid;
    int pidfd;
    json_t *addrs, *externals;
    image_connector_t *connector;
    double since;     /* freeze was ordered */
    int64_t least;    /* bytes from which on memory follows later; 0: none does */
    vma_list_t known; /* the process' mappings as they were before */
    holder_t holder;
} source_t;

/* CRIU has let the process go. With its memory in a holder it stands still, and is made whole before it runs on. */
static void close_undone(source_t *s)
{
    if (s->holder.stopped && 0 != holder_give_back(&s->holder, s->pid)) {
        s->w.verdict.stage = "freeze";
        snprintf(s->w.verdict.message, sizeof(s->w.verdict.message),
                 "the rank has lost its memory and was killed: the process that held it is gone");
    }
    work_close(&s->w);
}

/* The verdict stands: CRIU lets the process run on, then we say it. */
static void wind_up(source_t *s)
{
    image_connector_free(s->connector);
    s->connector = NULL;
    work_stop_criu(&s->w);
    if (CRIU_GONE == s->w.phase) {
        close_undone(s);
    }
}

#define SOURCE_FAIL(s, stage, ...)                                                                                     \
    do {                                                                                                               \
        if (work_judge(&(s)->w, (stage), __VA_ARGS__)) {                                                               \
            wind_up(s);                                                                                                \
        }                                                                                                              \
    } while (0)

static void source_undo(void *self)
{
    source_t *s = self;

    if (!s->w.committed && work_judge(&s->w, NULL, "rollback")) {
        wind_up(s);
    }
}

/* CRIU waits in front of the process. */
static void opened_when_complete(source_t *s)
{
    if (SRC_OPENING == s->state && CRIU_HOLDING == s->w.phase && NULL != s->w.stream) {
        s->state = SRC_OPEN;
        helper_say(s->w.h, json_pack("{s:s}", "event", "opened"));
    }
}

static void on_stuck(work_t *w)
{
    source_t *s = (source_t *)w;

    if (w->verdict.set || w->committed) {
        /* Last resort. CRIU's code inside the process puts it right by itself when CRIU is gone. */
        criu_session_kill(w->cs);
        return;
    }
    SOURCE_FAIL(s, CRIU_STARTING == w->phase ? "open" : "freeze", "CRIU made no progress for %d ms", w->timeout_ms);
}

/* ---- images ---- */

static void on_sent(image_stream_t *st, const image_summary_t *sum, void *arg)
{
    source_t *s = arg;

    (void)st;
    s->state = SRC_SENT;
    helper_say(s->w.h, json_pack("{s:s,s:I,s:f}", "event", "sent", "bytes", (json_int_t)sum->bytes, "ms", sum->ms));
}

static void on_stream_failed(image_stream_t *st, const char *why, void *arg)
{
    source_t *s = arg;

    (void)st;
    SOURCE_FAIL(s, SRC_SENDING == s->state ? "send" : "connect", "%s", why);
}

static void on_connected(image_stream_t *st, void *arg)
{
    static const image_stream_cbs_t cbs = {.done = on_sent, .failed = on_stream_failed};
    source_t *s = arg;

    image_stream_set_cbs(st, &cbs, s);
    s->w.stream = st;
    image_connector_free(s->connector);
    s->connector = NULL;
    opened_when_complete(s);
}

static void on_not_connected(const char *why, void *arg)
{
    source_t *s = arg;

    SOURCE_FAIL(s, "connect", "%s", why);
}

/* ---- CRIU ---- */

static void on_version(int major, int minor, int sub, void *arg)
{
    source_t *s = arg;

    if (s->w.verdict.set) {
        return;
    }
    if (0 != work_check_version(&s->w, major, minor, sub)) {
        wind_up(s);
    }
}

static void on_warm(void *arg)
{
    source_t *s = arg;

    if (s->w.verdict.set) {
        return;
    }
    /* it looks at the machine first, and asks before it touches the process: so much is not done while that is frozen */
    if (0 != criu_session_dump(s->w.cs, &(criu_job_t){.dir_fd = util_dir_fd(s->w.dir),
                                                      .log_level = s->w.log_level,
                                                      .pid = s->pid,
                                                      .externals = s->externals})) {
        SOURCE_FAIL(s, "open", "CRIU does not take the request");
    }
}

static void on_frozen(source_t *s)
{
    s->w.phase = CRIU_HOLDING;
    work_unwatch(&s->w);
    helper_say(s->w.h, json_pack("{s:s,s:f,s:I}", "event", "frozen", "ms", util_now_ms() - s->since, "image_bytes",
                                 (json_int_t)util_dir_bytes(s->w.dir)));
    s->state = SRC_SENDING;
    if (0 != image_stream_send(s->w.stream, s->pid)) {
        SOURCE_FAIL(s, "send", "cannot read the images: %s", strerror(errno));
    }
}

static void on_notify(const char *script, pid_t pid, void *arg)
{
    source_t *s = arg;

    (void)pid;
    if (!s->w.verdict.set && SRC_OPENING == s->state && 0 == strcmp(script, "pre-dump")) {
        s->w.phase = CRIU_HOLDING;
        work_unwatch(&s->w);
        opened_when_complete(s);
        return;
    }
    if (!s->w.verdict.set && 0 == strcmp(script, "post-dump")) {
        on_frozen(s);
        return;
    }
    if (0 != criu_session_answer(s->w.cs, !s->w.verdict.set)) {
        criu_session_hang_up(s->w.cs);
    }
}

static void on_done(bool success, pid_t pid, const char *text, void *arg)
{
    source_t *s = arg;

    (void)pid;
    (void)text; /* CRIU's first error, often a harmless one: the last ones in its log tell more */
    if (s->w.committed) {
        return; /* the process is dead or will be: on_gone() sees to it */
    }
    SOURCE_FAIL(s, SRC_OPENING == s->state ? "open" : "freeze", "CRIU could not dump process %d%s", (int)s->pid,
                success ? " (it ended the dump by itself)" : "");
}

static void on_gone(void *arg)
{
    source_t *s = arg;

    s->w.phase = CRIU_GONE;
    work_unwatch(&s->w);
    if (s->w.committed) {
        if (!util_pidfd_ended(s->pidfd)) {
            util_pidfd_kill(s->pidfd); /* after the commit it must never run again, whatever CRIU did */
        }
        helper_last_word(s->w.h, json_pack("{s:s}", "event", "closed"), 0);
        return;
    }
    (void)work_judge(&s->w, SRC_OPENING == s->state ? "open" : stage_of[s->state], "CRIU (%s) ended without an answer",
                     s->w.criu);
    image_connector_free(s->connector);
    s->connector = NULL;
    close_undone(s);
}

/* ---- commands ---- */

/* The rank becomes a skeleton. @return false when it is lost */
static bool make_holder(source_t *s)
{
    const double since = util_now_ms();
    const char *why = NULL;
    json_t *ranges;

    if (0 != holder_make(&s->holder, s->pid, &s->known, (uint64_t)s->least, s->w.timeout_ms, &why)) {
        SOURCE_FAIL(s, "freeze", "process %d did not do what it was made to, and was killed", (int)s->pid);
        return false;
    }
    ranges = pages_ranges_json(&s->holder.ranges);
    helper_say(s->w.h, json_pack("{s:s,s:i,s:b,s:o,s:O,s:f,s:s*}", "event", "emptied", "holder", (int)s->holder.pid,
                                 "stopped", s->holder.stopped, "ranges", ranges, "kept", s->holder.kept, "ms",
                                 util_now_ms() - since, "why", why));
    return true;
}

static void source_freeze(source_t *s)
{
    char why[160];

    if (lpm_child_in_the_way(s->pid, why, sizeof(why))) {
        s->w.verdict.again = true;
        SOURCE_FAIL(s, "freeze", "%s", why);
        return;
    }
    s->since = util_now_ms();
    s->state = SRC_FREEZING;
    if (0 < s->least && !make_holder(s)) {
        return;
    }
    s->w.phase = CRIU_WORKING;
    work_watch(&s->w);
    if (0 != criu_session_answer(s->w.cs, true)) {
        SOURCE_FAIL(s, "freeze", "CRIU is gone");
    }
}

static void source_commit(source_t *s)
{
    s->w.committed = true;
    s->w.phase = CRIU_WORKING;
    work_watch(&s->w);
    if (0 != criu_session_answer(s->w.cs, true)) {
        criu_session_kill(s->w.cs); /* it is dying already; on_gone() ends the process in its place */
    }
}

static void source_command(void *self, const char *op, const json_t *msg)
{
    source_t *s = self;

    (void)msg;
    if (s->w.verdict.set || s->w.committed) {
        return; /* the answer to everything is under way */
    }
    if (0 == strcmp(op, "freeze") && SRC_OPEN == s->state) {
        source_freeze(s);
    } else if (0 == strcmp(op, "commit") && SRC_SENT == s->state) {
        source_commit(s);
    } else {
        SOURCE_FAIL(s, stage_of[s->state], "command \"%s\" out of turn", op);
    }
}

static void source_dispose(void *self)
{
    source_t *s = self;

    image_connector_free(s->connector);
    work_dispose(&s->w);
    holder_leave(&s->holder);
    vma_free(&s->known);
    json_decref(s->addrs);
    json_decref(s->externals);
    if (0 <= s->pidfd) {
        close(s->pidfd);
    }
    free(s);
}

static int read_externals(source_t *s, const json_t *msg)
{
    const json_t *one;
    size_t i;

    s->externals = json_incref(json_object_get(msg, "externals"));
    json_array_foreach(s->externals, i, one) {
        if (!json_is_string(one)) {
            (void)work_judge(&s->w, "open", "\"externals\" is to be an array of strings");
            return -1;
        }
    }
    return 0;
}

/* Everything that opening needs; -1 and the verdict is set. */
static int open_all(source_t *s, helper_t *h, struct event_base *base, const json_t *msg)
{
    static const criu_session_ops_t ops = {on_version, on_warm, on_notify, on_done, on_gone};
    static const image_net_cbs_t net = {on_connected, on_not_connected};
    int64_t pid, port;

    if (0 != work_init(&s->w, h, base, msg) || 0 != read_externals(s, msg)) {
        return -1;
    }
    if (0 != lpm_msg_int(msg, "pid", 2, INT_MAX, &pid) || 0 != lpm_msg_int(msg, "peer_port", 1, 65535, &port)) {
        (void)work_judge(&s->w, "open", "\"pid\" or \"peer_port\" is missing or out of range");
        return -1;
    }
    (void)lpm_msg_int(msg, "lazy_least", 0, INT64_MAX, &s->least); /* left out: nothing follows later */
    s->pid = (pid_t)pid;
    s->pidfd = util_pidfd_open(s->pid);
    if (0 > s->pidfd) {
        (void)work_judge(&s->w, "open", "process %d: %s", (int)s->pid, strerror(errno));
        return -1;
    }
    if (0 < s->least && 0 != holder_look(s->pid, &s->known)) {
        (void)work_judge(&s->w, "open", "the memory of process %d: %s", (int)s->pid, strerror(errno));
        return -1;
    }
    s->addrs = json_incref(json_object_get(msg, "peer_addrs"));
    s->connector = image_connector_new(base, s->addrs, (int)port, s->w.timeout_ms, &s->w.stream_conf, &net, s);
    if (NULL == s->connector) {
        (void)work_judge(&s->w, "connect", "%s", strerror(errno));
        return -1;
    }
    return work_start_criu(&s->w, false, NULL, 0, &ops);
}

void *source_new(helper_t *h, struct event_base *base, const json_t *msg, helper_role_t *role)
{
    source_t *s = calloc(1, sizeof(*s));

    if (NULL == s) {
        return NULL;
    }
    s->pidfd = s->holder.pidfd = -1;
    s->w.log_name = "dump.log";
    s->w.undone_word = "thawed";
    s->w.on_stuck = on_stuck;
    *role = (helper_role_t){source_command, source_undo, source_dispose, NULL};
    if (0 != open_all(s, h, base, msg)) {
        wind_up(s);
    }
    return s;
}
