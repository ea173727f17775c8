/*
 * The part of the helper's work that source and target share.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "helper.h"
#include "lpm_criu_rule.h"
#include "lpm_msg.h"

#define TIMEOUT_MIN_MS 100
#define TIMEOUT_MAX_MS (24 * 3600 * 1000)

bool work_judge(work_t *w, const char *stage, const char *fmt, ...)
{
    va_list ap;

    if (w->verdict.set) {
        return false;
    }
    w->verdict.set = true;
    w->verdict.stage = stage;
    va_start(ap, fmt);
    vsnprintf(w->verdict.message, sizeof(w->verdict.message), fmt, ap);
    va_end(ap);
    for (char *c = w->verdict.message; '\0' != *c; c++) {
        *c = ' ' > *c || '~' < *c ? '?' : *c; /* CRIU's texts may hold anything, JSON may not */
    }
    return true;
}

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
    work_t *w = arg;
    bool stuck = util_dir_bytes(w->dir) == w->watched_bytes;

    (void)fd;
    (void)what;
    work_watch(w);
    if (stuck) {
        w->on_stuck(w);
    }
}

void work_watch(work_t *w)
{
    int64_t ms = w->timeout_ms + w->allowance_ms;
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    w->watched_bytes = util_dir_bytes(w->dir);
    if (0 != event_add(w->watchdog, &tv)) {
        /* out of memory: the work goes on without its time limit */
        fprintf(stderr, "lpm-helper: no time limit: out of memory\n");
    }
}

void work_unwatch(work_t *w)
{
    event_del(w->watchdog);
}

int helper_read_channel(const json_t *msg, image_stream_conf_t *conf)
{
    int64_t timeout;

    if (0 != lpm_msg_int(msg, "timeout_ms", TIMEOUT_MIN_MS, TIMEOUT_MAX_MS, &timeout) ||
        0 != image_auth_key(lpm_msg_str(msg, "secret"), conf->key)) {
        return -1;
    }
    conf->stall_ms = (int)timeout;
    return 0;
}

static int read_conf(work_t *w, const json_t *msg)
{
    int64_t level;
    const char *criu = lpm_msg_str(msg, "criu");

    if (NULL == criu || '/' != criu[0]) {
        (void)work_judge(w, "open", "\"criu\" is to be an absolute path");
        return -1;
    }
    if (0 != lpm_msg_int(msg, "log_level", 0, 4, &level) || 0 != helper_read_channel(msg, &w->stream_conf)) {
        (void)work_judge(
            w, "open",
            "\"log_level\", \"timeout_ms\" or \"secret\" (64 hexadecimal digits) is missing or out of range");
        return -1;
    }
    w->log_level = (int)level;
    w->timeout_ms = w->stream_conf.stall_ms;
    w->criu = strdup(criu);
    return NULL == w->criu ? -1 : 0;
}

int work_init(work_t *w, helper_t *h, struct event_base *base, const json_t *msg)
{
    const char *path = lpm_msg_str(msg, "dir");

    w->h = h;
    w->base = base;
    w->phase = CRIU_GONE;
    if (0 != read_conf(w, msg)) {
        (void)work_judge(w, "open", "out of memory");
        return -1;
    }
    w->watchdog = event_new(base, -1, 0, on_watchdog, w);
    if (NULL == w->watchdog) {
        (void)work_judge(w, "open", "out of memory");
        return -1;
    }
    w->dir = NULL == path ? NULL : util_dir_create(path);
    if (NULL == w->dir) {
        (void)work_judge(w, "open", "cannot create the directory of the images, %s: %s",
                         NULL == path ? "(no \"dir\")" : path, strerror(NULL == path ? EINVAL : errno));
        return -1;
    }
    w->stream_conf.dir_fd = util_dir_fd(w->dir);
    return 0;
}

