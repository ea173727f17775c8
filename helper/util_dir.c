/*
 * The private directory of one migration's images.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include "util_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct util_dir {
    char *path;
    int fd;
};

util_dir_t *util_dir_create(const char *path)
{
    util_dir_t *dir = calloc(1, sizeof(*dir));
    struct stat st;
    int err;

    if (NULL == dir) {
        return NULL;
    }
    dir->path = strdup(path);
    if (NULL == dir->path || 0 != mkdir(path, 0700)) {
        err = NULL == dir->path ? ENOMEM : errno;
        goto err_free;
    }
    dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (0 > dir->fd) {
        err = errno;
        goto err_rmdir;
    }
    /* somebody may have put another one in its place between the two calls */
    if (0 != fstat(dir->fd, &st) || st.st_uid != geteuid() || 0700 != (st.st_mode & 07777)) {
        err = EPERM;
        goto err_close;
    }
    return dir;

err_close:
    close(dir->fd);
err_rmdir:
    if (0 != rmdir(path)) {
        fprintf(stderr, "lpm-helper: cannot remove %s: %s\n", path, strerror(errno));
    }
err_free:
    free(dir->path);
    free(dir);
    errno = err;
    return NULL;
}

int util_dir_fd(const util_dir_t *dir)
{
    return dir->fd;
}

/* A stream of its own: the descriptor we hold keeps its position. */
static DIR *list(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = 0 > fd ? NULL : fdopendir(fd);

    if (NULL == d && 0 <= fd) {
        close(fd);
    }
    return d;
}

uint64_t util_dir_bytes(const util_dir_t *dir)
{
    uint64_t sum = 0;
    struct dirent *e;
    struct stat st;
    DIR *d = list(dir->fd);

    while (NULL != d && NULL != (e = readdir(d))) {
        if (0 == fstatat(dir->fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode)) {
            sum += (uint64_t)st.st_size;
        }
    }
    if (NULL != d) {
        closedir(d);
    }
    return sum;
}

void util_dir_dispose(util_dir_t *dir)
{
    struct dirent *e;
    DIR *d;

    if (NULL == dir) {
        return;
    }
    if (NULL == getenv("LPM_KEEP_IMAGES")) {
        d = list(dir->fd);
        while (NULL != d && NULL != (e = readdir(d))) {
            if (0 != strcmp(e->d_name, ".") && 0 != strcmp(e->d_name, "..") && 0 != unlinkat(dir->fd, e->d_name, 0)) {
                fprintf(stderr, "lpm-helper: cannot remove %s/%s: %s\n", dir->path, e->d_name, strerror(errno));
            }
        }
        if (NULL != d) {
            closedir(d);
        }
        if (0 != rmdir(dir->path)) {
            fprintf(stderr, "lpm-helper: cannot remove %s: %s\n", dir->path, strerror(errno));
        }
    }
    close(dir->fd);
    free(dir->path);
    free(dir);
}

static bool is_image(int dir_fd, const char *name)
{
    size_t len = strlen(name);
    struct stat st;

    return 4 < len && 0 == strcmp(name + len - 4, ".img") && 0 == fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) &&
           S_ISREG(st.st_mode);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int util_dir_images(int dir_fd, size_t max, char ***names, size_t *n)
{
    char **all = calloc(max, sizeof(*all));
    DIR *d = list(dir_fd);
    struct dirent *e;
    size_t count = 0;
    int err = NULL == all ? ENOMEM : errno;

    if (NULL == all || NULL == d) {
        goto err_free;
    }
    while (NULL != (e = readdir(d))) {
        if (!is_image(dir_fd, e->d_name)) {
            continue;
        }
        if (count == max || NULL == (all[count] = strdup(e->d_name))) {
            err = count == max ? EMFILE : ENOMEM;
            goto err_free;
        }
        count++;
    }
    closedir(d);
    qsort(all, count, sizeof(*all), by_name);
    *names = all;
    *n = count;
    return 0;

err_free:
    if (NULL != d) {
        closedir(d);
    }
    util_names_free(all, count);
    errno = err;
    return -1;
}

void util_names_free(char **names, size_t n)
{
    for (size_t i = 0; NULL != names && i < n; i++) {
        free(names[i]);
    }
    free(names);
}
