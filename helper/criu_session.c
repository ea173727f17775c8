/*
 * A conversation with one CRIU worker process, on the event loop.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include "criu_session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "criu_rpc.pb-c.h"
#include "criu_spawn.h"
#include "util_proc.h"

/* Dump and restore leave their log in the directory of the images. */
#define DUMP_LOG    "dump.log"
#define RESTORE_LOG "restore.log"
/* Deleted files up to this size travel in the images; larger ones are refused by CRIU. */
#define GHOST_LIMIT (1024 * 1024)
/* Answers carry at most a line of error text. */
#define ANSWER_MAX (64 * 1024)

struct criu_session {
    criu_process_t proc;
    bool sibling;
    struct event *ev_rpc, *ev_end;
    criu_session_ops_t ops;
    void *arg;
};

static void hear(criu_session_t *cs, const Rpc__Response *r)
{
    switch (r->type) {
    case RPC__REQUEST_TYPE__VERSION:
        if (NULL != r->version) {
            cs->ops.version(r->version->major_number, r->version->minor_number, r->version->sublevel, cs->arg);
        }
        break;
    case RPC__REQUEST_TYPE__NOTIFY:
        if (NULL != r->notify && NULL != r->notify->script) {
            cs->ops.notify(r->notify->script, r->notify->has_pid ? r->notify->pid : 0, cs->arg);
        }
        break;
    case RPC__REQUEST_TYPE__FEATURE_CHECK:
        cs->ops.warm(cs->arg); /* whether it has the feature or could not find out: the dump will tell */
        break;
    default: /* DUMP, RESTORE, or EMPTY for a request that it did not understand */
        util_give_way(cs->proc.pid); /* it takes its time to end, which the rank has better use for */
        cs->ops.done(r->success, NULL != r->restore && 0 < r->restore->pid ? r->restore->pid : 0, r->cr_errmsg,
                     cs->arg);
        break;
    }
}

/* One message; 1 when there was one, 0 when there is none now, -1 at the end of the conversation. */
static int hear_one(criu_session_t *cs)
{
    static uint8_t buf[ANSWER_MAX];
    Rpc__Response *r;
    ssize_t n = recv(cs->proc.rpc, buf, sizeof(buf), MSG_DONTWAIT);

    if (0 > n) {
        return EAGAIN == errno || EINTR == errno ? 0 : -1;
    }
    if (0 == n) {
        return -1;
    }
    r = rpc__response__unpack(NULL, (size_t)n, buf);
    if (NULL != r) {
        hear(cs, r);
        rpc__response__free_unpacked(r, NULL);
    }
    return 1;
}

static void on_rpc(evutil_socket_t fd, short what, void *arg)
{
    criu_session_t *cs = arg;

    (void)fd;
    (void)what;
    if (0 > hear_one(cs)) {
        event_del(cs->ev_rpc); /* what ends a session is the end of the process */
    }
}

static void on_end(evutil_socket_t fd, short what, void *arg)
{
    criu_session_t *cs = arg;

    (void)fd;
    (void)what;
    while (0 < hear_one(cs)) {
        /* its last words were said before it ended */
    }
    event_del(cs->ev_rpc);
    if (!cs->sibling && 0 > waitpid(cs->proc.pid, NULL, WNOHANG)) {
        /* ECHILD only: nothing is left to reap */
    }
    cs->ops.gone(cs->arg);
}

criu_session_t *criu_session_new(struct event_base *base, const char *program, bool sibling, const int *keep,
                                 size_t n_keep, const criu_session_ops_t *ops, void *arg)
{
    criu_session_t *cs = calloc(1, sizeof(*cs));

    if (NULL == cs) {
        return NULL;
    }
    *cs = (criu_session_t){.sibling = sibling, .ops = *ops, .arg = arg};
    if (0 != criu_spawn(program, sibling, keep, n_keep, &cs->proc)) {
        goto err_free;
    }
    cs->ev_rpc = event_new(base, cs->proc.rpc, EV_READ | EV_PERSIST, on_rpc, cs);
    cs->ev_end = event_new(base, cs->proc.pidfd, EV_READ, on_end, cs);
    if (NULL == cs->ev_rpc || NULL == cs->ev_end || 0 != event_add(cs->ev_rpc, NULL) ||
        0 != event_add(cs->ev_end, NULL)) {
        goto err_stop;
    }
    return cs;

err_stop:
    criu_session_free(cs);
    errno = ENOMEM;
    return NULL;
err_free:
    free(cs);
    return NULL;
}

static int say(criu_session_t *cs, const Rpc__Request *req)
{
    size_t len = rpc__request__get_packed_size(req);
    uint8_t *buf = malloc(len);
    ssize_t n;

    if (NULL == buf) {
        return -1;
    }
    rpc__request__pack(req, buf);
    n = send(cs->proc.rpc, buf, len, MSG_NOSIGNAL);
    free(buf);
    return n == (ssize_t)len ? 0 : -1;
}

