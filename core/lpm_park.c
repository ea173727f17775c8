/*
 * Parking the MPI thread outside of MPI.
 *
 * One word of memory is all that the two threads have to agree on. The signal is just a bell: what is asked is in the
 * word, so a bell that rings late finds nothing to do. The agent may take back a question that has not been answered.
 *
 *       agent                 word          MPI thread, in the handler
 *       lpm_park_try      ->  ASKED
 *                             DECIDING  <-  has seen it
 *                             REFUSED   <-  and returns
 *                             PARKED    <-  and waits while the word stays the same
 *       lpm_park_release  ->  IDLE          returns
 *
 * In the handler nothing of the C library is called, so neither errno nor any of its locks matters.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_park.h"

#include "lpm_park_call.h"
#include "lpm_park_unwind.h"

#include <stddef.h>

/* clang-format off */
const char *const lpm_park_mpi_objects[] = {
    /* Open MPI, its components, what it is made of */
    "libmpi", "libompi", "libopen-", "liboshmem", "mca_", "libpmi", "libevent", "libhwloc", "libmca_", "libprrte",
    /* transports, which may call back or hold locks that progress needs */
    "libuc", "libfabric", "libibverbs", "librdmacm", "libpsm", "libmlx", "libefa", "libportals", "libmunge", NULL,
};
/* clang-format on */

#ifdef LPM_PARK_SUPPORTED

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Deeper stacks take milliseconds; nobody should have to wait for that in a handler. */
#define MAX_FRAMES 20000

/* The functions of the C library that have called main(), or a thread's first function. */
#define MAX_OUTER 8

/* The signal that pthread_cancel() uses; the C library does not let it be blocked. */
#define CANCEL_SIGNAL 32

enum { IDLE, ASKED, LEARN, DECIDING, REFUSED, PARKED, STATES = 8 };

typedef enum { ANYWHERE, CALLING_BACK } when_t;

/* functions of the C library that may be on the stack of a parked thread */
typedef struct {
    uintptr_t function;
    when_t when;
} allowed_t;

/* ---- what may be on the stack ---- */

/* it would give each name a line: */
/* clang-format off */

/* Without locks that anybody else could want, and without allocating. */
static const char *const names_anywhere[] = {
    /* memory and strings */
    "memcpy", "memmove", "memset", "memcmp", "memchr", "memrchr", "rawmemchr", "memmem", "mempcpy", "memccpy",
    "bcopy", "bzero", "bcmp", "swab", "explicit_bzero", "strlen", "strnlen", "strcpy", "strncpy", "stpcpy", "stpncpy",
    "strcat", "strncat", "strcmp", "strncmp", "strcasecmp", "strncasecmp", "strchr", "strchrnul", "strrchr", "strstr",
    "strcasestr", "strspn", "strcspn", "strpbrk", "strtok", "strtok_r", "strsep", "index", "rindex", "wmemcpy",
    "wmemmove", "wmemset", "wmemcmp", "wcslen", "wcscmp", "wcscpy", "__memcpy_chk", "__memmove_chk", "__memset_chk",
    "__mempcpy_chk", "__strcpy_chk", "__strncpy_chk", "__strcat_chk", "__strncat_chk", "__stpcpy_chk",
    /* computing */
    "abs", "labs", "llabs", "div", "ldiv", "lldiv", "ffs", "ffsl", "ffsll", "copysign", "copysignf", "copysignl",
    "finite", "frexp", "frexpf", "frexpl", "isinf", "isnan", "ldexp", "ldexpf", "ldexpl", "modf", "modff", "modfl",
    "scalbn", "scalbnf", "scalbnl", "drand48", "erand48", "lrand48", "nrand48", "mrand48", "jrand48", "rand_r",
    "atoi", "atol", "atoll", "atof", "strtol", "strtoul", "strtoll", "strtoull", "strtod", "strtof", "isalpha",
    "isdigit", "isspace", "toupper", "tolower", "htonl", "htons", "ntohl", "ntohs", "getenv", "_setjmp", "setjmp",
    "__sigsetjmp", "__errno_location", "__ctype_b_loc", "__ctype_tolower_loc", "__ctype_toupper_loc",
    /* clocks and sleep */
    "time", "clock", "times", "gettimeofday", "clock_gettime", "clock_getres", "nanosleep", "clock_nanosleep",
    "usleep", "sleep", "pause", "thrd_sleep",
    /* files and sockets, without stdio */
    "read", "write", "pread", "pwrite", "pread64", "pwrite64", "readv", "writev", "preadv", "pwritev", "lseek",
    "lseek64", "fsync", "fdatasync", "fcntl", "fcntl64", "flock", "poll", "ppoll", "select", "pselect", "epoll_wait",
    "epoll_pwait", "epoll_pwait2", "epoll_ctl", "recv", "recvfrom", "recvmsg", "send", "sendto", "sendmsg", "accept",
    "accept4", "eventfd_read", "eventfd_write", "__read_chk", "__recv_chk", "__poll_chk", "__ppoll_chk",
    "__fdelt_chk", "msgsnd", "msgrcv", "semop", "semtimedop",
    /* processes and signals */
    "wait", "wait3", "wait4", "waitpid", "waitid", "getpid", "getppid", "gettid", "sched_yield", "sched_getcpu",
    "getcpu", "getrusage", "sigsuspend", "sigprocmask", "pthread_sigmask", "sigwait", "sigwaitinfo", "sigtimedwait",
    "syscall",
    /* threads: locks of the application */
    "pthread_self", "pthread_mutex_lock", "pthread_mutex_trylock", "pthread_mutex_timedlock", "pthread_mutex_unlock",
    "pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait", "pthread_cond_signal",
    "pthread_cond_broadcast", "pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "pthread_rwlock_unlock",
    "pthread_spin_lock", "pthread_spin_unlock", "pthread_barrier_wait", "pthread_getspecific", "pthread_yield",
    "sem_wait", "sem_trywait", "sem_timedwait", "sem_clockwait", "sem_post", "mtx_lock", "mtx_unlock", "cnd_wait",
    "cnd_timedwait", NULL,
};

