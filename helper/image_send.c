/*
 * The source's half of the image stream.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image_stream_int.h"
#include "util_dir.h"
#include "util_proc.h"

static int add_up(image_stream_t *st)
{
    struct stat s;

    for (size_t i = 0; i < st->n_names; i++) {
        if (0 != fstatat(st->conf.dir_fd, st->names[i], &s, AT_SYMLINK_NOFOLLOW)) {
            return -1;
        }
        st->plan.bytes += (uint64_t)s.st_size;
    }
    st->plan.files = (uint32_t)st->n_names;
    if (IMAGE_SIZE_MAX < st->plan.bytes) {
        errno = EFBIG;
        return -1;
    }
    return 0;
}

int image_stream_send(image_stream_t *st, pid_t pid)
{
    if (IMAGE_SOURCE != st->role || ST_OPEN != st->state) {
        errno = EINVAL;
        return -1;
    }
    st->plan.pid = pid;
    st->since = util_now_ms();
    if (0 != util_dir_images(st->conf.dir_fd, IMAGE_FILES_MAX, &st->names, &st->n_names) || 0 != add_up(st)) {
        return -1;
    }
    if (0 != event_add(st->wr, &st->stall)) {
        errno = ENOMEM;
        return -1;
    }
    return 0;
}

static int send_bound(image_stream_t *st, frame_type_t type, uint64_t number)
{
    frame_head_t head = {.type = (uint8_t)type, .count = st->plan.files, .number = number, .size = st->plan.bytes};

    if (0 > image_stream_put_head(st, &head, "")) {
        return -1;
    }
    image_stream_put_mac(st);
    return 1;
}

static int start_file(image_stream_t *st)
{
    const char *name = st->names[st->seen.files];
    frame_head_t head = {.type = FRAME_FILE, .name_len = (uint8_t)strlen(name), .number = st->seen.files};
    struct stat s;

    st->file_fd = openat(st->conf.dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (0 > st->file_fd || 0 != fstat(st->file_fd, &s)) {
        return image_stream_fail(st, "cannot read image %s: %s", name, strerror(errno));
    }
    head.size = st->left = (uint64_t)s.st_size;
    st->state = ST_CONTENT;
    return image_stream_put_head(st, &head, name);
}

static int end_file(image_stream_t *st)
{
    close(st->file_fd);
    st->file_fd = -1;
    st->seen.files++;
    st->state = ST_FILE;
    image_stream_put_mac(st);
    return 1;
}

static int some_content(image_stream_t *st)
{
    size_t want = st->left < PIECE_BYTES - st->out_len ? (size_t)st->left : PIECE_BYTES - st->out_len;
    ssize_t n = read(st->file_fd, st->out + st->out_len, want);

    if (0 >= n) {
        return image_stream_fail(st, "cannot read image %s: %s", st->names[st->seen.files],
                                 0 == n ? "it became shorter" : strerror(errno));
    }
    if (0 != gnutls_hmac(st->mac, st->out + st->out_len, (size_t)n)) {
        return image_stream_fail(st, "HMAC failed");
    }
    st->out_len += (size_t)n;
    st->left -= (uint64_t)n;
    st->seen.bytes += (uint64_t)n;
    return 1;
}

/* The next thing in order, however small. */
static int next_piece(image_stream_t *st)
{
    switch (st->state) {
    case ST_OPEN:
        if (NULL == st->names) {
            return 0;
        }
        st->state = ST_FILE;
        return send_bound(st, FRAME_BEGIN, (uint64_t)st->plan.pid);
    case ST_FILE:
        if (st->seen.files < st->plan.files) {
            return start_file(st);
        }
        st->state = ST_ACK;
        if (0 > send_bound(st, FRAME_END, 0) || 0 > image_stream_watch_input(st, true)) {
            return -1;
        }
        return 0;
    case ST_CONTENT: return 0 == st->left ? end_file(st) : some_content(st);
    default: return 0;
    }
}

int image_send_step(image_stream_t *st)
{
    int rc = 1;

    /* many images are tiny: gather them into one write, and leave room for the largest head and an HMAC */
    while (0 < rc && PIECE_BYTES > st->out_len) {
        rc = next_piece(st);
    }
    return rc;
}

int image_send_input(image_stream_t *st)
{
    frame_head_t head;

    if (0 == st->in_len) {
        return 0;
    }
    if (ST_ACK != st->state) {
        return image_stream_fail(st, "the target speaks out of turn");
    }
    if (FRAME_HEAD_BYTES + IMAGE_MAC_BYTES > st->in_len) {
        return 0;
    }
    if (0 != image_frame_parse(st->in, &head) || 0 != gnutls_hmac(st->mac, st->in, FRAME_HEAD_BYTES)) {
        return image_stream_fail(st, "the target's acknowledgement is malformed");
    }
    image_stream_eat(st, FRAME_HEAD_BYTES);
    if (!image_stream_mac_matches(st) || FRAME_ACK != head.type || st->plan.files != head.count ||
        st->plan.bytes != head.size || 0 != head.number || 0 != head.name_len) {
        return image_stream_fail(st, "the target acknowledges something else than what was sent");
    }
    st->seen.pid = st->plan.pid;
    return image_stream_done(st);
}
