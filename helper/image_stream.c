/*
 * The image stream's connection: buffers, events, handshake, frames.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include "image_stream.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "image_stream_int.h"
#include "util_dir.h"
#include "util_proc.h"

#define SOURCE_HELLO(st) ((st)->hello[0])
#define TARGET_HELLO(st) ((st)->hello[1])

static void stop(image_stream_t *st, stream_state_t state)
{
    st->state = state;
    event_del(st->rd);
    if (ST_FAILED == state) {
        event_del(st->wr);
    }
}

int image_stream_fail(image_stream_t *st, const char *fmt, ...)
{
    char why[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    stop(st, ST_FAILED);
    st->cbs.failed(st, why, st->arg);
    return -1;
}

int image_stream_done(image_stream_t *st)
{
    image_summary_t sum = st->seen;

    sum.ms = util_now_ms() - st->since;
    stop(st, ST_DONE); /* output goes on: the target's ACK may still be in the buffer */
    st->cbs.done(st, &sum, st->arg);
    return -1;
}

int image_stream_watch_input(image_stream_t *st, bool limited)
{
    /* adding a pending event again would keep its old time limit */
    event_del(st->rd);
    return 0 == event_add(st->rd, limited ? &st->stall : NULL) ? 1 : image_stream_fail(st, "cannot wait for input");
}

int image_stream_want_output(image_stream_t *st)
{
    return 0 == event_add(st->wr, &st->stall) ? 1 : image_stream_fail(st, "cannot wait for output");
}

void image_stream_put(image_stream_t *st, const void *p, size_t n)
{
    memcpy(st->out + st->out_len, p, n);
    st->out_len += n;
}

int image_stream_put_head(image_stream_t *st, const frame_head_t *head, const char *name)
{
    uint8_t p[FRAME_HEAD_BYTES] = {head->type, head->name_len};
    uint32_t count = htobe32(head->count);
    uint64_t number = htobe64(head->number), size = htobe64(head->size);

    memcpy(p + 4, &count, sizeof(count));
    memcpy(p + 8, &number, sizeof(number));
    memcpy(p + 16, &size, sizeof(size));
    image_stream_put(st, p, sizeof(p));
    image_stream_put(st, name, head->name_len);
    if (0 != gnutls_hmac(st->mac, p, sizeof(p)) || 0 != gnutls_hmac(st->mac, name, head->name_len)) {
        return image_stream_fail(st, "HMAC failed");
    }
    return 1;
}

void image_stream_put_mac(image_stream_t *st)
{
    gnutls_hmac_output(st->mac, st->out + st->out_len);
    st->out_len += IMAGE_MAC_BYTES;
}

int image_frame_parse(const uint8_t *p, frame_head_t *head)
{
    uint32_t count;
    uint64_t number, size;

    if (FRAME_BEGIN > p[0] || FRAME_ACK < p[0] || 0 != p[2] || 0 != p[3]) {
        return -1;
    }
    memcpy(&count, p + 4, sizeof(count));
    memcpy(&number, p + 8, sizeof(number));
    memcpy(&size, p + 16, sizeof(size));
    *head = (frame_head_t){
        .type = p[0], .name_len = p[1], .count = be32toh(count), .number = be64toh(number), .size = be64toh(size)};
    return 0;
}

void image_stream_eat(image_stream_t *st, size_t n)
{
    st->in_len -= n;
    memmove(st->in, st->in + n, st->in_len);
}

bool image_stream_mac_matches(image_stream_t *st)
{
    uint8_t want[IMAGE_MAC_BYTES];
    bool equal;

    gnutls_hmac_output(st->mac, want);
    equal = image_auth_equal(want, st->in, sizeof(want));
    image_stream_eat(st, sizeof(want));
    return equal;
}

