/*
 * From the process id of mpirun to its control socket.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_TOOLS_FIND_MPIRUN_H
#define LPM_TOOLS_FIND_MPIRUN_H

#include "fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define FIND_BASES_MAX 16

/** Directories below which the session directory may be; no entry twice. Start with all zero. */
typedef struct {
    char *dir[FIND_BASES_MAX];
    int count;
} find_bases_t;

/** What looking for a control socket came to; the higher value says more about the cause. */
typedef enum {
    FIND_NO_SESSION, /**< no session directory of that mpirun */
    FIND_NO_SOCKET,  /**< session directory without control socket */
    FIND_REFUSED,    /**< socket file without a listener */
    FIND_DENIED,     /**< not accessible to us, or not held by the owner of mpirun */
    FIND_TIMED_OUT,  /**< listener takes no connection */
    FIND_FAILED,     /**< any other error: errno */
    FIND_CONNECTED
} find_result_t;

/** Is this the command name (/proc/PID/comm) of Open MPI's launcher, with or without a suffix such as .openmpi? */
bool find_is_launcher(const char *comm);

/**
 * Collect where mpirun may keep its session directory.
 *
 * @param own      our own TMPDIR or NULL
 * @param env      mpirun's environment, strings ended by NUL bytes, @p env_len bytes in all
 * @param cmdline  mpirun's arguments in the same form
 * @param bases    entries are appended; freed by find_bases_clear(), also after a failure
 * @return 0, or -1 when out of memory.
 */
int find_bases_collect(const char *own, const char *env, size_t env_len, const char *cmdline, size_t cmdline_len,
                       find_bases_t *bases);

/** Free the entries. */
void find_bases_clear(find_bases_t *bases);

/**
 * Look for the control socket of mpirun @p pid below one base directory and connect to it.
 *
 * Only directories and listeners of user @p owner are trusted: base directories are often open to all.
 *
 * @param timeout  seconds that the listener has for taking the connection; 0: no limit
 * @param fd       set on FIND_CONNECTED only: a blocking, close-on-exec stream socket, owned by the caller
 */
find_result_t find_control_socket(const char *base, uid_t owner, pid_t pid, double timeout, int *fd);

/**
 * Connect to the mpirun with this process id.
 * @return a socket as in find_control_socket(), or -1 with *fault set.
 */
int find_mpirun(pid_t pid, double timeout, fault_t *fault);

#endif /* LPM_TOOLS_FIND_MPIRUN_H */
