/*
 * Parking all threads of the application, which are not known beforehand.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_park_thread.h"
#include "lpm_task.h"

#ifdef LPM_PARK_SUPPORTED

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long some threads are kept standing while others are where they must not be stopped. */
#define STAY_MS 3

/* A thread may be making a system call again, by instructions of ours, when all others have forgotten about us. */
static bool pin(void)
{
    Dl_info info;

    if (!lpm_park.pinned && 0 != dladdr((void *)(uintptr_t)lpm_park_try_all, &info) && NULL != info.dli_fname) {
        lpm_park.pinned = (NULL != dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE)) ||
                          NULL == strstr(info.dli_fname, ".so"); /* the program itself is not unloaded */
    }
    return lpm_park.pinned;
}

/* An entry for a thread that had none. One may be used again when its thread is gone. */
static lpm_park_thread_t *new_thread(pid_t tid)
{
    lpm_park_thread_t *thread = atomic_load(&lpm_park.others);

    while (NULL != thread && 0 != atomic_load(&thread->tid)) {
        thread = thread->next;
    }
    if (NULL != thread) {
        memset(&thread->calls, 0, sizeof(thread->calls));
        memset(&thread->stack, 0, sizeof(thread->stack));
        atomic_store(&thread->tid, tid);
    } else if (NULL != (thread = calloc(1, sizeof(*thread)))) {
        thread->next = atomic_load(&lpm_park.others);
        atomic_store(&thread->tid, tid);
        atomic_store(&lpm_park.others, thread);
    }
    return thread;
}

/* @return 0, or -1: there is no memory for its entry */
static int look_at_thread(pid_t tid, void *arg)
{
    const int64_t start = (gettid() == tid) ? 0 : lpm_task_number(getpid(), tid, LPM_TASK_START);
    lpm_park_thread_t *thread = lpm_park_thread_of(tid);

    (void)arg;
    if (0 >= start) {
        return 0; /* gone meanwhile, or not to be parked */
    }
    if (NULL == thread && NULL == (thread = new_thread(tid))) {
        return -1;
    }
    if ((uint64_t)start != thread->started && thread != &lpm_park.first) {
        thread->kind = LPM_PARK_STRANGER; /* another thread than before, or the process has been restored */
    }
    thread->started = (uint64_t)start;
    thread->seen_now = true;
    return 0;
}

/* Sets .seen_now of all threads of the process but the calling one. @return whether all have an entry */
static bool look_at_threads(void)
{
    lpm_park_thread_t *thread;
    bool complete;

    lpm_park.first.seen_now = false;
    for (thread = atomic_load(&lpm_park.others); NULL != thread; thread = thread->next) {
        thread->seen_now = false;
    }
    complete = (0 == lpm_task_each(getpid(), look_at_thread, NULL));
    for (thread = atomic_load(&lpm_park.others); complete && NULL != thread; thread = thread->next) {
        if (!thread->seen_now) {
            atomic_store(&thread->tid, 0);
        }
    }
    return complete;
}

/* The mapping that a stack pointer points into, up to the thread pointer, below which the C library puts stacks. */
static bool find_bounds(lpm_park_thread_t *thread)
{
    FILE *maps = fopen("/proc/thread-self/maps", "re"); /* that of the first thread is empty when it has ended */
    unsigned long low, high;
    char line[512];
    bool found = false;

    while (!found && NULL != maps && NULL != fgets(line, sizeof(line), maps)) {
        found = (2 == sscanf(line, "%lx-%lx", &low, &high) && low <= thread->sp && thread->sp < thread->pointer &&
                 thread->pointer < high);
    }
    if (NULL != maps) {
        (void)fclose(maps);
    }
    if (found) {
        thread->stack.bounds = (lpm_range_t){.low = low, .high = thread->pointer};
    }
    return found;
}

static lpm_park_result_t measure(lpm_park_thread_t *thread, int64_t until)
{
    lpm_park_result_t result = lpm_park_ask_and_wait(thread, LPM_PARK_MEASURE, until);

    if (LPM_PARK_PARKED != result) {
        return result;
    }
    if (!find_bounds(thread)) {
        return lpm_park_stack_say(&thread->stack, LPM_PARK_UNSAFE, "on a stack that the C library has not made", "");
    }
    thread->kind = LPM_PARK_MEASURED;
    return LPM_PARK_PARKED;
}

