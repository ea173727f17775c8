/*
 * For test_pager: a TCP proxy between the two ends of the page channel, which stalls or drops connections when told to.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "pager_proxy.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "image_auth.h"

#define AT_CHANNEL 10 /* of the source's first words */
#define QUEUE_MAX  (512u * 1024)
#define HANDSHAKE  (IMAGE_HELLO_BYTES + IMAGE_MAC_BYTES) /* of the source; it never stalls */

typedef struct tube tube_t;
struct tube {
    proxy_t *p;
    tube_t *next;
    struct bufferevent *source, *target;
    bool known, bulk;
    uint64_t passed; /* to the target */
};

struct proxy {
    struct event_base *base;
    struct evconnlistener *listener;
    int port, target;
    tube_t *tubes;
    bool stalls;
    uint64_t allowed, bytes;
};

static void set_address(struct sockaddr_in *a, int port)
{
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

static void drop(tube_t *t, bool reset)
{
    const struct linger now = {1, 0};
    tube_t **at = &t->p->tubes;

    while (*at != t) {
        at = &(*at)->next;
    }
    *at = t->next;
    if (reset) {
        (void)setsockopt(bufferevent_getfd(t->source), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        (void)setsockopt(bufferevent_getfd(t->target), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    bufferevent_free(t->source);
    bufferevent_free(t->target);
    free(t);
}

/* Which of the connections it is. @return false: not yet known */
static bool know(tube_t *t)
{
    uint8_t words[AT_CHANNEL + 1];

    if (!t->known &&
        (ssize_t)sizeof(words) == evbuffer_copyout(bufferevent_get_input(t->source), words, sizeof(words))) {
        t->known = true;
        t->bulk = IMAGE_CHANNEL_BULK == words[AT_CHANNEL];
    }
    return t->known;
}

/* As much as may go on and as the other side has room for. */
static void pump(tube_t *t, struct bufferevent *from)
{
    struct bufferevent *to = from == t->source ? t->target : t->source;
    struct evbuffer *in = bufferevent_get_input(from), *out = bufferevent_get_output(to);
    const bool counts = from == t->source;
    size_t n = evbuffer_get_length(in), room = QUEUE_MAX;

    if (counts && !know(t)) {
        return;
    }
    room = evbuffer_get_length(out) < room ? room - evbuffer_get_length(out) : 0;
    if (counts && t->bulk && t->p->stalls) {
        const uint64_t allowed = HANDSHAKE > t->passed ? HANDSHAKE - t->passed : t->p->allowed;

        room = allowed < room ? allowed : room;
    }
    if (n > room) { /* no more until there is room again */
        n = room;
        (void)bufferevent_disable(from, EV_READ);
    } else {
        (void)bufferevent_enable(from, EV_READ);
    }
    (void)evbuffer_remove_buffer(in, out, n);
    if (counts) {
        t->p->bytes += n;
        t->p->allowed -= t->bulk && t->p->stalls && HANDSHAKE <= t->passed ? n : 0;
        t->passed += n;
    }
}

static void on_read(struct bufferevent *from, void *arg)
{
    pump(arg, from);
}

static void on_written(struct bufferevent *to, void *arg)
{
    tube_t *t = arg;

    pump(t, to == t->source ? t->target : t->source);
}

static void on_event(struct bufferevent *side, short what, void *arg)
{
    (void)side;
    if (0 != (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))) {
        drop(arg, false);
    }
}

static void start(tube_t *t, struct bufferevent *side)
{
    const int on = 1;

    (void)setsockopt(bufferevent_getfd(side), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    bufferevent_setcb(side, on_read, on_written, on_event, t);
    (void)bufferevent_enable(side, EV_READ | EV_WRITE);
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *a, int len, void *arg)
{
    proxy_t *p = arg;
    tube_t *t = calloc(1, sizeof(*t));
    struct sockaddr_in to;

    (void)l;
    (void)a;
    (void)len;
    if (NULL == t) {
        abort();
    }
    *t = (tube_t){.p = p, .next = p->tubes};
    p->tubes = t;
    t->source = bufferevent_socket_new(p->base, fd, BEV_OPT_CLOSE_ON_FREE);
    t->target = bufferevent_socket_new(p->base, -1, BEV_OPT_CLOSE_ON_FREE);
    set_address(&to, p->target);
    start(t, t->source);
    start(t, t->target);
    if (0 != bufferevent_socket_connect(t->target, (struct sockaddr *)&to, sizeof(to))) {
        drop(t, false);
        return;
    }
    start(t, t->target);
}

proxy_t *proxy_new(struct event_base *base)
{
    proxy_t *p = calloc(1, sizeof(*p));
    struct sockaddr_in here;
    socklen_t len = sizeof(here);

    if (NULL == p) {
        return NULL;
    }
    p->base = base;
    set_address(&here, 0);
    p->listener = evconnlistener_new_bind(base, on_accept, p, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 16,
                                          (struct sockaddr *)&here, sizeof(here));
    if (NULL == p->listener || 0 != getsockname(evconnlistener_get_fd(p->listener), (struct sockaddr *)&here, &len)) {
        proxy_free(p);
        return NULL;
    }
    p->port = ntohs(here.sin_port);
    return p;
}

void proxy_free(proxy_t *p)
{
    if (NULL == p) {
        return;
    }
    (void)proxy_cut(p);
    if (NULL != p->listener) {
        evconnlistener_free(p->listener);
    }
    free(p);
}

int proxy_port(const proxy_t *p)
{
    return p->port;
}

void proxy_set_target(proxy_t *p, int port)
{
    p->target = port;
}

void proxy_stall_bulk(proxy_t *p, uint64_t bytes)
{
    p->stalls = true;
    p->allowed = bytes;
}

bool proxy_is_stalled(const proxy_t *p)
{
    return p->stalls && 0 == p->allowed;
}

void proxy_go_on(proxy_t *p)
{
    p->stalls = false;
    for (tube_t *t = p->tubes; NULL != t; t = t->next) {
        pump(t, t->source);
    }
}

uint64_t proxy_bytes(const proxy_t *p)
{
    return p->bytes;
}

int proxy_cut(proxy_t *p)
{
    int n = 0;

    while (NULL != p->tubes) {
        drop(p->tubes, true);
        n++;
    }
    return n;
}
