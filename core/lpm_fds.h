/*
 * Handing descriptors to another process over a UNIX socket, each pair with a number that says what it is.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_FDS_H
#define LPM_FDS_H

#include <stdint.h>

/** A pair of connected sockets that keep messages apart; close-on-exec. @return 0, or -1 with errno set */
int lpm_fds_pair(int ends[2]);

/** Send two descriptors, which stay the caller's. @return 0, or -1 with errno set (EAGAIN: not now) */
int lpm_fds_send(int socket, uint32_t number, int one, int other);

/**
 * Take the next two, if any; they are the caller's, close-on-exec.
 * @return 1; 0: there are none now; -1 with errno set: something else has come, or the other end is closed
 */
int lpm_fds_receive(int socket, uint32_t *number, int *one, int *other);

#endif /* LPM_FDS_H */