static lpm_park_result_t learn(lpm_park_thread_t *thread, int64_t until)
{
    lpm_park_result_t result = lpm_park_ask_and_wait(thread, LPM_PARK_LEARN, until);

    if (LPM_PARK_PARKED != result) {
        return result;
    }
    if (!lpm_park_stack_ends_in_libc(&thread->stack)) {
        return lpm_park_stack_say(&thread->stack, LPM_PARK_UNSAFE, "on a stack with an unknown end", "");
    }
    if (NULL == thread->stack.first) {
        return lpm_park_stack_say(&thread->stack, LPM_PARK_BUSY, "a thread that begins or ends", "");
    }
    thread->kind = lpm_park_stack_is_foreign(&thread->stack) ? LPM_PARK_FOREIGN : LPM_PARK_APPLICANT;
    return LPM_PARK_PARKED;
}

/* @return PARKED when its kind is known */
static lpm_park_result_t get_to_know(lpm_park_thread_t *thread, int64_t until)
{
    lpm_park_result_t result = LPM_PARK_PARKED;

    if (0 == thread->pointer || LPM_PARK_STRANGER == thread->kind) {
        result = measure(thread, until);
    }
    if (LPM_PARK_PARKED == result && LPM_PARK_MEASURED == thread->kind) {
        result = learn(thread, until);
    }
    return result;
}

/* Is it to be parked, and not parked yet? */
static bool is_wanted(const lpm_park_thread_t *thread)
{
    return thread->seen_now && LPM_PARK_FOREIGN != thread->kind && LPM_PARK_STANDING != lpm_park_state(thread) &&
           !lpm_park_is_gone(thread);
}

/* A thread that is gone meanwhile is as good as parked. */
static lpm_park_result_t unless_gone(lpm_park_thread_t *thread, lpm_park_result_t result, const char **why)
{
    if (LPM_PARK_PARKED == result || lpm_park_is_gone(thread)) {
        return LPM_PARK_PARKED;
    }
    return lpm_park_tell(result, thread->stack.where, why);
}

static lpm_park_result_t get_to_know_all(int64_t until, const char **why)
{
    lpm_park_result_t result = LPM_PARK_PARKED;

    for (lpm_park_thread_t *thread = &lpm_park.first; LPM_PARK_PARKED == result && NULL != thread;
         thread = lpm_park_after(thread)) {
        if (is_wanted(thread)) {
            result = unless_gone(thread, get_to_know(thread, until), why);
        }
    }
    return result;
}

/* First all are asked, then all answers awaited. */
static lpm_park_result_t park_wanted(int64_t until, const char **why, unsigned *count)
{
    lpm_park_result_t result = LPM_PARK_PARKED, said;
    lpm_park_thread_t *thread;

    for (thread = &lpm_park.first; LPM_PARK_PARKED == result && NULL != thread; thread = lpm_park_after(thread)) {
        if (is_wanted(thread)) {
            ++*count;
            said = lpm_park_ask(thread, LPM_PARK_ASK, until);
            thread->asked = (LPM_PARK_PARKED == said);
            result = unless_gone(thread, said, why);
        }
    }
    for (thread = &lpm_park.first; NULL != thread; thread = lpm_park_after(thread)) {
        if (thread->asked) {
            thread->asked = false;
            said = lpm_park_await_answer(thread, until);
            result = (LPM_PARK_PARKED == result) ? unless_gone(thread, said, why) : result;
        }
    }
    return result;
}

/* @param count  how many threads there were that had to be parked */
static lpm_park_result_t park_more(int64_t until, const char **why, unsigned *count)
{
    lpm_park_result_t result;

    *count = 0;
    if (!look_at_threads()) {
        return lpm_park_tell(LPM_PARK_NO_ANSWER, "the threads cannot be listed", why);
    }
    result = get_to_know_all(until, why);
    return (LPM_PARK_PARKED == result) ? park_wanted(until, why, count) : result;
}

/*
 * Threads that are not parked yet may make new ones; when all are parked there are no others. While the last ones leave
 * the allocator the rest stand still: all would hardly ever be outside of it at once.
 */
lpm_park_result_t lpm_park_try_all(int timeout_ms, const char **why)
{
    const int64_t begin = lpm_park_now_ms();
    const char *problem = lpm_park_check();
    lpm_park_result_t result;
    unsigned count;
    bool again;

    if (NULL == problem && !pin()) {
        problem = "this library could be unloaded under a thread";
    }
    if (NULL != problem) {
        return lpm_park_tell(LPM_PARK_OFF, problem, why);
    }
    (void)lpm_park_tell(LPM_PARK_PARKED, "", why);
    do {
        result = park_more(begin + timeout_ms, why, &count);
        again =
            (LPM_PARK_PARKED == result) ? 0 < count : LPM_PARK_BUSY == result && lpm_park_now_ms() < begin + STAY_MS;
    } while (again);
    if (LPM_PARK_PARKED != result) {
        lpm_park_release();
    }
    return result;
}

#endif /* LPM_PARK_SUPPORTED */
