/*
 * The source's side of making the connection.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image_net.h"

/* A share of the time limit that is too short for a handshake would be no try at all. */
#define SHARE_MIN_MS 1000

struct image_connector {
    struct event_base *base;
    const json_t *addrs;
    size_t next;
    int port, fd;
    image_stream_t *st;
    struct event *ev, *limit;
    struct timeval share;
    image_stream_conf_t conf;
    image_net_cbs_t cbs;
    void *arg;
    char why[512];
};

int image_net_address(const char *text, int port, struct sockaddr_storage *ss, socklen_t *len)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *ai;
    char service[16];

    snprintf(service, sizeof(service), "%d", port);
    if (NULL == text || 0 != getaddrinfo(text, service, &hints, &ai)) {
        errno = EINVAL;
        return -1;
    }
    memcpy(ss, ai->ai_addr, ai->ai_addrlen);
    *len = ai->ai_addrlen;
    freeaddrinfo(ai);
    return 0;
}

void image_net_tune(int fd, int stall_ms)
{
    int on = 1, idle = 5, interval = 5;
    unsigned int stall = (unsigned int)stall_ms;

    /* Only better or worse, never right or wrong: the stream has its own time limits. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &stall, sizeof(stall));
}

static void try_next(image_connector_t *c);

/* Forget the current try. */
static void drop(image_connector_t *c)
{
    if (NULL != c->ev) {
        event_free(c->ev);
        c->ev = NULL;
    }
    image_stream_free(c->st);
    c->st = NULL;
    if (0 <= c->fd) {
        close(c->fd);
        c->fd = -1;
    }
    event_del(c->limit);
}

static void give_up_this(image_connector_t *c, const char *why)
{
    snprintf(c->why, sizeof(c->why), "cannot reach the target at %s port %d: %s",
             json_string_value(json_array_get(c->addrs, c->next - 1)), c->port, why);
    drop(c);
    try_next(c);
}

static void on_limit(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    give_up_this(arg, "no answer in time");
}

static void on_opened(image_stream_t *st, void *arg)
{
    image_connector_t *c = arg;

    c->st = NULL;
    event_del(c->limit);
    c->cbs.connected(st, c->arg);
}

static void on_failed(image_stream_t *st, const char *why, void *arg)
{
    (void)st;
    give_up_this(arg, why);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
    static const image_stream_cbs_t cbs = {.opened = on_opened, .failed = on_failed};
    image_connector_t *c = arg;
    int err = 0;
    socklen_t len = sizeof(err);

    (void)what;
    if (0 != getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) || 0 != err) {
        give_up_this(c, strerror(0 != err ? err : errno));
        return;
    }
    image_net_tune(fd, c->conf.stall_ms);
    c->st = image_stream_new(c->base, fd, IMAGE_SOURCE, &c->conf, &cbs, c);
    if (NULL == c->st) {
        give_up_this(c, strerror(errno));
        return;
    }
    c->fd = -1; /* the stream's now */
}

/* One address; -1 with errno when it cannot even be tried. */
static int try_one(image_connector_t *c, const char *addr)
{
    struct sockaddr_storage ss;
    socklen_t len;

    if (0 != image_net_address(addr, c->port, &ss, &len)) {
        return -1;
    }
    c->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (0 > c->fd || (0 != connect(c->fd, (struct sockaddr *)&ss, len) && EINPROGRESS != errno)) {
        return -1;
    }
    c->ev = event_new(c->base, c->fd, EV_WRITE, on_connected, c);
    if (NULL == c->ev || 0 != event_add(c->ev, NULL) || 0 != event_add(c->limit, &c->share)) {
        errno = ENOMEM;
        return -1;
    }
    return 0;
}

static void try_next(image_connector_t *c)
{
    while (c->next < json_array_size(c->addrs)) {
        const char *addr = json_string_value(json_array_get(c->addrs, c->next++));

        if (0 == try_one(c, addr)) {
            return;
        }
        snprintf(c->why, sizeof(c->why), "cannot reach the target at %s port %d: %s", NULL == addr ? "?" : addr,
                 c->port, strerror(errno));
        drop(c);
    }
    c->cbs.failed('\0' == c->why[0] ? "the target has no address" : c->why, c->arg);
}

/* The first try from the event loop too, so that no callback comes before image_connector_new() has returned. */
static void on_start(evutil_socket_t fd, short what, void *arg)
{
    image_connector_t *c = arg;

    (void)fd;
    (void)what;
    event_free(c->ev);
    c->ev = NULL;
    try_next(c);
}

image_connector_t *image_connector_new(struct event_base *base, const json_t *addrs, int port, int timeout_ms,
                                       const image_stream_conf_t *conf, const image_net_cbs_t *cbs, void *arg)
{
    static const struct timeval now = {0, 0};
    image_connector_t *c = calloc(1, sizeof(*c));
    int n = (int)json_array_size(addrs), share;

    if (NULL == c) {
        return NULL;
    }
    *c = (image_connector_t){.base = base, .addrs = addrs, .port = port, .fd = -1, .conf = *conf, .cbs = *cbs};
    c->arg = arg;
    share = 1 < n ? timeout_ms / n : timeout_ms;
    share = SHARE_MIN_MS > share ? SHARE_MIN_MS : share;
    c->share = (struct timeval){.tv_sec = share / 1000, .tv_usec = share % 1000 * 1000};
    c->limit = event_new(base, -1, 0, on_limit, c);
    c->ev = event_new(base, -1, 0, on_start, c);
    if (NULL == c->limit || NULL == c->ev || 0 != event_add(c->ev, &now)) {
        image_connector_free(c);
        errno = ENOMEM;
        return NULL;
    }
    return c;
}

void image_connector_free(image_connector_t *c)
{
    if (NULL == c) {
        return;
    }
    if (NULL != c->limit) {
        drop(c);
        event_free(c->limit);
    }
    image_auth_wipe(c->conf.key, sizeof(c->conf.key));
    free(c);
}
