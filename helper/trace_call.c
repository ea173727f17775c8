/*
 * System calls made by a thread of another process. The only part that knows the processor.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trace.h"
#include "trace_int.h"

int64_t trace_call(trace_call_t *c, bool *failed, long nr, uint64_t a, uint64_t b, uint64_t d, uint64_t e)
{
    if (0 != trace_call_start(c, nr, a, b, d, e)) {
        *failed = true;
        return -errno;
    }
    return trace_call_finish(c, failed);
}

#ifdef __x86_64__

_Static_assert(sizeof(((trace_call_t *)0)->regs) == sizeof(struct user_regs_struct), "all registers fit");

#define MASK_BYTES 8 /* of the kernel's signal sets */
#define CODE_BYTES 4096

/* mov $SYS_pause, %eax; syscall; jmp to the start */
static const uint8_t sleeper[] = {0xb8, SYS_pause, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7};
static const char name[] = "lpm-holder";
static const uint8_t syscall_code[] = {0x0f, 0x05};

static bool is_syscall(pid_t tid, uint64_t at)
{
    uint8_t code[sizeof(syscall_code)];
    struct iovec mine = {code, sizeof(code)}, theirs = {(void *)at, sizeof(code)};

    return sizeof(code) == process_vm_readv(tid, &mine, 1, &theirs, 1, 0) &&
           0 == memcmp(code, syscall_code, sizeof(code));
}

/* The kernel's code page in the process has some, as fallbacks. */
static uint64_t find_in_vdso(pid_t tid)
{
    static uint8_t page[16384];
    char path[64], line[512];
    unsigned long low = 0, high = 0;
    uint64_t found = 0;
    FILE *maps;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)tid);
    maps = fopen(path, "re");
    while (NULL != maps && NULL != fgets(line, sizeof(line), maps)) {
        if (NULL != strstr(line, "[vdso]") && 2 == sscanf(line, "%lx-%lx", &low, &high)) {
            break;
        }
    }
    if (NULL != maps) {
        (void)fclose(maps);
    }
    struct iovec mine = {page, sizeof(page)}, theirs = {(void *)low, high - low};
    ssize_t n = 0 == low ? 0 : process_vm_readv(tid, &mine, 1, &theirs, 1, 0);

    for (ssize_t i = 0; 0 == found && i + 1 < n; i++) {
        found = 0 == memcmp(page + i, syscall_code, sizeof(syscall_code)) ? low + (uint64_t)i : 0;
    }
    return found;
}

int trace_stack(const trace_t *t, size_t i, uint64_t *stack, uint64_t *tls)
{
    struct user_regs_struct regs;

    if (0 != ptrace(PTRACE_GETREGS, t->tids[i], NULL, &regs)) {
        return -1;
    }
    *stack = regs.rsp;
    *tls = regs.fs_base;
    return 0;
}

int trace_call_begin(trace_call_t *c, pid_t tid, int limit_ms)
{
    struct user_regs_struct regs;
    uint64_t all = ~(uint64_t)0;

    if (0 != ptrace(PTRACE_GETREGS, tid, NULL, &regs) ||
        0 != ptrace(PTRACE_GETSIGMASK, tid, (void *)MASK_BYTES, &c->mask)) {
        return -1;
    }
    c->tid = tid;
    c->child = 0;
    c->limit_ms = limit_ms;
    memcpy(c->regs, &regs, sizeof(regs));
    c->syscall_at = regs.rip - sizeof(syscall_code); /* mostly it is inside a system call */
    if (!is_syscall(tid, c->syscall_at)) {
        c->syscall_at = find_in_vdso(tid);
    }
    if (0 == c->syscall_at) {
        errno = ENOEXEC;
        return -1;
    }
    /* a signal would be handled in the midst of it all */
    return (int)ptrace(PTRACE_SETSIGMASK, tid, (void *)MASK_BYTES, &all);
}

/* On to the next stop in or out of the kernel; if need be over the event of a new child. */
static int arrive(trace_call_t *c)
{
    unsigned long child;
    int status;

    for (;;) {
        if (0 != trace_wait(c->tid, c->limit_ms, &status)) {
            return -1;
        }
        if ((SIGTRAP | 0x80) == WSTOPSIG(status)) {
            return 0;
        }
        if (PTRACE_EVENT_FORK == status >> 16 && 0 == ptrace(PTRACE_GETEVENTMSG, c->tid, NULL, &child)) {
            c->child = (pid_t)child;
        } else if (PTRACE_EVENT_STOP != status >> 16) {
            errno = EINTR; /* nothing but a fatal signal gets through */
            return -1;
        }
        if (0 != ptrace(PTRACE_SYSCALL, c->tid, NULL, NULL)) {
            return -1;
        }
    }
}

