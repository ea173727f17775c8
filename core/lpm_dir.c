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

/* Somebody else may be removing the same files, and a listing then leaves out some. */
#define PASSES 16

static int open_own(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), saved;
    struct stat st;

    if (0 > fd) {
        return -1;
    }
    if (0 == fstat(fd, &st)) {
        if (geteuid() == st.st_uid) {
            return fd;
        }
        errno = EPERM;
    }
    saved = errno;
    (void)close(fd);
    errno = saved;
    return -1;
}

static int remove_files(const char *path)
{
    struct dirent *entry;
    int fd = open_own(path);
    DIR *dir = (0 > fd) ? NULL : fdopendir(fd);

    if (NULL == dir) {
        if (0 <= fd) {
            (void)close(fd);
        }
        return -1;
    }
    while (NULL != (entry = readdir(dir))) {
        if (0 != strcmp(".", entry->d_name) && 0 != strcmp("..", entry->d_name)) {
            (void)unlinkat(fd, entry->d_name, 0); /* what stays makes the rmdir fail */
        }
    }
    (void)closedir(dir);
    return 0;
}

int lpm_dir_remove(const char *path)
{
    for (int pass = 0; pass < PASSES; ++pass) {
        if (0 != remove_files(path)) {
            return (ENOENT == errno) ? 0 : -1;
        }
        if (0 == rmdir(path) || ENOENT == errno) {
            return 0;
        }
        if (ENOTEMPTY != errno) {
            break;
        }
    }
    return -1;
}
