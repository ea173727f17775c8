/*
 * Becoming another program in a clean state.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_child.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

int lpm_child_descriptors(const int *keep, size_t n_keep)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (0 > null) {
        return -1;
    }
    for (int fd = 0; fd < 3; ++fd) {
        if (0 > dup2(null, fd)) {
            return -1;
        }
    }
    /* by number: the call is older than its wrapper on some systems */
    if (0 != syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC)) {
        return -1;
    }
    for (size_t i = 0; i < n_keep; ++i) {
        int flags = fcntl(keep[i], F_GETFD);

        if (0 > flags || 0 != fcntl(keep[i], F_SETFD, flags & ~FD_CLOEXEC)) {
            return -1;
        }
    }
    return 0;
}

int lpm_child_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int sig = 1; sig < NSIG; ++sig) {
        /* fails for KILL, STOP and the C library's own: nothing to reset there */
        (void)sigaction(sig, &action, NULL);
    }
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL);
}
