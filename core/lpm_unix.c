/*
 * UNIX stream sockets inside a directory.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_unix.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* sun_path holds 107 bytes; session directories are longer. The way through a descriptor of the directory is short. */
static int address_in(int directory_fd, const char *name, struct sockaddr_un *address)
{
    int n;

    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    n = snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s", directory_fd, name);
    if (0 > n || (size_t)n >= sizeof(address->sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return 0;
}

int lpm_unix_listen(const char *directory, const char *name)
{
    struct sockaddr_un address;
    int directory_fd, fd, saved;

    if (0 > (directory_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC))) {
        return -1;
    }
    if (0 > (fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0))) {
        goto err_close_directory;
    }
    if (0 != address_in(directory_fd, name, &address) || (0 != unlinkat(directory_fd, name, 0) && ENOENT != errno)) {
        goto err_close;
    }
    /* the mode of the descriptor becomes that of the socket file: nobody can connect before a later chmod */
    if (0 != fchmod(fd, S_IRUSR | S_IWUSR) || 0 != bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
        0 != fchmodat(directory_fd, name, S_IRUSR | S_IWUSR, 0) || 0 != listen(fd, SOMAXCONN)) {
        goto err_close;
    }
    (void)close(directory_fd);
    return fd;

err_close:
    saved = errno;
    (void)close(fd);
    errno = saved;
err_close_directory:
    saved = errno;
    (void)close(directory_fd);
    errno = saved;
    return -1;
}

int lpm_unix_connect(const char *path)
{
    struct sockaddr_un address;
    char *for_dirname = strdup(path), *for_basename = strdup(path);
    int directory_fd = -1, fd = -1, saved;

    if (NULL == for_dirname || NULL == for_basename ||
        0 > (directory_fd = open(dirname(for_dirname), O_PATH | O_DIRECTORY | O_CLOEXEC)) ||
        0 != address_in(directory_fd, basename(for_basename), &address) ||
        0 > (fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))) {
        goto out;
    }
    if (0 != connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        saved = errno;
        (void)close(fd);
        errno = saved;
        fd = -1;
    }
out:
    saved = errno;
    if (0 <= directory_fd) {
        (void)close(directory_fd);
    }
    free(for_dirname);
    free(for_basename);
    errno = saved;
    return fd;
}

int lpm_unix_peer(int fd, int *pid, unsigned *uid)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (0 != getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length)) {
        return -1;
    }
    if (NULL != pid) {
        *pid = peer.pid;
    }
    if (NULL != uid) {
        *uid = peer.uid;
    }
    return 0;
}
