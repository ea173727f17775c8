/*
 * To be preloaded into stock criu: a pipe that may not become as large as it asks for becomes as large as permitted.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * `criu dump --lazy-pages` makes a pipe of 4 MiB, and does not go on when it cannot, which is so for a root without
 * CAP_SYS_RESOURCE where fs.pipe-max-size is less. Its other pipes are not larger than that limit then, and this one
 * has to take what is in one of them. Those grow step by step: that one cannot is a fact that criu has to know. Where
 * the pipe can be made nothing is changed.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

typedef int fcntl_fn_t(int fd, int command, ...);

static int pipe_max_size(void)
{
    FILE *file = fopen("/proc/sys/fs/pipe-max-size", "r");
    int bytes = 0;

    if (NULL != file) {
        if (1 != fscanf(file, "%d", &bytes)) {
            bytes = 0;
        }
        (void)fclose(file);
    }
    return bytes;
}

static int call(const char *name, int fd, int command, void *argument)
{
    fcntl_fn_t *stock = (fcntl_fn_t *)dlsym(RTLD_NEXT, name);
    int rc = stock(fd, command, argument), most;
    const int error = errno;

    if (F_SETPIPE_SZ == command && 0 > rc && EPERM == error && (most = pipe_max_size()) > stock(fd, F_GETPIPE_SZ)) {
        return stock(fd, command, most);
    }
    errno = error;
    return rc;
}

#define WRAPPER(name)                                                                                                  \
    int name(int fd, int command, ...)                                                                                 \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        void *argument;                                                                                                \
                                                                                                                       \
        va_start(args, command);                                                                                       \
        argument = va_arg(args, void *);                                                                               \
        va_end(args);                                                                                                  \
        return call(#name, fd, command, argument);                                                                     \
    }

WRAPPER(fcntl)
WRAPPER(fcntl64)