static int take_hello(image_stream_t *st)
{
    image_role_t other = IMAGE_SOURCE == st->role ? IMAGE_TARGET : IMAGE_SOURCE;
    const char *wrong;
    uint8_t proof[IMAGE_MAC_BYTES];

    if (IMAGE_HELLO_BYTES > st->in_len) {
        return 0;
    }
    wrong = image_auth_check_hello(other, st->conf.channel, st->in);
    if (NULL != wrong) {
        return image_stream_fail(st, "%s", wrong);
    }
    memcpy(st->hello[other - 1], st->in, IMAGE_HELLO_BYTES);
    image_stream_eat(st, IMAGE_HELLO_BYTES);
    st->state = ST_PROOF;
    if (IMAGE_TARGET == st->role) {
        return 1; /* the source proves first */
    }
    if (0 != image_auth_proof(st->conf.key, IMAGE_SOURCE, SOURCE_HELLO(st), TARGET_HELLO(st), proof)) {
        return image_stream_fail(st, "HMAC failed");
    }
    image_stream_put(st, proof, sizeof(proof));
    return image_stream_want_output(st);
}

static int take_proof(image_stream_t *st)
{
    image_role_t other = IMAGE_SOURCE == st->role ? IMAGE_TARGET : IMAGE_SOURCE;
    uint8_t proof[IMAGE_MAC_BYTES];

    if (IMAGE_MAC_BYTES > st->in_len) {
        return 0;
    }
    if (0 != image_auth_proof(st->conf.key, other, SOURCE_HELLO(st), TARGET_HELLO(st), proof) ||
        !image_auth_equal(proof, st->in, sizeof(proof))) {
        return image_stream_fail(st, "the other side does not know the secret of this migration");
    }
    image_stream_eat(st, sizeof(proof));
    if (0 != image_auth_session_key(st->conf.key, SOURCE_HELLO(st), TARGET_HELLO(st), st->session_key) ||
        0 != gnutls_hmac_init(&st->mac, GNUTLS_MAC_SHA256, st->session_key, sizeof(st->session_key))) {
        return image_stream_fail(st, "HMAC failed");
    }
    if (IMAGE_TARGET == st->role) {
        if (0 != image_auth_proof(st->conf.key, IMAGE_TARGET, SOURCE_HELLO(st), TARGET_HELLO(st), proof)) {
            return image_stream_fail(st, "HMAC failed");
        }
        image_stream_put(st, proof, sizeof(proof));
        if (0 > image_stream_want_output(st)) {
            return -1;
        }
    }
    st->state = ST_OPEN;
    st->cbs.opened(st, st->arg);
    return -1; /* the owner may have freed us; more input comes with the next event */
}

static int step_input(image_stream_t *st)
{
    switch (st->state) {
    case ST_HELLO: return take_hello(st);
    case ST_PROOF: return take_proof(st);
    default: return IMAGE_SOURCE == st->role ? image_send_input(st) : image_recv_input(st);
    }
}

static void lost(image_stream_t *st, const char *why)
{
    (void)image_stream_fail(st, "connection lost%s: %s",
                            ST_OPEN > st->state ? " in the handshake (is the secret the same?)" : "", why);
}

