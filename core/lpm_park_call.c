/*
 * System calls that our signal interrupts, made to look as if it had not. The list is in the header.
 *
 * Mostly the call is just made again: the context is set back to before the instruction. When another time limit has
 * to be passed than the caller did, the call is made by a few instructions of ours, which put the caller's registers
 * back afterwards: the caller's code may count on them. They live in a slot outside of the stack, since below the stack
 * pointer there may be a red zone and the frame of the very signal. The thread that is interrupted again in there is
 * known to be in the same call by that.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_park_call.h"
#include "lpm_task.h"

#ifdef LPM_PARK_SUPPORTED

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

#define NS_PER_S INT64_C(1000000000)

/* Longer periods, 30 years, are as good as none; sums with them do not overflow. */
#define LONG_S INT64_C(1000000000)

typedef enum {
    BY_KERNEL, /* with SA_RESTART the kernel makes it again, and a signal without it ends it */
    AGAIN,     /* make it again as it is */
    PERIOD,    /* the argument points to a timespec */
    LEFT,      /* the argument points to a timespec that the kernel has set to what is left */
    MS,        /* the argument is a number of ms, negative: no limit */
    HANDS_OFF
} kind_t;

/* The registers of arguments, as indices of general registers in the context. */
static const uint8_t argument_register[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};

static const struct lpm_call_row {
    long number;
    kind_t kind;
    int argument; /* which one is the limit */
} table[] = {
    {SYS_read, BY_KERNEL, 0},
    {SYS_write, BY_KERNEL, 0},
    {SYS_readv, BY_KERNEL, 0},
    {SYS_writev, BY_KERNEL, 0},
    {SYS_wait4, BY_KERNEL, 0},
    {SYS_waitid, BY_KERNEL, 0},
    {SYS_recvfrom, BY_KERNEL, 0},
    {SYS_recvmsg, BY_KERNEL, 0},
    {SYS_sendto, BY_KERNEL, 0},
    {SYS_sendmsg, BY_KERNEL, 0},
    {SYS_accept, BY_KERNEL, 0},
    {SYS_accept4, BY_KERNEL, 0},
    {SYS_flock, BY_KERNEL, 0},
    {SYS_futex, BY_KERNEL, 0},
    {SYS_pause, AGAIN, 0},
    {SYS_rt_sigsuspend, AGAIN, 0},
    {SYS_msgsnd, AGAIN, 0},
    {SYS_msgrcv, AGAIN, 0},
    {SYS_semop, AGAIN, 0},
    {SYS_nanosleep, PERIOD, 0},
    {SYS_clock_nanosleep, PERIOD, 2},
    {SYS_semtimedop, PERIOD, 3},
    {SYS_rt_sigtimedwait, PERIOD, 2},
    {SYS_epoll_pwait2, PERIOD, 3},
    {SYS_ppoll, LEFT, 2},
    {SYS_pselect6, LEFT, 4},
    {SYS_poll, MS, 2},
    {SYS_epoll_wait, MS, 3},
    {SYS_epoll_pwait, MS, 3},
    {SYS_connect, HANDS_OFF, 0},
    {SYS_io_getevents, HANDS_OFF, 0},
    {SYS_recvmmsg, HANDS_OFF, 0},
    {SYS_futex_waitv, HANDS_OFF, 0},
    {SYS_io_uring_enter, HANDS_OFF, 0},
};

static const struct lpm_call_row *find_row(long number)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); ++i) {
        if (number == table[i].number) {
            return &table[i];
        }
    }
    return NULL;
}

/* ---- the instructions that make a call again ---- */

typedef lpm_call_slot_t slot_t;

_Static_assert(0 == offsetof(slot_t, rip) && 8 == offsetof(slot_t, rbx) && 16 == offsetof(slot_t, rdi) &&
                   24 == offsetof(slot_t, rdx) && 32 == offsetof(slot_t, r10) && 40 == offsetof(slot_t, busy),
               "the assembly counts on this layout");

