/*
 * userfaultfd(2): filling pages of another process.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "pages_uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lpm_task.h"
#include "trace.h"
#include "util_proc.h"

#define FEATURES                                                                                                       \
    (UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP)

/* CRIU traces the first thread of what it restores; the others are waiting in its code. */
static int if_other(pid_t tid, void *arg)
{
    return tid == *(pid_t *)arg ? 0 : tid;
}

/* Open it there, and take it out. */
static int open_in(pid_t pid, trace_call_t *c, const char **why)
{
    bool failed;
    int64_t theirs = trace_call(c, &failed, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0, 0);
    int pidfd, fd = -1;

    if (failed || 0 > theirs) {
        *why = -EPERM == theirs ? "userfaultfd is not permitted (sysctl vm.unprivileged_userfaultfd)"
                                : "userfaultfd does not work in the process";
        return -1;
    }
    pidfd = util_pidfd_open(pid);
    if (0 <= pidfd) {
        fd = (int)syscall(SYS_pidfd_getfd, pidfd, (int)theirs, 0);
        (void)close(pidfd);
    }
    *why = "the process' userfaultfd cannot be taken";
    if (0 != trace_call(c, &failed, SYS_close, (uint64_t)theirs, 0, 0, 0) && 0 <= fd) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static int register_all(int uffd, const pages_ranges_t *ranges, const char **why)
{
    struct uffdio_api api = {.api = UFFD_API, .features = FEATURES};

    if (0 != ioctl(uffd, UFFDIO_API, &api)) {
        *why = "this kernel's userfaultfd does not report forks and moved mappings, or may not";
        return -1;
    }
    for (size_t i = 0; i < ranges->n; i++) {
        struct uffdio_register reg = {.range = {ranges->r[i].start, ranges->r[i].end - ranges->r[i].start},
                                      .mode = UFFDIO_REGISTER_MODE_MISSING};

        if (0 != ioctl(uffd, UFFDIO_REGISTER, &reg)) {
            *why = "memory that is missing is not registered: the process was restored differently";
            return -1;
        }
    }
    return 0;
}

int uffd_attach(pid_t pid, const pages_ranges_t *ranges, int limit_ms, const char **why)
{
    trace_t t = {.limit_ms = limit_ms};
    trace_call_t c;
    const pid_t tid = lpm_task_each(pid, if_other, &pid);
    int fd = -1;

    *why = "the process has no thread to work with";
    if (0 >= tid || 0 != trace_hold_one(&t, pid, tid)) {
        return -1;
    }
    *why = "the process does not obey";
    if (0 == trace_call_begin(&c, tid, limit_ms)) {
        fd = open_in(pid, &c, why);
        if (0 != trace_call_end(&c) && 0 <= fd) {
            (void)close(fd);
            fd = -1;
            *why = "the process does not obey";
        }
    }
    trace_release(&t);
    if (0 <= fd && 0 != register_all(fd, ranges, why)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static uffd_result_t result_of(int err)
{
    switch (err) {
    case EEXIST: return UFFD_THERE;
    case ESRCH: return UFFD_GONE;
    case ENOENT:
    case EINVAL: return UFFD_NONE; /* not registered, or not private, any more */
    default: return UFFD_LATER;    /* EAGAIN; ENOMEM */
    }
}

uffd_result_t uffd_copy(int uffd, uint64_t to, const void *from, uint64_t bytes, uint64_t *done)
{
    struct uffdio_copy copy = {.dst = to, .src = (uintptr_t)from, .len = bytes};

    *done = 0;
    if (0 == ioctl(uffd, UFFDIO_COPY, &copy)) {
        *done = bytes;
        return UFFD_FILLED;
    }
    if (0 < copy.copy) { /* a part; what keeps it from the rest is said at the next try */
        *done = (uint64_t)copy.copy;
        return UFFD_FILLED;
    }
    return result_of(errno);
}

uffd_result_t uffd_zero(int uffd, uint64_t at)
{
    struct uffdio_zeropage zero = {.range = {at, PAGE_BYTES}};

    return 0 == ioctl(uffd, UFFDIO_ZEROPAGE, &zero) ? UFFD_FILLED : result_of(errno);
}

void uffd_wake(int uffd, uint64_t at, uint64_t bytes)
{
    struct uffdio_range range = {at, bytes};

    (void)ioctl(uffd, UFFDIO_WAKE, &range); /* nobody waits: nothing to do */
}

/* Where a program's memory lies: above what vm.mmap_min_addr may keep free, in the lower half of 48 bits. */
#define USER_START ((uint64_t)1 << 20)
#define USER_END   (((uint64_t)1 << 47) - PAGE_BYTES)

void uffd_wake_all(int uffd)
{
    uffd_wake(uffd, USER_START, USER_END - USER_START);
}