/* What comes behind the handshake may be for somebody else: image_stream_take(). */
static size_t room_for_input(const image_stream_t *st)
{
    switch (st->state) {
    case ST_HELLO: return IMAGE_HELLO_BYTES - st->in_len;
    case ST_PROOF: return IMAGE_MAC_BYTES - st->in_len;
    default: return BUFFER_BYTES - st->in_len;
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    image_stream_t *st = arg;
    ssize_t n;

    if (0 != (what & EV_TIMEOUT)) {
        (void)image_stream_fail(st, "the other side stalls: nothing came for %ld ms",
                                st->stall.tv_sec * 1000L + st->stall.tv_usec / 1000);
        return;
    }
    n = recv(fd, st->in + st->in_len, room_for_input(st), 0);
    if (0 > n && (EAGAIN == errno || EINTR == errno)) {
        return;
    }
    if (0 >= n) {
        lost(st, 0 == n ? "closed by the other side" : strerror(errno));
        return;
    }
    st->in_len += (size_t)n;
    while (0 < step_input(st)) {
        /* as long as it finds something complete */
    }
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    image_stream_t *st = arg;
    ssize_t n;

    if (0 != (what & EV_TIMEOUT) && ST_DONE == st->state) {
        event_del(st->wr);
        return;
    }
    if (0 != (what & EV_TIMEOUT)) {
        (void)image_stream_fail(st, "the other side stalls: it took nothing for %ld ms",
                                st->stall.tv_sec * 1000L + st->stall.tv_usec / 1000);
        return;
    }
    if (st->out_pos == st->out_len) {
        st->out_pos = st->out_len = 0;
        if (IMAGE_SOURCE == st->role && 0 > image_send_step(st)) {
            return;
        }
    }
    if (0 == st->out_len) {
        event_del(st->wr);
        return;
    }
    n = send(fd, st->out + st->out_pos, st->out_len - st->out_pos, MSG_NOSIGNAL);
    if (0 <= n) {
        st->out_pos += (size_t)n;
    } else if (EAGAIN != errno && EINTR != errno) {
        if (ST_DONE == st->state) {
            event_del(st->wr); /* our part is done; whether the ACK was heard is the source's matter */
            return;
        }
        lost(st, strerror(errno));
    }
}

image_stream_t *image_stream_new(struct event_base *base, int fd, image_role_t role, const image_stream_conf_t *conf,
                                 const image_stream_cbs_t *cbs, void *arg)
{
    image_stream_t *st = calloc(1, sizeof(*st));
    int err = ENOMEM;

    if (NULL == st) {
        return NULL;
    }
    *st = (image_stream_t){.role = role, .conf = *conf, .cbs = *cbs, .arg = arg, .fd = -1, .file_fd = -1};
    st->stall = (struct timeval){.tv_sec = conf->stall_ms / 1000, .tv_usec = conf->stall_ms % 1000 * 1000};
    st->in = malloc(BUFFER_BYTES);
    st->out = malloc(BUFFER_BYTES);
    st->rd = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, st);
    st->wr = event_new(base, fd, EV_WRITE | EV_PERSIST, on_writable, st);
    if (NULL == st->in || NULL == st->out || NULL == st->rd || NULL == st->wr) {
        goto err_free;
    }
    if (0 != evutil_make_socket_nonblocking(fd) || 0 != image_auth_hello(role, conf->channel, st->hello[role - 1])) {
        err = EIO;
        goto err_free;
    }
    image_stream_put(st, st->hello[role - 1], IMAGE_HELLO_BYTES);
    if (0 != event_add(st->rd, NULL) || 0 != event_add(st->wr, &st->stall)) {
        goto err_free;
    }
    st->fd = fd;
    return st;

err_free:
    image_stream_free(st);
    errno = err;
    return NULL;
}

void image_stream_set_cbs(image_stream_t *st, const image_stream_cbs_t *cbs, void *arg)
{
    st->cbs = *cbs;
    st->arg = arg;
}

image_channel_t image_stream_channel(const image_stream_t *st)
{
    return image_auth_channel(st->hello[IMAGE_SOURCE == st->role ? IMAGE_TARGET - 1 : IMAGE_SOURCE - 1]);
}

int image_stream_take(image_stream_t *st, uint8_t session_key[IMAGE_KEY_BYTES])
{
    const int flags = fcntl(st->fd, F_GETFL);
    int fd = -1;

    if (ST_OPEN != st->state || 0 != st->in_len || 0 > flags || 0 != fcntl(st->fd, F_SETFL, flags & ~O_NONBLOCK)) {
        goto out_free;
    }
    while (st->out_pos < st->out_len) { /* our proof, for which there is always room */
        const ssize_t n = send(st->fd, st->out + st->out_pos, st->out_len - st->out_pos, MSG_NOSIGNAL);

        if (0 >= n) {
            goto out_free;
        }
        st->out_pos += (size_t)n;
    }
    memcpy(session_key, st->session_key, IMAGE_KEY_BYTES);
    fd = st->fd;
    st->fd = -1;
out_free:
    image_stream_free(st);
    return fd;
}

void image_stream_free(image_stream_t *st)
{
    if (NULL == st) {
        return;
    }
    if (NULL != st->rd) {
        event_free(st->rd);
    }
    if (NULL != st->wr) {
        event_free(st->wr);
    }
    if (NULL != st->mac) {
        gnutls_hmac_deinit(st->mac, NULL);
    }
    if (0 <= st->file_fd) {
        close(st->file_fd);
    }
    if (0 <= st->fd) {
        close(st->fd);
    }
    util_names_free(st->names, st->n_names);
    free(st->in);
    free(st->out);
    image_auth_wipe(st->session_key, sizeof(st->session_key));
    image_auth_wipe(st->conf.key, sizeof(st->conf.key));
    free(st);
}