/* These allocate at times, or hold locks, but not while they call a function that was given to them. */
static const char *const names_calling_back[] = {"qsort", "qsort_r", "bsearch", "pthread_once", "call_once", NULL};

/* Besides what the caller forbids: their locks and hidden state are those of malloc() and dlopen(). */
static const char *const always_forbidden[] = {
    "ld-linux", "ld.so", "libjemalloc", "libtcmalloc", "libmimalloc", "libtbbmalloc", "libhoard", "libsnmalloc",
    "libasan", "libtsan", "liblsan", "libmsan", "libubsan", "libclang_rt", "libduma", "libefence", "libdmalloc", NULL,
};
/* clang-format on */

#define MAX_ALLOWED                                                                                                    \
    (sizeof(names_anywhere) / sizeof(names_anywhere[0]) + sizeof(names_calling_back) / sizeof(names_calling_back[0]) + \
     MAX_OUTER)

static struct {
    bool on;
    pid_t pid, tid;
    int signal;
    struct sigaction before;
    const char *const *forbidden;
    const struct link_map *libc, *allocator; /* allocator: where malloc() is, if not in the C library */
    allowed_t allowed[MAX_ALLOWED];
    size_t n_allowed;
    lpm_range_t stack;

    /* where the stack ends */
    uintptr_t end_function;
    uint64_t end_sp;

    /* between the two threads */
    atomic_uint word;       /* number of the try * STATES + state */
    unsigned number;        /* of the try; the agent's */
    lpm_call_seen_t seen;   /* set before ASKED, read while DECIDING */
    lpm_park_result_t said; /* set while DECIDING */
    char where[96];

    lpm_unwind_t cursor; /* the handler's: too big for its stack */
} park;

static unsigned state_of(unsigned word)
{
    return word % STATES;
}

static long futex(atomic_uint *word, int op, unsigned value, const struct timespec *limit)
{
    return lpm_call_raw(SYS_futex, (long)word, op | FUTEX_PRIVATE_FLAG, (long)value, (long)limit);
}

/* ---- in the handler: judging the stack ---- */

/* @return the new end of what has been written to .where */
static size_t write_where(size_t at, const char *text)
{
    while ('\0' != *text && at + 1 < sizeof(park.where)) {
        park.where[at++] = *text++;
    }
    park.where[at] = '\0';
    return at;
}

static lpm_park_result_t say(lpm_park_result_t result, const char *text, const char *more)
{
    (void)write_where(write_where(0, text), more);
    return result;
}

static bool begins_with(const char *text, const char *beginning)
{
    while ('\0' != *beginning) {
        if (*text++ != *beginning++) {
            return false;
        }
    }
    return true;
}