int criu_session_ask_version(criu_session_t *cs)
{
    Rpc__Request req = RPC__REQUEST__INIT;

    req.type = RPC__REQUEST_TYPE__VERSION;
    req.has_keep_open = 1; /* the same worker takes the dump or restore later: no start in the blackout */
    req.keep_open = 1;
    return say(cs, &req);
}

int criu_session_warm_up(criu_session_t *cs)
{
    Rpc__Request req = RPC__REQUEST__INIT;
    Rpc__Features features = RPC__FEATURES__INIT;

    features.has_mem_track = 1;
    features.mem_track = 1;
    req.type = RPC__REQUEST_TYPE__FEATURE_CHECK;
    req.features = &features;
    req.has_keep_open = 1;
    req.keep_open = 1;
    return say(cs, &req);
}

static void common_options(Rpc__Options *o, const criu_job_t *job, char *log_file)
{
    o->images_dir_fd = job->dir_fd; /* CRIU opens it as our descriptor, through /proc */
    o->has_shell_job = 1;
    o->shell_job = 1;
    o->has_file_locks = 1;
    o->file_locks = 0;
    o->has_log_level = 1;
    o->log_level = job->log_level;
    o->log_file = log_file;
    o->has_notify_scripts = 1;
    o->notify_scripts = 1;
    o->has_manage_cgroups_mode = 1;
    o->manage_cgroups_mode = RPC__CGROUP_MODE__CGROUP_IGNORE;
    o->has_ghost_limit = 1;
    o->ghost_limit = GHOST_LIMIT;
    o->has_network_lock = 1;
    o->network_lock = RPC__NETWORK_LOCK__NETWORK_LOCK_SKIP;
}

int criu_session_dump(criu_session_t *cs, const criu_job_t *job)
{
    Rpc__Options o = RPC__OPTIONS__INIT;
    Rpc__Request req = RPC__REQUEST__INIT;
    size_t n = json_array_size(job->externals);
    char **names = calloc(n + 1, sizeof(*names));
    int rc;

    if (NULL == names) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        names[i] = (char *)json_string_value(json_array_get(job->externals, i));
    }
    common_options(&o, job, DUMP_LOG);
    o.has_pid = 1;
    o.pid = job->pid;
    o.has_leave_running = 1;
    o.leave_running = 0; /* a dump that is committed ends the process */
    o.external = names;
    o.n_external = n;
    req.type = RPC__REQUEST_TYPE__DUMP;
    req.opts = &o;
    rc = say(cs, &req);
    free(names);
    return rc;
}

int criu_session_restore(criu_session_t *cs, const criu_job_t *job)
{
    Rpc__Options o = RPC__OPTIONS__INIT;
    Rpc__Request req = RPC__REQUEST__INIT;
    size_t n = json_array_size(job->inherit);
    Rpc__Inherit *items = calloc(n + 1, sizeof(*items));
    Rpc__Inherit **list = calloc(n + 1, sizeof(*list));
    int rc = -1;

    if (NULL == items || NULL == list) {
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(job->inherit, i);

        rpc__inherit__init(&items[i]);
        items[i].key = (char *)json_string_value(json_object_get(one, "key"));
        items[i].fd = (int)json_integer_value(json_object_get(one, "fd"));
        list[i] = &items[i];
    }
    common_options(&o, job, RESTORE_LOG);
    o.has_rst_sibling = 1;
    o.rst_sibling = 1;
    o.inherit_fd = list;
    o.n_inherit_fd = n;
    req.type = RPC__REQUEST_TYPE__RESTORE;
    req.opts = &o;
    rc = say(cs, &req);
out:
    free(list);
    free(items);
    return rc;
}

int criu_session_answer(criu_session_t *cs, bool success)
{
    Rpc__Request req = RPC__REQUEST__INIT;

    req.type = RPC__REQUEST_TYPE__NOTIFY;
    req.has_notify_success = 1;
    req.notify_success = success;
    return say(cs, &req);
}

void criu_session_hang_up(criu_session_t *cs)
{
    /* Fails only when the other end is gone already, which is what is wanted. */
    (void)shutdown(cs->proc.rpc, SHUT_RDWR);
}

void criu_session_kill(criu_session_t *cs)
{
    util_pidfd_kill(cs->proc.pidfd);
}

void criu_session_free(criu_session_t *cs)
{
    if (NULL == cs) {
        return;
    }
    if (NULL != cs->ev_rpc) {
        event_free(cs->ev_rpc);
    }
    if (NULL != cs->ev_end) {
        event_free(cs->ev_end);
    }
    close(cs->proc.rpc);
    close(cs->proc.pidfd);
    free(cs);
}