void lpm_park_call_again(void) __attribute__((visibility("hidden")));
void lpm_park_call_done(void) __attribute__((visibility("hidden")));
void lpm_park_call_after(void) __attribute__((visibility("hidden")));

/*
 * Entered by returning from the handler, with the slot in %rbx; the stack is the caller's and stays as it is. `syscall`
 * changes %rcx and %r11 anyway, so %rcx may carry the way back, as it would after the original instruction. Nothing is
 * read from the slot after it has been given back: a signal may come in between, and its handler make such a call.
 * The CFI is that of the frame of a signal: no return address on the stack, all registers are the caller's, but %rbx
 * and the way back, which are read from the slot (0x10: DW_CFA_expression, 0x73: DW_OP_breg3, which is %rbx).
 */
__asm__(".text\n"
        ".p2align 4\n"
        "lpm_park_call_again:\n"
        ".cfi_startproc simple\n"
        ".cfi_signal_frame\n"
        ".cfi_def_cfa rsp, 0\n"
        ".cfi_escape 0x10, 16, 2, 0x73, 0\n"
        ".cfi_escape 0x10, 3, 2, 0x73, 8\n"
        "    syscall\n"
        "lpm_park_call_done:\n"
        "    movq 16(%rbx), %rdi\n"
        "    movq 24(%rbx), %rdx\n"
        "    movq 32(%rbx), %r10\n"
        "    movq 0(%rbx), %rcx\n"
        ".cfi_register rip, rcx\n"
        "    movq 8(%rbx), %r11\n"
        ".cfi_register rbx, r11\n"
        "    movq $0, 40(%rbx)\n"
        "    movq %r11, %rbx\n"
        ".cfi_same_value rbx\n"
        "    jmp *%rcx\n"
        ".cfi_endproc\n"
        "lpm_park_call_after:\n"
        ".type lpm_park_call_again, @function\n"
        ".size lpm_park_call_again, . - lpm_park_call_again\n"
        ".hidden lpm_park_call_again\n"
        ".hidden lpm_park_call_done\n"
        ".hidden lpm_park_call_after\n"
        ".globl lpm_park_call_again\n"
        ".globl lpm_park_call_done\n"
        ".globl lpm_park_call_after\n");

bool lpm_call_is_ours(uintptr_t pc)
{
    return (uintptr_t)lpm_park_call_again <= pc && pc < (uintptr_t)lpm_park_call_after;
}

lpm_range_t lpm_call_memory(const lpm_call_slots_t *slots)
{
    return (lpm_range_t){.low = (uintptr_t)slots, .high = (uintptr_t)(slots + 1)};
}

static bool is_in(const lpm_range_t *range, uint64_t address)
{
    return range->low <= address && address < range->high;
}

/* A slot is free again, too, when its caller's frame is gone from the stack: it had been left by longjmp(). */
static slot_t *take_slot(lpm_call_slots_t *slots, const lpm_range_t *stack, uint64_t rsp)
{
    for (int i = 0; i < LPM_CALL_SLOTS; ++i) {
        slot_t *slot = &slots->slot[i];

        if (0 == slot->busy || (is_in(stack, rsp) && is_in(stack, slot->rsp) && slot->rsp <= rsp)) {
            slot->busy = 1;
            return slot;
        }
    }
    return NULL;
}

/* ---- which call it was ---- */

