/*
 * The helper that serves the pages of a rank that has left, from its holder.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper.h"
#include "holder_memory.h"
#include "image_net.h"
#include "lpm_msg.h"
#include "lpm_thread.h"
#include "pages_link.h"
#include "util_bell.h"
#include "util_proc.h"

/*
 * It knows nothing of what has been sent: whoever fills the rank asks for what it lacks, again if need be. So it can
 * be killed and started anew, and a connection that breaks is simply made again.
 */

#define RETRY_MIN_MS 20
#define RETRY_MAX_MS 1000

typedef struct serve serve_t;

/** One of the two connections. */
typedef struct {
    serve_t *s;
    image_channel_t channel;
    image_connector_t *connector;
    struct event *retry;
    int retry_ms;
    pages_link_t link;
    pthread_t thread;
    bool up, running;
    atomic_bool ended, holder_lost;
} line_t;

struct serve {
    helper_t *h;
    struct event_base *base;
    image_stream_conf_t conf;
    json_t *addrs;
    int port;
    line_t line[2];
    bool opened, serving;
    int wake;
    struct event *ev_wake, *ev_holder;
    pid_t holder;
    int holder_fd; /* pidfd */
    holder_view_t view;
    pages_ranges_t ranges;
    holder_runs_t runs;
};

/* ---- the threads: answers ---- */

/* Pages that are there; as many as fit, at most @p max. */
static int send_data(line_t *l, uint64_t at, uint64_t max)
{
    wire_head_t head = {.type = WIRE_DATA, .at = at};

    head.count = (uint32_t)(max < WIRE_PAGES_MAX ? max : WIRE_PAGES_MAX);
    if (0 != holder_read(&l->s->view, at, l->link.content, (size_t)head.count * PAGE_BYTES)) {
        l->holder_lost = true;
        return -1;
    }
    return 0 == pages_link_send(&l->link, &head) ? (int)head.count : -1;
}

static int send_zeros(line_t *l, uint64_t at, uint64_t pages)
{
    const wire_head_t head = {.type = WIRE_ZERO, .at = at, .count = (uint32_t)pages};

    return 0 == pages_link_send(&l->link, &head) ? (int)pages : -1;
}

static int answer_get(line_t *l, const wire_head_t *get)
{
    const pages_range_t *r = pages_ranges_find(&l->s->ranges, get->at);
    uint64_t at = get->at, end = at + (uint64_t)get->count * PAGE_BYTES;
    int sent;

    if (NULL == r || end > r->end) {
        return -1;
    }
    for (; at < end; at += (uint64_t)sent * PAGE_BYTES) {
        const holder_run_t *run = holder_runs_from(&l->s->runs, at);
        const uint64_t run_at = NULL == run || run->at > end ? end : run->at;

        if (run_at > at) {
            sent = send_zeros(l, at, (run_at - at) / PAGE_BYTES);
        } else {
            const uint64_t run_end = run->at + (uint64_t)run->pages * PAGE_BYTES;

            sent = send_data(l, at, ((run_end < end ? run_end : end) - at) / PAGE_BYTES);
        }
        if (0 > sent) {
            return -1;
        }
    }
    return 0;
}

static int answer_list(line_t *l)
{
    const holder_runs_t *runs = &l->s->runs;
    wire_head_t head = {.type = WIRE_MAP};
    size_t i = 0;

    do {
        for (head.count = 0; head.count < WIRE_RUNS_MAX && i < runs->n; head.count++, i++) {
            const wire_run_t run = {runs->r[i].at, runs->r[i].pages, runs->r[i].huge ? WIRE_HUGE : 0};

            wire_build_run(l->link.content + (size_t)head.count * WIRE_RUN_BYTES, &run);
        }
        head.flags = i == runs->n ? WIRE_LAST : 0;
        if (0 != pages_link_send(&l->link, &head)) {
            return -1;
        }
    } while (i < runs->n);
    return 0;
}

