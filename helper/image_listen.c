/*
 * The target's side of making the connection.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image_net.h"

#define STRANGERS_MAX 16
#define ADDRS_MAX     16
#define PORT_TRIES    16

static const struct timeval proof_limit = {2, 0};

typedef struct {
    image_listener_t *owner;
    image_stream_t *st;
    struct event *limit;
    uint64_t since; /* counts connections: the smallest one waits longest */
} stranger_t;

struct image_listener {
    struct event_base *base;
    int fds[ADDRS_MAX];
    struct event *evs[ADDRS_MAX];
    size_t n;
    struct event *limit;
    stranger_t strangers[STRANGERS_MAX];
    uint64_t count;
    image_stream_conf_t conf;
    image_net_cbs_t cbs;
    void *arg;
};

static void forget(stranger_t *s)
{
    image_stream_free(s->st);
    s->st = NULL;
    if (NULL != s->limit) {
        event_free(s->limit);
        s->limit = NULL;
    }
}

static void on_proof_limit(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    forget(arg);
}

static void on_failed(image_stream_t *st, const char *why, void *arg)
{
    (void)st;
    (void)why; /* a stranger's fault is none of the migration's: keep listening */
    forget(arg);
}

static void on_opened(image_stream_t *st, void *arg)
{
    stranger_t *s = arg;
    image_listener_t *l = s->owner;

    s->st = NULL;
    event_free(s->limit);
    s->limit = NULL;
    l->cbs.connected(st, l->arg);
}

static stranger_t *seat(image_listener_t *l)
{
    stranger_t *oldest = &l->strangers[0];

    for (size_t i = 0; i < STRANGERS_MAX; i++) {
        if (NULL == l->strangers[i].st) {
            return &l->strangers[i];
        }
        if (l->strangers[i].since < oldest->since) {
            oldest = &l->strangers[i];
        }
    }
    forget(oldest);
    return oldest;
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    static const image_stream_cbs_t cbs = {.opened = on_opened, .failed = on_failed};
    image_listener_t *l = arg;
    int sock = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    stranger_t *s;

    (void)what;
    if (0 > sock) {
        return; /* gone again, or no descriptor free for a moment: the next one is the next event */
    }
    image_net_tune(sock, l->conf.stall_ms);
    s = seat(l);
    s->owner = l;
    s->since = l->count++;
    s->limit = event_new(l->base, -1, 0, on_proof_limit, s);
    s->st = image_stream_new(l->base, sock, IMAGE_TARGET, &l->conf, &cbs, s);
    if (NULL == s->st) {
        close(sock);
    }
    if (NULL == s->st || NULL == s->limit || 0 != event_add(s->limit, &proof_limit)) {
        forget(s);
    }
}

static void on_limit(evutil_socket_t fd, short what, void *arg)
{
    image_listener_t *l = arg;

    (void)fd;
    (void)what;
    l->cbs.failed("the source did not connect in time", l->arg);
}

static int listen_on(const char *addr, int port)
{
    struct sockaddr_storage ss;
    socklen_t len;
    int fd, err, on = 1;

    if (0 != image_net_address(addr, port, &ss, &len)) {
        return -1;
    }
    fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (0 > fd) {
        return -1;
    }
    /* Connections of one that listened there before may still be about. It must have been set for them, too. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (0 != bind(fd, (struct sockaddr *)&ss, len) || 0 != listen(fd, STRANGERS_MAX)) {
        err = errno;
        close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

static int port_of(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    if (0 != getsockname(fd, (struct sockaddr *)&ss, &len)) {
        return -1;
    }
    return ntohs(AF_INET6 == ss.ss_family ? ((struct sockaddr_in6 *)&ss)->sin6_port
                                          : ((struct sockaddr_in *)&ss)->sin_port);
}

static void close_all(image_listener_t *l)
{
    while (0 < l->n) {
        close(l->fds[--l->n]);
    }
}

/* The kernel chooses a port at the first address; it may be taken at another, then once more. */
static int open_all(image_listener_t *l, const json_t *addrs, int *port)
{
    size_t want = json_array_size(addrs);

    if (ADDRS_MAX < want) {
        errno = EINVAL;
        return -1;
    }
    for (int try = 0; try < PORT_TRIES; try++) {
        int p = *port;

        for (l->n = 0; l->n < (0 == want ? 1 : want); l->n++) {
            const char *addr = 0 == want ? "0.0.0.0" : json_string_value(json_array_get(addrs, l->n));

            l->fds[l->n] = listen_on(addr, p);
            if (0 > l->fds[l->n]) {
                break;
            }
            p = 0 == p ? port_of(l->fds[0]) : p;
        }
        if (l->n == (0 == want ? 1 : want) && 0 < p) {
            *port = p;
            return 0;
        }
        int err = errno;
        close_all(l);
        errno = err;
        if (EADDRINUSE != err) {
            break;
        }
    }
    return -1;
}

image_listener_t *image_listener_new(struct event_base *base, const json_t *addrs, int timeout_ms,
                                     const image_stream_conf_t *conf, const image_net_cbs_t *cbs, void *arg, int *port)
{
    struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    image_listener_t *l = calloc(1, sizeof(*l));
    int p = *port, err = ENOMEM;

    if (NULL == l) {
        return NULL;
    }
    *l = (image_listener_t){.base = base, .conf = *conf, .cbs = *cbs, .arg = arg};
    if (0 != open_all(l, addrs, &p)) {
        err = errno;
        goto err_free;
    }
    l->limit = event_new(base, -1, 0, on_limit, l);
    if (NULL == l->limit || (0 < timeout_ms && 0 != event_add(l->limit, &limit))) {
        goto err_free;
    }
    for (size_t i = 0; i < l->n; i++) {
        l->evs[i] = event_new(base, l->fds[i], EV_READ | EV_PERSIST, on_accept, l);
        if (NULL == l->evs[i] || 0 != event_add(l->evs[i], NULL)) {
            goto err_free;
        }
    }
    *port = p;
    return l;

err_free:
    image_listener_free(l);
    errno = err;
    return NULL;
}

void image_listener_free(image_listener_t *l)
{
    if (NULL == l) {
        return;
    }
    for (size_t i = 0; i < l->n; i++) {
        if (NULL != l->evs[i]) {
            event_free(l->evs[i]);
        }
    }
    close_all(l);
    for (size_t i = 0; i < STRANGERS_MAX; i++) {
        forget(&l->strangers[i]);
    }
    if (NULL != l->limit) {
        event_free(l->limit);
    }
    image_auth_wipe(l->conf.key, sizeof(l->conf.key));
    free(l);
}