static int64_t now_ns(void)
{
    struct timespec now;

    (void)lpm_call_raw(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static bool same_call(const lpm_call_seen_t *seen, const greg_t *reg)
{
    if (NULL == seen || !seen->known || seen->pc != (uint64_t)reg[REG_RIP] || seen->sp != (uint64_t)reg[REG_RSP]) {
        return false;
    }
    for (int i = 0; i < 6; ++i) {
        if (seen->argument[i] != (uint64_t)reg[argument_register[i]]) {
            return false;
        }
    }
    return true;
}

/*
 * The number of the call is not in the context any more: its register holds the result. But the code says it, if it is
 * `mov $number, %eax; syscall`, as the C library makes its calls, in some with `mov N(%rsp), %edi` in between.
 */
static long number_from_code(const uint8_t *after)
{
    const uint8_t *code = after - 2;

    if (0x8b == code[-4] && 0x7c == code[-3] && 0x24 == code[-2]) {
        code -= 4;
    }
    if (0xb8 != code[-5] || 0 != code[-2] || 0 != code[-1]) {
        return -1;
    }
    return code[-4] | code[-3] << 8;
}

/* Is there `syscall` before @p pc, and may one look further back? */
static bool behind_syscall(const uint8_t *pc)
{
    struct dl_find_object object;

    return 0 == _dl_find_object((void *)(uintptr_t)(pc - 16), &object) && pc < (const uint8_t *)object.dlfo_map_end &&
           0x0f == pc[-2] && 0x05 == pc[-1];
}

static int64_t period_ns(const struct timespec *period)
{
    return (LONG_S < period->tv_sec) ? LONG_S * NS_PER_S : period->tv_sec * NS_PER_S + period->tv_nsec;
}

/* How long the call was going to wait yet; negative: no matter of periods. The kernel has read the same memory. */
static int64_t remaining_ns(const struct lpm_call_row *row, const greg_t *reg)
{
    greg_t limit = reg[argument_register[row->argument]], left = 0;

    if (MS == row->kind) {
        return (0 > (int)limit) ? -1 : (int)limit * INT64_C(1000000);
    }
    if (PERIOD != row->kind || 0 == limit) {
        return -1;
    }
    if (SYS_nanosleep == row->number) {
        left = reg[REG_RSI];
    } else if (SYS_clock_nanosleep == row->number) {
        if (0 != (reg[REG_RSI] & TIMER_ABSTIME)) {
            return -1;
        }
        left = reg[REG_R10];
    }
    return period_ns((const struct timespec *)(0 != left ? left : limit));
}

/* A sleep by the clock of the processor would have to see the time parked as no time at all, which we cannot do. */
static bool is_cpu_time(long number, uint64_t clock)
{
    return SYS_clock_nanosleep == number && CLOCK_REALTIME != clock && CLOCK_MONOTONIC != clock &&
           CLOCK_BOOTTIME != clock && CLOCK_TAI != clock;
}

static void begin_ours(lpm_call_t *call, const greg_t *reg)
{
    slot_t *slot = (slot_t *)reg[REG_RBX];

    call->failed = ((uintptr_t)lpm_park_call_done == (uintptr_t)reg[REG_RIP] && -EINTR == reg[REG_RAX]);
    if (call->failed || (uintptr_t)lpm_park_call_again == (uintptr_t)reg[REG_RIP]) {
        call->slot = slot;
        call->row = slot->row;
    }
}

void lpm_call_begin(lpm_call_t *call, const ucontext_t *context, const lpm_call_seen_t *seen)
{
    const greg_t *reg = context->uc_mcontext.gregs;
    const uint8_t *pc = (const uint8_t *)reg[REG_RIP];
    int64_t left;

    call->failed = call->restarted = false;
    call->slot = NULL;
    call->row = NULL;
    call->deadline = 0;
    if (lpm_call_is_ours((uintptr_t)pc)) {
        begin_ours(call, reg);
        return;
    }
    if (NULL != seen && seen->known && seen->pc == (uint64_t)(pc + 2) && seen->sp == (uint64_t)reg[REG_RSP] &&
        seen->number == reg[REG_RAX]) {
        call->row = find_row(seen->number);
        call->restarted = (NULL != call->row && BY_KERNEL == call->row->kind);
        return;
    }
    if (-EINTR != reg[REG_RAX] || !behind_syscall(pc)) {
        return;
    }
    call->row = find_row(same_call(seen, reg) ? seen->number : number_from_code(pc));
    if (NULL == call->row || HANDS_OFF == call->row->kind || is_cpu_time(call->row->number, (uint64_t)reg[REG_RDI])) {
        return;
    }
    call->failed = true;
    call->entered = now_ns();
    left = remaining_ns(call->row, reg);
    call->deadline = (0 > left) ? 0 : call->entered + left;
}

bool lpm_call_waits_for_futex(const ucontext_t *context)
{
    const greg_t *reg = context->uc_mcontext.gregs;
    const uint8_t *pc = (const uint8_t *)reg[REG_RIP];

    /* restarted by the kernel: before the instruction; failed: behind it */
    if (SYS_futex == reg[REG_RAX]) {
        pc += 2;
    } else if (-EINTR != reg[REG_RAX]) {
        return false;
    }
    return FUTEX_WAIT_BITSET == (reg[REG_RSI] & FUTEX_CMD_MASK) && behind_syscall(pc);
}

/* ---- going on ---- */

/* What the kernel calls struct sigaction. */
struct kernel_action {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

/* Is there a signal that a handler of the application gets once ours has returned, and that ends the call? */
static bool application_interrupts(const ucontext_t *context, int own_signal, bool restartable)
{
    struct kernel_action action;
    uint64_t pending = 0;

    (void)lpm_call_raw(SYS_rt_sigpending, (long)&pending, sizeof(pending), 0, 0);
    pending &= ~*(const uint64_t *)&context->uc_sigmask & ~(UINT64_C(1) << (own_signal - 1));
    for (int sig = 1; 0 != pending; ++sig, pending >>= 1) {
        if (0 == (pending & 1) || 0 != lpm_call_raw(SYS_rt_sigaction, sig, 0, (long)&action, sizeof(action.mask))) {
            continue;
        }
        if (SIG_DFL != action.handler && SIG_IGN != action.handler &&
            !(restartable && 0 != (action.flags & SA_RESTART))) {
            return true;
        }
    }
    return false;
}

static int64_t left_until(int64_t deadline)
{
    int64_t now = now_ns();

    return (deadline > now) ? deadline - now : 0;
}

/* Puts the time that is left in the place of the limit. */
static void set_limit(slot_t *slot, greg_t *reg)
{
    int64_t left = left_until(slot->deadline);
    greg_t *limit = &reg[argument_register[slot->row->argument]];

    if (MS == slot->row->kind) {
        *limit = (left + 999999) / 1000000;
    } else {
        slot->period = (struct timespec){.tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S};
        *limit = (greg_t)&slot->period;
    }
}

static void go_back(const lpm_call_t *call, greg_t *reg)
{
    reg[REG_RAX] = call->row->number;
    reg[REG_RIP] -= 2;
}

static void go_on_ours(const lpm_call_t *call, slot_t *slot, greg_t *reg)
{
    set_limit(slot, reg);
    reg[REG_RAX] = call->row->number;
    reg[REG_RIP] = (greg_t)lpm_park_call_again;
}

static void go_ours(const lpm_call_t *call, greg_t *reg, lpm_call_slots_t *slots, const lpm_range_t *stack)
{
    slot_t *slot = take_slot(slots, stack, (uint64_t)reg[REG_RSP]);

    if (NULL == slot) {
        go_back(call, reg);
        return;
    }
    slot->rip = (uint64_t)reg[REG_RIP];
    slot->rbx = (uint64_t)reg[REG_RBX];
    slot->rdi = (uint64_t)reg[REG_RDI];
    slot->rdx = (uint64_t)reg[REG_RDX];
    slot->r10 = (uint64_t)reg[REG_R10];
    slot->rsp = (uint64_t)reg[REG_RSP];
    slot->row = call->row;
    slot->deadline = call->deadline;
    reg[REG_RBX] = (greg_t)slot;
    go_on_ours(call, slot, reg);
}

/* Only if it is the C library's own copy, on the stack: the kernel forgives a limit that cannot be written to. */
static void count_time_parked(const lpm_call_t *call, const greg_t *reg, const lpm_range_t *stack)
{
    uintptr_t at = (uintptr_t)reg[argument_register[call->row->argument]];
    struct timespec *left = (struct timespec *)at;
    int64_t ns;

    if (at < (uintptr_t)reg[REG_RSP] || !is_in(stack, at) || LONG_S < left->tv_sec) {
        return;
    }
    ns = left_until(call->entered + period_ns(left));
    *left = (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
}

void lpm_call_end(lpm_call_t *call, ucontext_t *context, lpm_call_slots_t *slots, const lpm_range_t *stack,
                  int own_signal)
{
    greg_t *reg = context->uc_mcontext.gregs;

    if (call->restarted) {
        if (application_interrupts(context, own_signal, true)) {
            reg[REG_RAX] = -EINTR;
            reg[REG_RIP] += 2;
        }
        return;
    }
    if (NULL == call->row ||
        (call->failed && application_interrupts(context, own_signal, BY_KERNEL == call->row->kind))) {
        return;
    }
    if (NULL != call->slot) {
        go_on_ours(call, call->slot, reg);
    } else if (!call->failed) {
        return;
    } else if (0 != call->deadline) {
        go_ours(call, reg, slots, stack);
    } else {
        if (LEFT == call->row->kind) {
            count_time_parked(call, reg, stack);
        }
        go_back(call, reg);
    }
}

/* ---- what /proc says ---- */

void lpm_call_look(pid_t tid, lpm_call_seen_t *seen)
{
    uint64_t *to[] = {&seen->argument[0], &seen->argument[1], &seen->argument[2], &seen->argument[3],
                      &seen->argument[4], &seen->argument[5], &seen->sp,          &seen->pc};
    char line[256], *p = line, *end; /* "running", or "-1 sp pc", or "number argument... sp pc" */

    seen->known = false;
    if (0 == lpm_task_read(getpid(), tid, "syscall", line, sizeof(line))) {
        return;
    }
    seen->number = strtol(p, &end, 10);
    if (end == p || 0 > seen->number) {
        return;
    }
    for (size_t i = 0; i < sizeof(to) / sizeof(to[0]); ++i) {
        p = end;
        *to[i] = strtoull(p, &end, 16);
        if (end == p) {
            return;
        }
    }
    seen->known = true;
}

/* Which option of the socket limits this call? 0: none, it is not about a socket. */
static int socket_limit(long number)
{
    switch (number) {
    case SYS_read:
    case SYS_readv:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_accept:
    case SYS_accept4: return SO_RCVTIMEO;
    case SYS_write:
    case SYS_writev:
    case SYS_sendto:
    case SYS_sendmsg: return SO_SNDTIMEO;
    default: return 0;
    }
}

static bool has_socket_limit(const lpm_call_seen_t *seen)
{
    int option = socket_limit(seen->number);
    struct timeval limit;
    socklen_t size = sizeof(limit);

    return 0 != option && 0 == getsockopt((int)seen->argument[0], SOL_SOCKET, option, &limit, &size) &&
           (0 != limit.tv_sec || 0 != limit.tv_usec);
}

/* These could be made again, but would start from the beginning each time that they are interrupted. */
static bool starts_anew(const lpm_call_seen_t *seen)
{
    return has_socket_limit(seen) ||
           (SYS_futex == seen->number && FUTEX_WAIT == (seen->argument[1] & FUTEX_CMD_MASK) && 0 != seen->argument[3]);
}

bool lpm_call_may_be_interrupted(const lpm_call_seen_t *seen)
{
    const struct lpm_call_row *row = seen->known ? find_row(seen->number) : NULL;

    if (NULL == row) {
        return true;
    }
    /* sigtimedwait could take our signal for one of the application */
    return HANDS_OFF != row->kind && SYS_rt_sigtimedwait != row->number && !starts_anew(seen) &&
           !is_cpu_time(row->number, seen->argument[0]);
}

#endif