static const char *file_name(const struct link_map *map)
{
    const char *name = map->l_name;

    for (const char *p = name; '\0' != *p; ++p) {
        if ('/' == *p) {
            name = p + 1;
        }
    }
    return name;
}

static bool is_listed(const char *name, const char *const *list)
{
    for (; NULL != *list; ++list) {
        if (begins_with(name, *list)) {
            return true;
        }
    }
    return false;
}

static bool is_forbidden(const struct link_map *map)
{
    const char *name = file_name(map);

    if ('\0' == name[0] || map == park.libc) { /* the program has no name */
        return false;
    }
    /* another copy of the C library, as dlmopen() makes it, has another allocator, of which we know nothing */
    return map == park.allocator || begins_with(name, "libc.so") || is_listed(name, always_forbidden) ||
           is_listed(name, park.forbidden);
}

static bool is_allowed(uintptr_t function, bool called_back)
{
    for (size_t i = 0; i < park.n_allowed; ++i) {
        if (function == park.allowed[i].function) {
            return ANYWHERE == park.allowed[i].when || called_back;
        }
    }
    return false;
}

/*
 * Frames of the C library in a row. What counts is the one through which it was entered, the outermost: it says what
 * the others, most of which have no name that we could look up, are doing.
 */
typedef struct {
    bool inside;
    bool waits;       /* on a futex of the kind that the library's own locks are not made of */
    bool called_back; /* there is a frame further inwards, which the library has called */
    uintptr_t entry;
} visit_t;

static bool visit_ends(visit_t *library)
{
    bool good = !library->inside || library->waits || is_allowed(library->entry, library->called_back);

    library->inside = false;
    return good;
}

static void begin_walk(const ucontext_t *context)
{
    uintptr_t alternate = (uintptr_t)context->uc_stack.ss_sp;

    lpm_unwind_begin(&park.cursor, context);
    park.cursor.stacks[0] = park.stack;
    park.cursor.stacks[1] = (lpm_range_t){.low = alternate, .high = alternate + context->uc_stack.ss_size};
    park.cursor.stacks[2] = lpm_call_memory();
    if (0 != (context->uc_stack.ss_flags & SS_DISABLE)) {
        park.cursor.stacks[1].high = alternate;
    }
}

static bool is_end(const lpm_unwind_t *cursor)
{
    return cursor->function.begin == park.end_function && cursor->reg[LPM_UNWIND_SP] == park.end_sp;
}

/*
 * The frames from the innermost outwards. A frame that has been interrupted by a signal was not called back by what
 * is on the stack further inwards.
 */
static lpm_park_result_t judge(const ucontext_t *context)
{
    lpm_unwind_t *cursor = &park.cursor;
    visit_t library = {.inside = false};
    lpm_unwind_result_t result;

    begin_walk(context);
    for (int frames = 0; frames < MAX_FRAMES; ++frames) {
        const struct link_map *map;

        if (LPM_UNWIND_NO_OBJECT == (result = lpm_unwind_look(cursor))) {
            return say(LPM_PARK_UNSAFE, "in code of no known file", "");
        }
        map = cursor->object.dlfo_link_map;
        if (lpm_call_is_ours(cursor->reg[LPM_UNWIND_PC])) {
            /* a system call of the frame that follows */
        } else if (is_forbidden(map)) {
            return say(LPM_PARK_BUSY, "in ", file_name(map));
        } else if (LPM_UNWIND_OK != result) {
            return say(LPM_PARK_UNSAFE, "in code without unwind information, ", file_name(map));
        } else if (map == park.libc && !cursor->function.is_signal_frame) {
            if (!library.inside) {
                library.inside = true;
                library.waits = (0 == frames && lpm_call_waits_for_futex(context));
                library.called_back = !cursor->interrupted;
            }
            library.entry = cursor->function.begin;
        } else if (!visit_ends(&library)) {
            return say(LPM_PARK_BUSY, "in the C library", "");
        }
        if (LPM_UNWIND_END == (result = lpm_unwind_step(cursor))) {
            break;
        }
        if (LPM_UNWIND_OK != result) {
            return say(LPM_PARK_UNSAFE, "on a stack that cannot be followed, ", file_name(map));
        }
    }
    if (LPM_UNWIND_END != result || !is_end(cursor)) {
        return say(LPM_PARK_UNSAFE, "on a stack with another end", "");
    }
    return visit_ends(&library) ? LPM_PARK_PARKED : say(LPM_PARK_BUSY, "in the C library", "");
}

