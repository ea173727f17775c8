/*
 * Judging the stack of an interrupted thread. In the handler nothing of the C library is called, so neither errno nor
 * any of its locks matters.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_park_stack.h"

/* clang-format off */
const char *const lpm_park_mpi_objects[] = {
    /* Open MPI, its components, what it is made of */
    "libmpi", "libompi", "libopen-", "liboshmem", "mca_", "libpmi", "libevent", "libhwloc", "libmca_", "libprrte",
    /* transports, which may call back or hold locks that progress needs */
    "libuc", "libfabric", "libibverbs", "librdmacm", "libpsm", "libmlx", "libefa", "libportals", "libmunge", NULL,
};
/* clang-format on */

#ifdef LPM_PARK_SUPPORTED

#include <signal.h>

/* Deeper stacks take milliseconds; nobody should have to wait for that in a handler. */
#define MAX_FRAMES 20000

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
    (sizeof(names_anywhere) / sizeof(names_anywhere[0]) + sizeof(names_calling_back) / sizeof(names_calling_back[0]))

/* The same for all threads. */
static struct {
    const char *const *forbidden;
    const struct link_map *libc, *allocator; /* allocator: where malloc() is, if not in the C library */
    allowed_t allowed[MAX_ALLOWED];
    size_t n_allowed;
} rules;

/* ---- in the handler ---- */

/* @return the new end of what has been written to .where */
static size_t write_where(lpm_park_stack_t *stack, size_t at, const char *text)
{
    while ('\0' != *text && at + 1 < sizeof(stack->where)) {
        stack->where[at++] = *text++;
    }
    stack->where[at] = '\0';
    return at;
}

