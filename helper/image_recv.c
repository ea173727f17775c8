/*
 * The target's half of the image stream.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "image_stream_int.h"
#include "util_proc.h"

static int check_space(image_stream_t *st)
{
    struct statvfs vfs;
    uint64_t room;

    if (0 != fstatvfs(st->conf.dir_fd, &vfs)) {
        return image_stream_fail(st, "cannot see how much room there is for the images: %s", strerror(errno));
    }
    room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    if (st->plan.bytes > room) {
        return image_stream_fail(st, "no room for the images: they take %llu bytes, %llu are free",
                                 (unsigned long long)st->plan.bytes, (unsigned long long)room);
    }
    return 1;
}

static int take_begin(image_stream_t *st, const frame_head_t *head)
{
    if (FRAME_BEGIN != head->type || 0 != head->name_len || IMAGE_FILES_MAX < head->count ||
        IMAGE_SIZE_MAX < head->size || 1 > head->number || INT_MAX < head->number) {
        return image_stream_fail(st, "malformed announcement of the images");
    }
    st->plan = (image_summary_t){.files = head->count, .bytes = head->size, .pid = (pid_t)head->number};
    st->seen.pid = st->plan.pid;
    st->state = ST_FILE;
    return check_space(st);
}

static int take_end(image_stream_t *st, const frame_head_t *head)
{
    frame_head_t ack = {.type = FRAME_ACK, .count = st->plan.files, .size = st->plan.bytes};

    if (0 != head->name_len || 0 != head->number || st->seen.files != head->count || st->seen.bytes != head->size ||
        st->plan.files != head->count || st->plan.bytes != head->size) {
        return image_stream_fail(st, "the images' sums do not match");
    }
    if (0 > image_stream_put_head(st, &ack, "")) {
        return -1;
    }
    image_stream_put_mac(st);
    if (0 > image_stream_want_output(st)) {
        return -1;
    }
    return image_stream_done(st);
}

/* A frame without content: its HMAC follows at once. */
static int take_bound(image_stream_t *st, const frame_head_t *head)
{
    if (0 != head->name_len) {
        return image_stream_fail(st, "malformed frame");
    }
    if (FRAME_HEAD_BYTES + IMAGE_MAC_BYTES > st->in_len) {
        return 0;
    }
    if (0 != gnutls_hmac(st->mac, st->in, FRAME_HEAD_BYTES)) {
        return image_stream_fail(st, "HMAC failed");
    }
    image_stream_eat(st, FRAME_HEAD_BYTES);
    if (!image_stream_mac_matches(st)) {
        return image_stream_fail(st, "HMAC of a frame does not match");
    }
    return ST_OPEN == st->state ? take_begin(st, head) : take_end(st, head);
}

static bool name_is_safe(const char *name, size_t len)
{
    return 0 < len && len == strlen(name) && NULL == strchr(name, '/') && 0 != strcmp(name, ".") &&
           0 != strcmp(name, "..");
}

static int take_file(image_stream_t *st, const frame_head_t *head)
{
    size_t len = FRAME_HEAD_BYTES + (size_t)head->name_len;

    if (len > st->in_len) {
        return 0;
    }
    memcpy(st->name, st->in + FRAME_HEAD_BYTES, head->name_len);
    st->name[head->name_len] = '\0';
    if (0 != head->count || head->number != st->seen.files || st->seen.files >= st->plan.files ||
        head->size > st->plan.bytes - st->seen.bytes || !name_is_safe(st->name, head->name_len)) {
        return image_stream_fail(st, "malformed or unannounced file");
    }
    if (0 != gnutls_hmac(st->mac, st->in, len)) {
        return image_stream_fail(st, "HMAC failed");
    }
    image_stream_eat(st, len);
    st->file_fd = openat(st->conf.dir_fd, st->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (0 > st->file_fd) {
        return image_stream_fail(st, "cannot create image %s: %s", st->name, strerror(errno));
    }
    st->left = head->size;
    st->state = ST_CONTENT;
    return 1;
}

static int take_head(image_stream_t *st)
{
    frame_head_t head;

    if (FRAME_HEAD_BYTES > st->in_len) {
        return 0;
    }
    if (0 != image_frame_parse(st->in, &head)) {
        return image_stream_fail(st, "malformed frame");
    }
    if (FRAME_FILE == head.type && ST_FILE == st->state) {
        return take_file(st, &head);
    }
    if (FRAME_END == head.type && ST_FILE == st->state) {
        return take_bound(st, &head);
    }
    if (FRAME_BEGIN == head.type && ST_OPEN == st->state) {
        return take_bound(st, &head);
    }
    return image_stream_fail(st, "frame out of turn");
}

static int take_content(image_stream_t *st)
{
    size_t n = st->left < st->in_len ? (size_t)st->left : st->in_len;
    ssize_t put;

    if (0 == st->left) {
        st->state = ST_MAC;
        return 1;
    }
    if (0 == n) {
        return 0;
    }
    put = write(st->file_fd, st->in, n);
    if (0 >= put) {
        return image_stream_fail(st, "cannot write image %s: %s", st->name, strerror(errno));
    }
    if (0 != gnutls_hmac(st->mac, st->in, (size_t)put)) {
        return image_stream_fail(st, "HMAC failed");
    }
    image_stream_eat(st, (size_t)put);
    st->left -= (uint64_t)put;
    st->seen.bytes += (uint64_t)put;
    return 1;
}

static int take_mac(image_stream_t *st)
{
    int fd = st->file_fd;

    if (IMAGE_MAC_BYTES > st->in_len) {
        return 0;
    }
    if (!image_stream_mac_matches(st)) {
        return image_stream_fail(st, "HMAC of image %s does not match", st->name);
    }
    st->file_fd = -1;
    if (0 != close(fd)) { /* a network file system tells of a full disk here */
        return image_stream_fail(st, "cannot write image %s: %s", st->name, strerror(errno));
    }
    st->seen.files++;
    st->state = ST_FILE;
    return 1;
}

int image_recv_input(image_stream_t *st)
{
    switch (st->state) {
    case ST_OPEN:
        /* idle until here: from the first byte on the transfer has its time limit */
        if (0 < st->in_len) {
            st->since = util_now_ms();
            if (0 > image_stream_watch_input(st, true)) {
                return -1;
            }
        }
        return take_head(st);
    case ST_FILE: return take_head(st);
    case ST_CONTENT: return take_content(st);
    case ST_MAC: return take_mac(st);
    default: return 0;
    }
}
