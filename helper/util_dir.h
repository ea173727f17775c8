/*
 * The private directory of one migration's images.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef UTIL_DIR_H
#define UTIL_DIR_H

#include <stddef.h>
#include <stdint.h>

typedef struct util_dir util_dir_t;

/**
 * Create a directory, 0700, that did not exist; its parent must exist.
 * @return NULL with errno set.
 */
util_dir_t *util_dir_create(const char *path);

/** Its descriptor, owned by the directory. */
int util_dir_fd(const util_dir_t *dir);

/** Sum of the sizes of its regular files; 0 when it cannot be read. */
uint64_t util_dir_bytes(const util_dir_t *dir);

/** The last lines of CRIU's log @p name that report an error, newline-separated; NULL when there are none. The
 *  caller frees. Lines known to be harmless are left out, bytes that are no printable ASCII become '?'. */
char *util_dir_log_errors(const util_dir_t *dir, const char *name);

/** Remove the directory with all its files (not when LPM_KEEP_IMAGES is set), and free. NULL is accepted.
 *  Warns on stderr of what it could not remove. */
void util_dir_dispose(util_dir_t *dir);

/** Names of the regular files that end in ".img", sorted; @p names is the caller's, free with util_names_free().
 *  @return 0, or -1 with errno set (also EMFILE when there are more than @p max). */
int util_dir_images(int dir_fd, size_t max, char ***names, size_t *n);
void util_names_free(char **names, size_t n);

#endif /* UTIL_DIR_H */