lpm_park_result_t lpm_park_stack_say(lpm_park_stack_t *stack, lpm_park_result_t result, const char *text,
                                     const char *more)
{
    (void)write_where(stack, write_where(stack, 0, text), more);
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

    if ('\0' == name[0] || map == rules.libc) { /* the program has no name */
        return false;
    }
    /* another copy of the C library, as dlmopen() makes it, has another allocator, of which we know nothing */
    return map == rules.allocator || begins_with(name, "libc.so") || is_listed(name, always_forbidden) ||
           is_listed(name, rules.forbidden);
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

static bool is_allowed(const lpm_park_stack_t *stack, const visit_t *library)
{
    if (library->waits || (library->entry == stack->outer && library->called_back)) {
        return true;
    }
    for (size_t i = 0; i < rules.n_allowed; ++i) {
        if (library->entry == rules.allowed[i].function) {
            return ANYWHERE == rules.allowed[i].when || library->called_back;
        }
    }
    return false;
}

static bool visit_ends(const lpm_park_stack_t *stack, visit_t *library)
{
    bool good = !library->inside || is_allowed(stack, library);

    library->inside = false;
    return good;
}

static void begin_walk(lpm_park_stack_t *stack, const ucontext_t *context, const lpm_call_slots_t *slots)
{
    lpm_unwind_t *cursor = &stack->cursor;
    uintptr_t alternate = (uintptr_t)context->uc_stack.ss_sp;

    lpm_unwind_begin(cursor, context);
    cursor->stacks[0] = stack->bounds;
    cursor->stacks[1] = (lpm_range_t){.low = alternate, .high = alternate + context->uc_stack.ss_size};
    cursor->stacks[2] = lpm_call_memory(slots);
    if (0 != (context->uc_stack.ss_flags & SS_DISABLE)) {
        cursor->stacks[1].high = alternate;
    }
}

static bool is_end(const lpm_park_stack_t *stack)
{
    const lpm_unwind_t *cursor = &stack->cursor;

    return cursor->function.begin == stack->end_function && cursor->reg[LPM_UNWIND_SP] == stack->end_sp;
}

/*
 * The frames from the innermost outwards. A frame that has been interrupted by a signal was not called back by what
 * is on the stack further inwards.
 */
lpm_park_result_t lpm_park_stack_judge(lpm_park_stack_t *stack, const ucontext_t *context,
                                       const lpm_call_slots_t *slots)
{
    lpm_unwind_t *cursor = &stack->cursor;
    visit_t library = {.inside = false};
    lpm_unwind_result_t result;

    begin_walk(stack, context, slots);
    for (int frames = 0; frames < MAX_FRAMES; ++frames) {
        const struct link_map *map;

        if (LPM_UNWIND_NO_OBJECT == (result = lpm_unwind_look(cursor))) {
            return lpm_park_stack_say(stack, LPM_PARK_UNSAFE, "in code of no known file", "");
        }
        map = cursor->object.dlfo_link_map;
        if (lpm_call_is_ours(cursor->reg[LPM_UNWIND_PC])) {
            /* a system call of the frame that follows */
        } else if (is_forbidden(map)) {
            return lpm_park_stack_say(stack, LPM_PARK_BUSY, "in ", file_name(map));
        } else if (LPM_UNWIND_OK != result) {
            return lpm_park_stack_say(stack, LPM_PARK_UNSAFE, "in code without unwind information, ", file_name(map));
        } else if (map == rules.libc && !cursor->function.is_signal_frame) {
            if (!library.inside) {
                library.inside = true;
                library.waits = (0 == frames && lpm_call_waits_for_futex(context));
                library.called_back = !cursor->interrupted;
            }
            library.entry = cursor->function.begin;
        } else if (!visit_ends(stack, &library)) {
            return lpm_park_stack_say(stack, LPM_PARK_BUSY, "in the C library", "");
        }
        if (LPM_UNWIND_END == (result = lpm_unwind_step(cursor))) {
            break;
        }
        if (LPM_UNWIND_OK != result) {
            return lpm_park_stack_say(stack, LPM_PARK_UNSAFE, "on a stack that cannot be followed, ", file_name(map));
        }
    }
    if (LPM_UNWIND_END != result || !is_end(stack)) {
        return lpm_park_stack_say(stack, LPM_PARK_UNSAFE, "on a stack with another end", "");
    }
    return visit_ends(stack, &library) ? LPM_PARK_PARKED
                                       : lpm_park_stack_say(stack, LPM_PARK_BUSY, "in the C library", "");
}

/* The end is the program's start, called by nobody, or within the C library. */
bool lpm_park_stack_learn(lpm_park_stack_t *stack, const ucontext_t *context, const lpm_call_slots_t *slots)
{
    lpm_unwind_t *cursor = &stack->cursor;
    const struct link_map *inner = NULL; /* of the last frame that is not the C library's, nor the end */

    stack->outer = 0;
    begin_walk(stack, context, slots);
    for (int frames = 0; frames < MAX_FRAMES; ++frames) {
        const struct link_map *map;
        lpm_unwind_result_t result;

        if (LPM_UNWIND_OK != lpm_unwind_look(cursor)) {
            return false;
        }
        map = cursor->object.dlfo_link_map;
        result = lpm_unwind_step(cursor);
        if (LPM_UNWIND_OK != result && LPM_UNWIND_END != result) {
            return false;
        }
        if (map == rules.libc) {
            stack->outer = cursor->function.begin;
        } else if (LPM_UNWIND_END != result && !lpm_call_is_ours(cursor->function.begin)) {
            stack->outer = 0;
            inner = map;
        }
        if (LPM_UNWIND_END == result) {
            stack->end_function = cursor->function.begin;
            stack->end_sp = cursor->reg[LPM_UNWIND_SP];
            stack->first = inner;
            return true;
        }
    }
    return false;
}

bool lpm_park_stack_is_foreign(const lpm_park_stack_t *stack)
{
    return NULL != stack->first && is_forbidden(stack->first);
}

bool lpm_park_stack_ends_in_libc(const lpm_park_stack_t *stack)
{
    return stack->end_function == stack->outer;
}

/* ---- before all that ---- */

static void allow(void *libc, const char *const *names, when_t when)
{
    for (; NULL != *names; ++names) {
        struct dl_find_object object;
        const void *code = dlsym(libc, *names);
        uintptr_t function = (NULL == code) ? 0 : lpm_unwind_function(code, &object);

        if (0 != function && object.dlfo_link_map == rules.libc) {
            rules.allowed[rules.n_allowed++] = (allowed_t){.function = function, .when = when};
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
    rules.libc = object.dlfo_link_map;
    rules.n_allowed = 0;
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

    rules.allocator = NULL;
    if (NULL == code || 0 != _dl_find_object(code, &object) || object.dlfo_link_map == rules.libc) {
        return NULL;
    }
    if ('\0' != object.dlfo_link_map->l_name[0]) {
        rules.allocator = object.dlfo_link_map;
        return NULL;
    }
    /* a program at a fixed address gives its own address to functions that it only uses */
    if (0 != dladdr1(code, &info, (void **)&symbol, RTLD_DL_SYMENT) && NULL != symbol &&
        SHN_UNDEF == symbol->st_shndx) {
        return NULL;
    }
    return "the program has an allocator of its own";
}

const char *lpm_park_stack_init(const char *const *forbidden)
{
    const char *problem = find_library();

    rules.forbidden = forbidden;
    return (NULL == problem) ? find_allocator() : problem;
}

#endif /* LPM_PARK_SUPPORTED */
