/*
 * Starting CRIU's worker process.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include "criu_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int keep_open(int fd)
{
    int flags = fcntl(fd, F_GETFD);

    return 0 > flags ? -1 : fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
}

static int only_these_descriptors(int rpc, const int *keep, size_t n_keep)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (0 > null) {
        return -1;
    }
    for (int i = 0; i < 3; i++) {
        if (0 > dup2(null, i)) {
            return -1;
        }
    }
    if (0 != close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) || 0 != keep_open(rpc)) {
        return -1;
    }
    for (size_t i = 0; i < n_keep; i++) {
        if (0 != keep_open(keep[i])) {
            return -1;
        }
    }
    return 0;
}

static int default_signals(void)
{
    struct sigaction sa = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++) {
        /* fails for KILL, STOP and the C library's own: nothing to reset there */
        (void) sigaction(sig, &sa, NULL);
    }
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the new process, which shares no memory with ours: leaves errno in @p report when it cannot become CRIU. */
static void become_criu(const char *program, const char *fd_text, int rpc, const int *keep, size_t n_keep, int report)
{
    char *const argv[] = {(char *) program, "--no-default-config", "swrk", (char *) fd_text, NULL};
    char *const envp[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
    int err;

    if (0 == only_these_descriptors(rpc, keep, n_keep) && 0 == default_signals()) {
        execve(program, argv, envp);
    }
    err = errno;
    if (sizeof(err) != write(report, &err, sizeof(err))) {
        _exit(126);
    }
    _exit(127);
}

int criu_spawn(const char *program, bool sibling, const int *keep, size_t n_keep, criu_process_t *out)
{
    int sv[2], report[2], pidfd = -1, err = 0;
    char fd_text[16];
    long pid;
    /* VFORK: we go on when the program is loaded, so its failure to load is known here and now. */
    struct clone_args args = {
        .flags = CLONE_PIDFD | CLONE_VFORK | (sibling ? CLONE_PARENT : 0),
        .pidfd = (uintptr_t) &pidfd,
        .exit_signal = sibling ? 0 : SIGCHLD, /* a sibling inherits ours */
    };

    if (0 != socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv)) {
        return -1;
    }
    if (0 != pipe2(report, O_CLOEXEC | O_NONBLOCK)) {
        err = errno;
        goto err_close_sockets;
    }
    snprintf(fd_text, sizeof(fd_text), "%d", sv[1]);
    pid = syscall(SYS_clone3, &args, sizeof(args));
    if (0 == pid) {
        become_criu(program, fd_text, sv[1], keep, n_keep, report[1]);
    }
    if (0 > pid) {
        err = errno;
        goto err_close_report;
    }
    if (sizeof(err) == read(report[0], &err, sizeof(err)) || 0 != fcntl(sv[0], F_SETFL, O_NONBLOCK)) {
        err = 0 != err ? err : errno;
        goto err_close_pidfd;
    }
    close(report[0]);
    close(report[1]);
    close(sv[1]);
    *out = (criu_process_t){.pid = (pid_t) pid, .pidfd = pidfd, .rpc = sv[0]};
    return 0;

err_close_pidfd:
    close(pidfd);
err_close_report:
    close(report[0]);
    close(report[1]);
err_close_sockets:
    close(sv[0]);
    close(sv[1]);
    errno = err;
    return -1;
}