/*
 * Remember where the stack ends, and which functions of the C library are out there: they have called the program, and
 * call it all the time.
 */
static lpm_park_result_t learn(const ucontext_t *context)
{
    lpm_unwind_t *cursor = &park.cursor;
    uintptr_t outer[MAX_OUTER];
    size_t n_outer = 0;

    begin_walk(context);
    for (int frames = 0; frames < MAX_FRAMES; ++frames) {
        bool is_libc, is_last;
        lpm_unwind_result_t result = lpm_unwind_look(cursor);

        is_libc = (LPM_UNWIND_OK == result && cursor->object.dlfo_link_map == park.libc);
        result = (LPM_UNWIND_OK == result) ? lpm_unwind_step(cursor) : result;
        is_last = (LPM_UNWIND_END == result);
        if (LPM_UNWIND_OK != result && !is_last) {
            return LPM_PARK_UNSAFE;
        }
        if (is_libc && MAX_OUTER > n_outer) {
            outer[n_outer++] = cursor->function.begin;
        } else if (!is_last) {
            n_outer = 0;
        }
        if (is_last) {
            park.end_function = cursor->function.begin;
            park.end_sp = cursor->reg[LPM_UNWIND_SP];
            while (0 < n_outer) {
                park.allowed[park.n_allowed++] = (allowed_t){.function = outer[--n_outer], .when = CALLING_BACK};
            }
            return LPM_PARK_PARKED;
        }
    }
    return LPM_PARK_UNSAFE;
}

/* ---- in the handler: the two threads ---- */

/* The C library's handler for pthread_cancel() would end the thread from within our handler. */
static void stand_still(unsigned parked)
{
    uint64_t cancel = UINT64_C(1) << (CANCEL_SIGNAL - 1);

    (void)lpm_call_raw(SYS_rt_sigprocmask, SIG_BLOCK, (long)&cancel, 0, sizeof(cancel));
    atomic_store(&park.word, parked);
    (void)futex(&park.word, FUTEX_WAKE, 1, NULL);
    while (parked == atomic_load(&park.word)) {
        (void)futex(&park.word, FUTEX_WAIT, parked, NULL);
    }
}

static void answer(const ucontext_t *context, unsigned asked)
{
    unsigned base = asked - state_of(asked);

    park.said = (LEARN == state_of(asked)) ? learn(context) : judge(context);
    if (LPM_PARK_PARKED == park.said && ASKED == state_of(asked)) {
        stand_still(base + PARKED);
        return;
    }
    atomic_store(&park.word, base + REFUSED);
    (void)futex(&park.word, FUTEX_WAKE, 1, NULL);
}

static void on_signal(int sig, siginfo_t *info, void *arg)
{
    ucontext_t *context = arg;
    unsigned asked = atomic_load(&park.word);
    bool taken = false;
    lpm_call_t call;

    /* the signal may also come from somebody who means nothing by it, and to any thread, also of a forked child */
    if (SI_TKILL != info->si_code || park.pid != info->si_pid || park.tid != lpm_call_raw(SYS_gettid, 0, 0, 0, 0)) {
        return;
    }
    if (ASKED == state_of(asked) || LEARN == state_of(asked)) {
        taken = atomic_compare_exchange_strong(&park.word, &asked, asked - state_of(asked) + DECIDING);
    }
    lpm_call_begin(&call, context, taken ? &park.seen : NULL);
    if (taken) {
        answer(context, asked);
    }
    lpm_call_end(&call, context, &park.stack, sig);
}

/* ---- the agent ---- */

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Which signals are blocked by the thread, and which wait for it alone? */
static bool look_at_signals(uint64_t *blocked, uint64_t *pending)
{
    char path[64], text[4096], *at;
    ssize_t n = -1;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)park.tid);
    if (0 <= (fd = open(path, O_RDONLY | O_CLOEXEC))) {
        n = read(fd, text, sizeof(text) - 1);
        (void)close(fd);
    }
    text[0 < n ? n : 0] = '\0';
    if (NULL == (at = strstr(text, "\nSigPnd:"))) {
        return false;
    }
    *pending = strtoull(at + 8, NULL, 16);
    if (NULL == (at = strstr(at, "\nSigBlk:"))) {
        return false;
    }
    *blocked = strtoull(at + 8, NULL, 16);
    return true;
}

