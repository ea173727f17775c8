/*
 * Handing descriptors to another process over a UNIX socket.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_fds.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAIR 2

typedef union {
    struct cmsghdr align;
    char room[CMSG_SPACE(PAIR * sizeof(int))];
} control_t;

int lpm_fds_pair(int ends[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

int lpm_fds_send(int socket, uint32_t number, int one, int other)
{
    const int fds[PAIR] = {one, other};
    struct iovec part = {&number, sizeof(number)};
    control_t control = {.room = {0}};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(head), fds, sizeof(fds));
    return (ssize_t)sizeof(number) == sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) ? 0 : -1;
}

/* What has come and is not wanted would stay open for ever. */
static void close_fds(const struct cmsghdr *head)
{
    for (size_t at = CMSG_LEN(0); NULL != head && at + sizeof(int) <= head->cmsg_len; at += sizeof(int)) {
        int fd;

        memcpy(&fd, (const char *)head + at, sizeof(fd));
        (void)close(fd);
    }
}

int lpm_fds_receive(int socket, uint32_t *number, int *one, int *other)
{
    int fds[PAIR] = {-1, -1};
    struct iovec part = {number, sizeof(*number)};
    control_t control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};
    const ssize_t n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    const struct cmsghdr *head;

    if (0 > n) {
        return EAGAIN == errno || EINTR == errno ? 0 : -1;
    }
    head = CMSG_FIRSTHDR(&message);
    if (NULL != head && (SOL_SOCKET != head->cmsg_level || SCM_RIGHTS != head->cmsg_type)) {
        errno = EPROTO;
        return -1;
    }
    if ((ssize_t)sizeof(*number) != n || NULL == head || CMSG_LEN(sizeof(fds)) != head->cmsg_len ||
        0 != (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) { /* more data, or more descriptors, than a pair has */
        close_fds(head);
        errno = 0 == n && NULL == head ? EPIPE : EPROTO;
        return -1;
    }
    memcpy(fds, CMSG_DATA(head), sizeof(fds));
    *one = fds[0];
    *other = fds[1];
    return 1;
}
