/*
 * What CRIU's log says went wrong.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include "util_dir.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* Errors stand at the end of the log, and an answer should stay readable. */
#define TAIL_BYTES     (64 * 1024)
#define LINES_MAX      6
#define LINE_MAX_BYTES 300

static bool tells_an_error(const char *line)
{
    /* CRIU wants more descriptors than it may have and goes on with fewer */
    return NULL != strstr(line, "Error (") && NULL == strstr(line, "rlimit: Can't setup RLIMIT_NOFILE");
}

static char *read_tail(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char *text = NULL;
    off_t size;
    ssize_t got;

    if (0 > fd) {
        return NULL;
    }
    size = lseek(fd, 0, SEEK_END);
    text = malloc(TAIL_BYTES + 1);
    if (0 > size || NULL == text) {
        goto err_free;
    }
    got = pread(fd, text, TAIL_BYTES, size > TAIL_BYTES ? size - TAIL_BYTES : 0);
    if (0 > got) {
        goto err_free;
    }
    for (ssize_t i = 0; i < got; i++) {
        if ('\n' != text[i] && (' ' > text[i] || '~' < text[i])) {
            text[i] = '?';
        }
    }
    text[got] = '\0';
    close(fd);
    return text;

err_free:
    free(text);
    close(fd);
    return NULL;
}

char *util_dir_log_errors(const util_dir_t *dir, const char *name)
{
    char *text = read_tail(util_dir_fd(dir), name), *lines[LINES_MAX], *save = NULL, *out;
    size_t n = 0, len = 0;

    if (NULL == text) {
        return NULL;
    }
    for (char *l = strtok_r(text, "\n", &save); NULL != l; l = strtok_r(NULL, "\n", &save)) {
        if (!tells_an_error(l)) {
            continue;
        }
        if (LINES_MAX == n) {
            memmove(&lines[0], &lines[1], (LINES_MAX - 1) * sizeof(lines[0]));
            n--;
        }
        lines[n++] = l;
    }
    out = 0 == n ? NULL : calloc(1, LINES_MAX * (LINE_MAX_BYTES + 1) + 1);
    for (size_t i = 0; NULL != out && i < n; i++) {
        len += (size_t)sprintf(out + len, "%s%.*s", 0 == i ? "" : "\n", LINE_MAX_BYTES, lines[i]);
    }
    free(text);
    return out;
}