int trace_call_start(trace_call_t *c, long nr, uint64_t a, uint64_t b, uint64_t d, uint64_t e)
{
    struct user_regs_struct regs;

    memcpy(&regs, c->regs, sizeof(regs));
    regs.rip = c->syscall_at;
    regs.rax = (uint64_t)nr;
    regs.orig_rax = (uint64_t)-1; /* so that the kernel does not restart what it had been doing */
    regs.rdi = a;
    regs.rsi = b;
    regs.rdx = d;
    regs.r10 = e;
    regs.r8 = regs.r9 = 0;
    c->child = 0;
    return 0 != ptrace(PTRACE_SETREGS, c->tid, NULL, &regs) || 0 != ptrace(PTRACE_SYSCALL, c->tid, NULL, NULL) ||
                   0 != arrive(c) || 0 != ptrace(PTRACE_SYSCALL, c->tid, NULL, NULL)
               ? -1
               : 0;
}

int64_t trace_call_finish(trace_call_t *c, bool *failed)
{
    struct user_regs_struct regs;

    *failed = 0 != arrive(c) || 0 != ptrace(PTRACE_GETREGS, c->tid, NULL, &regs);
    return *failed ? -errno : (int64_t)regs.rax;
}

int trace_call_end(trace_call_t *c)
{
    return 0 == ptrace(PTRACE_SETREGS, c->tid, NULL, c->regs) &&
                   0 == ptrace(PTRACE_SETSIGMASK, c->tid, (void *)MASK_BYTES, &c->mask)
               ? 0
               : -1;
}

static int write_text(pid_t child, uint64_t at, const void *text, size_t n)
{
    for (size_t i = 0; i < n; i += sizeof(long)) {
        long word = 0;

        memcpy(&word, (const char *)text + i, n - i < sizeof(word) ? n - i : sizeof(word));
        if (0 != ptrace(PTRACE_POKETEXT, child, (void *)(at + i), (void *)word)) {
            return -1;
        }
    }
    return 0;
}

/*
 * What a process needs that is to be nothing but memory: a name of its own, no terminal's signals, no descriptors, no
 * life without its parent, and code to sleep in.
 */
static int strip(trace_call_t *c, uint64_t *code)
{
    const uint64_t name_at = CODE_BYTES / 2;
    bool failed;
    int64_t at = trace_call(c, &failed, SYS_mmap, 0, CODE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS);

    if (failed || (0 > at && -CODE_BYTES < at) || 0 != write_text(c->tid, (uint64_t)at, sleeper, sizeof(sleeper)) ||
        0 != write_text(c->tid, (uint64_t)at + name_at, name, sizeof(name))) {
        return -1;
    }
    *code = (uint64_t)at;
    (void)trace_call(c, &failed, SYS_prctl, PR_SET_NAME, (uint64_t)at + name_at, 0, 0);
    if (!failed) {
        (void)trace_call(c, &failed, SYS_setsid, 0, 0, 0, 0);
    }
    if (!failed) {
        (void)trace_call(c, &failed, SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
    }
    if (!failed) {
        (void)trace_call(c, &failed, SYS_close_range, 0, ~0U, 0, 0);
    }
    return failed ? -1 : 0;
}

int trace_put_to_sleep(pid_t child, int limit_ms)
{
    trace_call_t c = {.tid = child};
    struct user_regs_struct regs;
    uint64_t code = 0;
    int status;

    if (0 != trace_wait(child, limit_ms, &status) || 0 != trace_call_begin(&c, child, limit_ms) ||
        0 != strip(&c, &code) || 0 != ptrace(PTRACE_GETREGS, child, NULL, &regs)) {
        return -1;
    }
    regs.rip = code;
    regs.rax = 0;
    regs.orig_rax = (uint64_t)-1;
    return 0 == ptrace(PTRACE_SETREGS, child, NULL, &regs) && 0 == ptrace(PTRACE_DETACH, child, NULL, NULL) ? 0 : -1;
}

#else /* __x86_64__ */

int trace_stack(const trace_t *t, size_t i, uint64_t *stack, uint64_t *tls)
{
    (void)t;
    (void)i;
    (void)stack;
    (void)tls;
    errno = ENOTSUP;
    return -1;
}

int trace_call_begin(trace_call_t *c, pid_t tid, int limit_ms)
{
    (void)c;
    (void)tid;
    (void)limit_ms;
    errno = ENOTSUP;
    return -1;
}

int trace_call_start(trace_call_t *c, long nr, uint64_t a, uint64_t b, uint64_t d, uint64_t e)
{
    (void)c;
    (void)nr;
    (void)a;
    (void)b;
    (void)d;
    (void)e;
    errno = ENOTSUP;
    return -1;
}

int64_t trace_call_finish(trace_call_t *c, bool *failed)
{
    (void)c;
    *failed = true;
    return -ENOTSUP;
}

int trace_call_end(trace_call_t *c)
{
    (void)c;
    return 0;
}

int trace_put_to_sleep(pid_t child, int limit_ms)
{
    (void)child;
    (void)limit_ms;
    errno = ENOTSUP;
    return -1;
}

#endif /* __x86_64__ */
