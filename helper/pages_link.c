/*
 * One connection of the page channel, as its thread uses it.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "pages_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(WIRE_PAGES_MAX * 4096 <= LINK_CONTENT_BYTES, "DATA fits");
_Static_assert(WIRE_RUNS_MAX *WIRE_RUN_BYTES <= LINK_CONTENT_BYTES, "MAP fits");

int pages_link_open(pages_link_t *link, image_stream_t *st)
{
    uint8_t key[IMAGE_KEY_BYTES];

    link->fd = image_stream_take(st, key);
    if (0 > link->fd) {
        return -1;
    }
    memcpy(&link->seed, key, sizeof(link->seed));
    image_auth_wipe(key, sizeof(key));
    if (NULL == link->content) {
        link->content = mmap(NULL, LINK_CONTENT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (MAP_FAILED == (void *)link->content) {
        link->content = NULL;
        pages_link_close(link);
        return -1;
    }
    return 0;
}

void pages_link_shut(const pages_link_t *link)
{
    if (0 <= link->fd) {
        (void)shutdown(link->fd, SHUT_RDWR); /* fails for one that has broken, which is what is wanted */
    }
}

void pages_link_close(pages_link_t *link)
{
    if (0 <= link->fd) {
        (void)close(link->fd);
        link->fd = -1;
    }
    if (NULL != link->content) {
        (void)munmap(link->content, LINK_CONTENT_BYTES);
        link->content = NULL;
    }
}

static int receive_all(int fd, uint8_t *to, size_t n)
{
    while (0 < n) {
        const ssize_t got = recv(fd, to, n, MSG_WAITALL);

        if (0 == got || (0 > got && EINTR != errno)) {
            return -1;
        }
        if (0 < got) {
            to += got;
            n -= (size_t)got;
        }
    }
    return 0;
}

int pages_link_receive(pages_link_t *link, int to_source, wire_head_t *head)
{
    if (0 != receive_all(link->fd, link->head, sizeof(link->head)) || 0 != wire_parse(link->head, to_source, head) ||
        0 != receive_all(link->fd, link->content, wire_content_bytes(head))) {
        return -1;
    }
    return wire_check(link->head, head, link->content, link->seed) ? 0 : -1;
}

int pages_link_send(pages_link_t *link, const wire_head_t *head)
{
    const size_t content = wire_content_bytes(head);
    struct iovec parts[2] = {{link->head, sizeof(link->head)}, {link->content, content}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 0 == content ? 1 : 2};
    size_t left = sizeof(link->head) + content;

    wire_build(link->head, head, link->content, link->seed);
    while (0 < left) {
        ssize_t sent = sendmsg(link->fd, &message, MSG_NOSIGNAL);

        if (0 > sent && EINTR == errno) {
            continue;
        }
        if (0 >= sent) {
            return -1;
        }
        left -= (size_t)sent;
        for (size_t i = 0; i < 2; i++) {
            const size_t part = (size_t)sent < parts[i].iov_len ? (size_t)sent : parts[i].iov_len;

            parts[i].iov_base = (uint8_t *)parts[i].iov_base + part;
            parts[i].iov_len -= part;
            sent -= (ssize_t)part;
        }
    }
    return 0;
}