static bool handler_is_ours(void)
{
    struct sigaction now;

    return 0 == sigaction(park.signal, NULL, &now) && 0 != (now.sa_flags & SA_SIGINFO) && on_signal == now.sa_sigaction;
}

/*
 * Waits until the thread does not block the signal. A blocked one would stay, show up in sigpending() and sigwait(),
 * and the next one be added to it. It is blocked in our handler, too, which may not have returned since the last try.
 * @param under_way  is there one already?
 */
static bool await_unblocked(int64_t until, bool *under_way)
{
    const struct timespec moment = {.tv_nsec = 50000};
    uint64_t blocked = 0, pending = 0, ours = UINT64_C(1) << (park.signal - 1);

    while (look_at_signals(&blocked, &pending) && 0 != (blocked & ours)) {
        if (now_ms() >= until) {
            return false;
        }
        (void)nanosleep(&moment, NULL);
    }
    *under_way = (0 != (pending & ours));
    return true;
}

static bool ring(void)
{
    return 0 == syscall(SYS_tgkill, park.pid, park.tid, park.signal);
}

static void wait_while(unsigned value, int64_t until)
{
    int64_t left = until - now_ms();
    struct timespec limit = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};

    if (0 < left) {
        (void)futex(&park.word, FUTEX_WAIT, value, &limit);
    }
}

static lpm_park_result_t await_answer(unsigned base, int64_t until)
{
    unsigned word;

    while (ASKED == state_of(word = atomic_load(&park.word)) || DECIDING == state_of(word)) {
        if (now_ms() < until) {
            wait_while(word, until);
        } else if (DECIDING == state_of(word)) {
            wait_while(word, now_ms() + 1000); /* the answer is coming */
        } else if (atomic_compare_exchange_strong(&park.word, &word, base + IDLE)) {
            return say(LPM_PARK_NO_ANSWER, "the thread does not run", "");
        }
    }
    if (PARKED == state_of(word)) {
        return LPM_PARK_PARKED;
    }
    atomic_store(&park.word, base + IDLE);
    return park.said;
}

static lpm_park_result_t ask(bool must_ring, int64_t until)
{
    unsigned base = ++park.number * STATES;

    park.where[0] = '\0';
    atomic_store(&park.word, base + ASKED);
    if (must_ring && !ring()) {
        atomic_store(&park.word, base + IDLE);
        return say(LPM_PARK_NO_ANSWER, "the thread is gone", "");
    }
    return await_answer(base, until);
}

lpm_park_result_t lpm_park_try(int timeout_ms, const char **why)
{
    int64_t until = now_ms() + timeout_ms;
    bool under_way = false;

    if (NULL != why) {
        *why = park.where;
    }
    if (!park.on) {
        return say(LPM_PARK_OFF, "parking is not available", "");
    }
    if (!handler_is_ours()) {
        return say(LPM_PARK_OFF, "the application has taken the signal for itself", "");
    }
    if (!await_unblocked(until, &under_way)) {
        return say(LPM_PARK_NO_ANSWER, "the thread blocks signals", "");
    }
    lpm_call_look(park.tid, &park.seen);
    if (!lpm_call_may_be_interrupted(&park.seen)) {
        return say(LPM_PARK_BUSY, "in a system call that shows when it is interrupted", "");
    }
    return ask(!under_way, until);
}

void lpm_park_release(void)
{
    if (park.on && PARKED == state_of(atomic_load(&park.word))) {
        atomic_store(&park.word, park.number * STATES + IDLE);
        (void)futex(&park.word, FUTEX_WAKE, 1, NULL);
    }
}

/* ---- starting and stopping ---- */

static void allow(void *libc, const char *const *names, when_t when)
{
    for (; NULL != *names; ++names) {
        struct dl_find_object object;
        const void *code = dlsym(libc, *names);
        uintptr_t function = (NULL == code) ? 0 : lpm_unwind_function(code, &object);

        if (0 != function && object.dlfo_link_map == park.libc) {
            park.allowed[park.n_allowed++] = (allowed_t){.function = function, .when = when};
        }
    }
}

/* For functions with several implementations dlsym() gives the one that is in use on this processor. */
static const char *find_library(void)
{
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    struct dl_find_object object;
    void *code;

    if (NULL == libc || NULL == (code = dlsym(libc, "malloc")) || 0 != _dl_find_object(code, &object)) {
        return "there is no shared C library";
    }
    park.libc = object.dlfo_link_map;
    park.n_allowed = 0;
    allow(libc, names_anywhere, ANYWHERE);
    allow(libc, names_calling_back, CALLING_BACK);
    (void)dlclose(libc);
    return NULL;
}

