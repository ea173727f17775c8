/*
 * lpm-helper: the worker of one migration on one node, driven by the daemon that started it.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include "helper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lpm_conn.h"
#include "lpm_msg.h"
#include "util_proc.h"

#define PASSED_MAX 64

struct helper {
    struct event_base *base;
    lpm_conn_t *conn; /* NULL when the daemon is gone */
    struct event *ev_term, *ev_end;
    int passed[PASSED_MAX];
    size_t n_passed;
    helper_role_t role;
    void *self;
    bool ending;
    int code;
};

void helper_say(helper_t *h, json_t *event)
{
    if (NULL == h->conn) {
        json_decref(event);
        return;
    }
    if (0 != lpm_conn_send(h->conn, event)) {
        /* out of memory or a dead connection: the daemon takes our end for the answer */
        fprintf(stderr, "lpm-helper: an event could not be sent\n");
    }
}

/* Everything that keeps the loop running goes away; queued words are still written. */
static void on_ending(evutil_socket_t fd, short what, void *arg)
{
    helper_t *h = arg;

    (void)fd;
    (void)what;
    util_give_way(0); /* all is said; the rank is about to go on */
    if (NULL != h->self) {
        h->role.dispose(h->self);
        h->self = NULL;
    }
    event_del(h->ev_term);
    if (NULL != h->conn) {
        lpm_conn_finish(h->conn);
        h->conn = NULL;
    }
}

void helper_end(helper_t *h, int code)
{
    if (!h->ending) {
        h->ending = true;
        h->code = code;
        event_active(h->ev_end, EV_TIMEOUT, 0);
    }
}

void helper_last_word(helper_t *h, json_t *event, int code)
{
    if (h->ending) {
        json_decref(event);
        return;
    }
    helper_say(h, event);
    helper_end(h, code);
}

void helper_fail(helper_t *h, const char *stage, const char *message)
{
    helper_last_word(
        h, json_pack("{s:s,s:s,s:s,s:s}", "event", "failed", "stage", stage, "message", message, "detail", ""), 1);
}

static void undo(helper_t *h)
{
    if (h->ending) {
        return;
    }
    if (NULL == h->self) {
        helper_fail(h, "open", "nothing was opened");
        return;
    }
    h->role.undo(h->self);
}

/* The first command tells the role. */
static void take_role(helper_t *h, const char *op, const json_t *msg)
{
    if (0 == strcmp(op, "open_source")) {
        h->self = source_new(h, h->base, msg, &h->role);
    } else if (0 == strcmp(op, "open_target")) {
        h->self = target_new(h, h->base, msg, h->passed, h->n_passed, &h->role);
    } else if (0 == strcmp(op, "open_serve")) {
        h->self = serve_new(h, h->base, msg, &h->role);
    } else if (0 == strcmp(op, "open_fill")) {
        h->self = fill_new(h, h->base, msg, &h->role);
    } else if (0 == strcmp(op, "recover")) {
        h->self = recover_new(h, msg, &h->role);
    } else {
        helper_fail(h, "open", "the first command is to be open_source, open_target, open_serve, open_fill or recover");
        return;
    }
    if (NULL == h->self) {
        helper_fail(h, "open", "out of memory");
    }
}

static void on_message(lpm_conn_t *conn, json_t *msg, void *arg)
{
    helper_t *h = arg;
    const char *op = lpm_msg_str(msg, "op");

    (void)conn;
    if (h->ending) {
        return;
    }
    op = NULL == op ? "" : op;
    if (0 == strcmp(op, "rollback")) {
        undo(h);
    } else if (NULL != h->self) {
        h->role.command(h->self, op, msg);
    } else {
        take_role(h, op, msg);
    }
}

static void on_control_end(lpm_conn_t *conn, const char *why, void *arg)
{
    helper_t *h = arg;

    (void)why; /* orderly or not: the daemon cannot be asked any more */
    lpm_conn_free(conn);
    h->conn = NULL;
    undo(h);
}

static void on_term(evutil_socket_t sig, short what, void *arg)
{
    helper_t *h = arg;

    (void)sig;
    (void)what;
    if (!h->ending && NULL != h->self && NULL != h->role.replaceable && h->role.replaceable(h->self)) {
        _exit(1); /* without a last word */
    }
    undo(h);
}

/* What we were given beside the control socket is for the restored process; what we open ourselves is close-on-exec. */
static int note_passed(helper_t *h, int control)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *e;

    if (NULL == d) {
        return -1;
    }
    while (NULL != (e = readdir(d))) {
        int fd = atoi(e->d_name);

        if ('.' == e->d_name[0] || 3 > fd || fd == control || fd == dirfd(d)) {
            continue;
        }
        if (PASSED_MAX == h->n_passed) {
            closedir(d);
            errno = EMFILE;
            return -1;
        }
        h->passed[h->n_passed++] = fd;
    }
    closedir(d);
    return 0;
}

static int control_option(int argc, char **argv)
{
    static const struct option options[] = {{"fd", required_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
    char *end = NULL;
    long fd = -1;
    int c;

    while (-1 != (c = getopt_long(argc, argv, "", options, NULL))) {
        if ('f' != c) {
            return -1;
        }
        errno = 0;
        fd = strtol(optarg, &end, 10);
        if (0 != errno || '\0' != *end || 0 > fd || 0 > fcntl((int)fd, F_GETFD)) {
            return -1;
        }
    }
    return argc == optind && 0 <= fd ? (int)fd : -1;
}

static int start(helper_t *h, int control)
{
    h->base = event_base_new();
    if (NULL == h->base) {
        return -1;
    }
    h->ev_term = evsignal_new(h->base, SIGTERM, on_term, h);
    h->ev_end = event_new(h->base, -1, 0, on_ending, h);
    h->conn = lpm_conn_new(h->base, control, on_message, on_control_end, h);
    return NULL == h->conn || NULL == h->ev_end || NULL == h->ev_term || 0 != event_add(h->ev_term, NULL) ? -1 : 0;
}

int main(int argc, char **argv)
{
    static helper_t h;
    int control = control_option(argc, argv);

    if (0 > control) {
        fprintf(stderr, "lpm-helper: started by Open MPI's daemons (--fd N), not by hand\n");
        return 2;
    }
    if (0 != note_passed(&h, control) || SIG_ERR == signal(SIGPIPE, SIG_IGN) || 0 != start(&h, control)) {
        fprintf(stderr, "lpm-helper: cannot start: %s\n", strerror(errno));
        return 1;
    }
    if (0 > event_base_dispatch(h.base)) {
        fprintf(stderr, "lpm-helper: event loop failed\n");
        h.code = 1;
    }
    event_free(h.ev_term);
    event_free(h.ev_end);
    event_base_free(h.base);
    return h.code;
}
