/*
 * Removing a directory of plain files.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int lpm_dir_remove(const char *path)
{
    struct dirent *entry;
    struct stat st;
    DIR *dir;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), saved;

    if (0 > fd) {
        return (ENOENT == errno) ? 0 : -1;
    }
    if (0 != fstat(fd, &st)) {
        goto err_close;
    }
    if (geteuid() != st.st_uid) {
        errno = EPERM;
        goto err_close;
    }
    if (NULL == (dir = fdopendir(fd))) {
        goto err_close;
    }
    while (NULL != (entry = readdir(dir))) {
        if (0 != strcmp(".", entry->d_name) && 0 != strcmp("..", entry->d_name)) {
            (void)unlinkat(fd, entry->d_name, 0); /* what stays makes the rmdir fail */
        }
    }
    (void)closedir(dir);
    return (0 == rmdir(path) || ENOENT == errno) ? 0 : -1;

err_close:
    saved = errno;
    (void)close(fd);
    errno = saved;
    return -1;
}