/* Is malloc() another one than that of the C library? Within the program it cannot be told from the rest of it. */
static const char *find_allocator(void)
{
    void *code = dlsym(RTLD_DEFAULT, "malloc");
    const ElfW(Sym) *symbol = NULL;
    struct dl_find_object object;
    Dl_info info;

    park.allocator = NULL;
    if (NULL == code || 0 != _dl_find_object(code, &object) || object.dlfo_link_map == park.libc) {
        return NULL;
    }
    if ('\0' != object.dlfo_link_map->l_name[0]) {
        park.allocator = object.dlfo_link_map;
        return NULL;
    }
    /* a program at a fixed address gives its own address to functions that it only uses */
    if (0 != dladdr1(code, &info, (void **)&symbol, RTLD_DL_SYMENT) && NULL != symbol &&
        SHN_UNDEF == symbol->st_shndx) {
        return NULL;
    }
    return "the program has an allocator of its own";
}

static const char *find_stack(void)
{
    pthread_attr_t attributes;
    void *low;
    size_t size;

    if (0 != pthread_getattr_np(pthread_self(), &attributes)) {
        return "the bounds of the stack are not known";
    }
    (void)pthread_attr_getstack(&attributes, &low, &size);
    (void)pthread_attr_destroy(&attributes);
    park.stack = (lpm_range_t){.low = (uintptr_t)low, .high = (uintptr_t)low + size};
    return NULL;
}

static const char *take_signal(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigset_t blocked;

    sigfillset(&action.sa_mask);
    if (0 != pthread_sigmask(SIG_SETMASK, NULL, &blocked)) {
        return "the blocked signals are not known";
    }
    for (park.signal = SIGRTMAX; SIGRTMIN <= park.signal; --park.signal) {
        if (0 == sigismember(&blocked, park.signal) && 0 == sigaction(park.signal, NULL, &park.before) &&
            SIG_DFL == park.before.sa_handler && 0 == sigaction(park.signal, &action, NULL)) {
            return NULL;
        }
    }
    return "there is no unused real-time signal";
}

/* First ignoring it, which throws away what is still under way: with the default action that would kill the process. */
static void return_signal(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    if (handler_is_ours()) {
        (void)sigaction(park.signal, &ignore, NULL);
        (void)sigaction(park.signal, &park.before, NULL);
    }
}

/* The whole way once, on this thread. It also makes the dynamic linker do its part, which it could not later. */
static const char *rehearse(void)
{
    unsigned base = ++park.number * STATES;

    park.seen.known = false;
    atomic_store(&park.word, base + LEARN);
    if (!ring() || base + REFUSED != atomic_load(&park.word)) {
        atomic_store(&park.word, base + IDLE);
        return "a signal to the thread does not arrive";
    }
    atomic_store(&park.word, base + IDLE);
    return (LPM_PARK_PARKED == park.said) ? NULL : "the stack cannot be followed to its end";
}

int lpm_park_init(const char *const *forbidden, const char **why)
{
    const char *problem = NULL;

    park.pid = getpid();
    park.tid = gettid();
    park.forbidden = forbidden;
    if (park.on) {
        problem = "parking is in use already";
    } else if (NULL == (problem = find_library()) && NULL == (problem = find_allocator()) &&
               NULL == (problem = find_stack()) && NULL == (problem = take_signal())) {
        if (NULL == (problem = rehearse())) {
            park.on = true;
            return 0;
        }
        return_signal();
    }
    if (NULL != why) {
        *why = problem;
    }
    return -1;
}

void lpm_park_fini(void)
{
    if (park.on) {
        park.on = false;
        return_signal();
    }
}

#else /* LPM_PARK_SUPPORTED */

int lpm_park_init(const char *const *forbidden, const char **why)
{
    (void)forbidden;
    if (NULL != why) {
        *why = "not supported on this platform";
    }
    return -1;
}

lpm_park_result_t lpm_park_try(int timeout_ms, const char **why)
{
    (void)timeout_ms;
    if (NULL != why) {
        *why = "not supported on this platform";
    }
    return LPM_PARK_OFF;
}

void lpm_park_release(void)
{
}

void lpm_park_fini(void)
{
}

#endif