static void *line_main(void *arg)
{
    line_t *l = arg;
    wire_head_t head;
    int rc = 0;

    if (IMAGE_CHANNEL_BULK == l->channel) {
        util_take_long_turns();
    } else {
        util_go_first();
    }
    while (0 == rc && 0 == pages_link_receive(&l->link, 1, &head)) {
        rc = WIRE_LIST == head.type ? answer_list(l) : answer_get(l, &head);
    }
    l->ended = true;
    util_bell_ring(l->s->wake);
    return NULL;
}

/* ---- connections ---- */

static void connect_line(line_t *l);

static void start_thread(line_t *l)
{
    if (l->up && !l->running) {
        l->ended = false;
        l->running = 0 == lpm_thread_start(&l->thread, line_main, l);
        if (!l->running) {
            helper_fail(l->s->h, "serve", "a thread cannot be started");
        }
    }
}

static void retry_later(line_t *l)
{
    const struct timeval tv = {l->retry_ms / 1000, l->retry_ms % 1000 * 1000};

    l->retry_ms = 2 * l->retry_ms < RETRY_MAX_MS ? 2 * l->retry_ms : RETRY_MAX_MS;
    if (0 != event_add(l->retry, &tv)) {
        helper_fail(l->s->h, "connect", "out of memory");
    }
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    connect_line(arg);
}

static void on_connected(image_stream_t *st, void *arg)
{
    line_t *l = arg;
    serve_t *s = l->s;

    image_connector_free(l->connector);
    l->connector = NULL;
    if (0 != pages_link_open(&l->link, st)) {
        retry_later(l);
        return;
    }
    l->retry_ms = RETRY_MIN_MS;
    l->up = true;
    if (s->serving) {
        start_thread(l);
    }
    if (!s->opened && s->line[0].up && s->line[1].up) {
        s->opened = true;
        helper_say(s->h, json_pack("{s:s}", "event", "opened"));
    }
}

static void on_not_connected(const char *why, void *arg)
{
    line_t *l = arg;

    image_connector_free(l->connector);
    l->connector = NULL;
    if (!l->s->serving) {
        helper_fail(l->s->h, "connect", why);
        return;
    }
    retry_later(l); /* as long as the rank lacks pages, there is nothing else to do */
}

static void connect_line(line_t *l)
{
    static const image_net_cbs_t net = {on_connected, on_not_connected};
    image_stream_conf_t conf = l->s->conf;

    conf.channel = l->channel;
    l->connector = image_connector_new(l->s->base, l->s->addrs, l->s->port, conf.stall_ms, &conf, &net, l);
    image_auth_wipe(&conf, sizeof(conf));
    if (NULL == l->connector) {
        helper_fail(l->s->h, "connect", strerror(errno));
    }
}

static void end_thread(line_t *l)
{
    if (l->running) {
        pages_link_shut(&l->link);
        (void)pthread_join(l->thread, NULL);
        l->running = false;
    }
    pages_link_close(&l->link);
    l->up = false;
}

static void lose_holder(serve_t *s)
{
    helper_fail(s->h, "serve", "the copy of the rank's memory is gone: the process that held it has been killed");
}

/* A thread has ended: its connection is made anew. */
static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    serve_t *s = arg;

    (void)what;
    util_bell_hush(fd);
    for (size_t i = 0; i < 2; i++) {
        line_t *l = &s->line[i];

        if (l->running && l->ended) {
            end_thread(l);
            if (l->holder_lost) {
                lose_holder(s);
                return;
            }
            retry_later(l);
        }
    }
}

static void on_holder_end(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    lose_holder(arg);
}

/* ---- commands ---- */

static int open_holder(serve_t *s, const json_t *msg)
{
    int64_t pid;

    if (0 != lpm_msg_int(msg, "holder", 2, INT_MAX, &pid) ||
        0 != pages_ranges_parse(json_object_get(msg, "ranges"), &s->ranges)) {
        return -1;
    }
    s->holder = (pid_t)pid;
    s->holder_fd = util_pidfd_open(s->holder);
    if (0 > s->holder_fd || 0 != holder_view(&s->view, s->holder) ||
        0 != holder_runs(s->holder, &s->ranges, &s->runs)) {
        return -1;
    }
    s->ev_holder = event_new(s->base, s->holder_fd, EV_READ, on_holder_end, s);
    return NULL == s->ev_holder || 0 != event_add(s->ev_holder, NULL) ? -1 : 0;
}

