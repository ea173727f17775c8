/*
 * UNIX stream sockets inside a directory, however long its path is.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_UNIX_H
#define LPM_UNIX_H

/**
 * Listen on @p name in @p directory: mode 0600, close-on-exec, non-blocking. A socket of that name that is left over
 * is replaced. Any thread.
 * @return the descriptor, or -1 with errno set.
 */
int lpm_unix_listen(const char *directory, const char *name);

/**
 * Connect to the socket at @p path (blocking, close-on-exec). Any thread.
 * @return the descriptor, or -1 with errno set.
 */
int lpm_unix_connect(const char *path);

/** Who is at the other end? @return 0, or -1 with errno set. Outputs may be NULL. */
int lpm_unix_peer(int fd, int *pid, unsigned *uid);

#endif /* LPM_UNIX_H */