/* Said before anything of the job is touched: without it CRIU fails only when the rank is to be frozen. */
static bool privileged(void)
{
    static const cap_value_t needed[] = {CAP_SYS_ADMIN, CAP_SYS_PTRACE};
    cap_t caps = cap_get_proc();
    bool all = (NULL != caps);

    for (size_t i = 0; all && i < sizeof(needed) / sizeof(needed[0]); ++i) {
        cap_flag_value_t value = CAP_CLEAR;

        all = 0 == cap_get_flag(caps, needed[i], CAP_EFFECTIVE, &value) && CAP_SET == value;
    }
    cap_free(caps);
    return all;
}

int work_start_criu(work_t *w, bool sibling, const int *keep, size_t n_keep, const criu_session_ops_t *ops)
{
    if (!privileged()) {
        (void)work_judge(w, "open",
                         "user %u may not dump or restore processes (CAP_SYS_ADMIN and CAP_SYS_PTRACE are "
                         "needed): in this version mpirun has to be started by root",
                         (unsigned)geteuid());
        return -1;
    }
    w->cs = criu_session_new(w->base, w->criu, sibling, keep, n_keep, ops, w);
    if (NULL == w->cs) {
        (void)work_judge(w, "open", "cannot start CRIU as %s: %s", w->criu, strerror(errno));
        return -1;
    }
    w->phase = CRIU_STARTING;
    work_watch(w);
    if (0 != criu_session_ask_version(w->cs)) {
        (void)work_judge(w, "open", "%s does not take a request: is it CRIU?", w->criu);
        return -1;
    }
    return 0;
}

int work_check_version(work_t *w, int major, int minor, int sub)
{
    struct utsname u;
    char why[512];

    if (0 != uname(&u)) {
        (void)work_judge(w, "open", "uname: %s", strerror(errno));
        return -1;
    }
    if (0 != lpm_criu_rule_check(major, minor, sub, u.release, why, sizeof(why))) {
        (void)work_judge(w, "open", "%s", why);
        return -1;
    }
    if (0 != criu_session_warm_up(w->cs)) {
        (void)work_judge(w, "open", "CRIU does not take a request");
        return -1;
    }
    return 0;
}

void work_criu_ready(work_t *w)
{
    w->phase = CRIU_IDLE;
    work_unwatch(w);
}

void work_stop_criu(work_t *w)
{
    image_stream_free(w->stream);
    w->stream = NULL;
    if (CRIU_GONE == w->phase) {
        return;
    }
    work_watch(w);
    if (CRIU_STARTING == w->phase || CRIU_IDLE == w->phase) {
        criu_session_hang_up(w->cs);
    } else if (CRIU_HOLDING == w->phase) {
        w->phase = CRIU_WORKING;
        if (0 != criu_session_answer(w->cs, false)) {
            criu_session_hang_up(w->cs); /* for CRIU the same as an answer of no */
        }
    }
    /* WORKING: killing it could leave the process it works on half-way, so it hears of it at its next notification */
}

void work_close(work_t *w)
{
    json_t *event;
    char *detail;

    if (NULL == w->verdict.stage) {
        helper_last_word(w->h, json_pack("{s:s}", "event", w->undone_word), 0);
        return;
    }
    detail = NULL == w->dir ? NULL : util_dir_log_errors(w->dir, w->log_name);
    event = json_pack("{s:s,s:s,s:s,s:s,s:b}", "event", "failed", "stage", w->verdict.stage, "message",
                      w->verdict.message, "detail", NULL == detail ? "" : detail, "again", w->verdict.again);
    free(detail);
    helper_last_word(w->h, event, 1);
}

void work_dispose(work_t *w)
{
    image_stream_free(w->stream);
    criu_session_free(w->cs);
    util_dir_dispose(w->dir);
    if (NULL != w->watchdog) {
        event_free(w->watchdog);
    }
    image_auth_wipe(w->stream_conf.key, sizeof(w->stream_conf.key));
    free(w->criu);
}