static void serve_holder(serve_t *s, const json_t *msg)
{
    if (0 != open_holder(s, msg)) {
        helper_fail(s->h, "serve", "the copy of the rank's memory cannot be read");
        return;
    }
    s->serving = true;
    for (size_t i = 0; i < 2; i++) {
        start_thread(&s->line[i]);
    }
}

static void release(serve_t *s)
{
    event_del(s->ev_holder);
    util_pidfd_kill(s->holder_fd);
    helper_last_word(s->h, json_pack("{s:s}", "event", "released"), 0);
}

static void serve_command(void *self, const char *op, const json_t *msg)
{
    serve_t *s = self;

    if (0 == strcmp(op, "serve") && !s->serving) {
        serve_holder(s, msg);
    } else if (0 == strcmp(op, "release") && s->serving) {
        release(s);
    } else {
        helper_fail(s->h, "serve", "a command out of turn");
    }
}

/* Whoever made the holder cares for it, as long as we are not told to. */
static void serve_undo(void *self)
{
    serve_t *s = self;

    helper_last_word(s->h, json_pack("{s:s}", "event", "released"), 0);
}

static bool serve_replaceable(void *self)
{
    return ((serve_t *)self)->serving;
}

static void serve_dispose(void *self)
{
    serve_t *s = self;

    for (size_t i = 0; i < 2; i++) {
        image_connector_free(s->line[i].connector);
        end_thread(&s->line[i]);
        if (NULL != s->line[i].retry) {
            event_free(s->line[i].retry);
        }
    }
    if (NULL != s->ev_wake) {
        event_free(s->ev_wake);
    }
    if (NULL != s->ev_holder) {
        event_free(s->ev_holder);
    }
    if (0 <= s->wake) {
        (void)close(s->wake);
    }
    if (0 <= s->holder_fd) {
        (void)close(s->holder_fd);
    }
    holder_view_close(&s->view);
    holder_runs_free(&s->runs);
    pages_ranges_free(&s->ranges);
    json_decref(s->addrs);
    image_auth_wipe(s->conf.key, sizeof(s->conf.key));
    free(s);
}

static const char *open_all(serve_t *s, const json_t *msg)
{
    int64_t port;

    if (0 != helper_read_channel(msg, &s->conf) || 0 != lpm_msg_int(msg, "peer_port", 1, 65535, &port)) {
        return "\"secret\", \"timeout_ms\" or \"peer_port\" is missing or out of range";
    }
    s->port = (int)port;
    s->addrs = json_incref(json_object_get(msg, "peer_addrs"));
    s->wake = util_bell();
    s->ev_wake = 0 > s->wake ? NULL : event_new(s->base, s->wake, EV_READ | EV_PERSIST, on_wake, s);
    for (size_t i = 0; i < 2; i++) {
        s->line[i].retry = event_new(s->base, -1, 0, on_retry, &s->line[i]);
    }
    if (NULL == s->ev_wake || NULL == s->line[0].retry || NULL == s->line[1].retry ||
        0 != event_add(s->ev_wake, NULL)) {
        return "out of memory";
    }
    return NULL;
}

void *serve_new(helper_t *h, struct event_base *base, const json_t *msg, helper_role_t *role)
{
    serve_t *s = calloc(1, sizeof(*s));
    const char *why;

    if (NULL == s) {
        return NULL;
    }
    *s = (serve_t){.h = h, .base = base, .wake = -1, .holder_fd = -1, .view = {.mem = -1}};
    for (size_t i = 0; i < 2; i++) {
        s->line[i].s = s;
        s->line[i].channel = 0 == i ? IMAGE_CHANNEL_URGENT : IMAGE_CHANNEL_BULK;
        s->line[i].link.fd = -1;
        s->line[i].retry_ms = RETRY_MIN_MS;
    }
    *role = (helper_role_t){serve_command, serve_undo, serve_dispose, serve_replaceable};
    why = open_all(s, msg);
    if (NULL != why) {
        helper_fail(s->h, "open", why);
        return s;
    }
    for (size_t i = 0; i < 2; i++) {
        connect_line(&s->line[i]);
    }
    return s;
}
