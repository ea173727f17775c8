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
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lpm_child.h"

/* More descriptors than a restored rank can inherit from us. */
#define KEEP_MAX 16

/* In the new process, which shares no memory with ours: leaves errno in @p report when it cannot become CRIU. */
static void become_criu(const char *program, const char *fd_text, const int *fds, size_t n_fds, int report)
{
    char *const argv[] = {(char *)program, "--no-default-config", "swrk", (char *)fd_text, NULL};
    /* linked before it is needed, not while the rank stands still */
    char *const envp[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
                          "LD_BIND_NOW=1", NULL};
    int err;

    if (0 == lpm_child_descriptors(fds, n_fds) && 0 == lpm_child_signals()) {
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
    int sv[2], report[2], fds[KEEP_MAX + 1], pidfd = -1, err = 0;
    char fd_text[16];
    long pid;
    /* VFORK: we go on when the program is loaded, so its failure to load is known here and now. */
    struct clone_args args = {
        .flags = CLONE_PIDFD | CLONE_VFORK | (sibling ? CLONE_PARENT : 0),
        .pidfd = (uintptr_t)&pidfd,
        .exit_signal = sibling ? 0 : SIGCHLD, /* a sibling inherits ours */
    };

    if (KEEP_MAX < n_keep) {
        errno = EINVAL;
        return -1;
    }
    if (0 != socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv)) {
        return -1;
    }
    if (0 != pipe2(report, O_CLOEXEC | O_NONBLOCK)) {
        err = errno;
        goto err_close_sockets;
    }
    snprintf(fd_text, sizeof(fd_text), "%d", sv[1]);
    fds[0] = sv[1];
    for (size_t i = 0; i < n_keep; i++) {
        fds[i + 1] = keep[i];
    }
    pid = syscall(SYS_clone3, &args, sizeof(args));
    if (0 == pid) {
        become_criu(program, fd_text, fds, n_keep + 1, report[1]);
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
    *out = (criu_process_t){.pid = (pid_t)pid, .pidfd = pidfd, .rpc = sv[0]};
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
