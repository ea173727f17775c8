/*
 * A new program gets the descriptors it is meant to get and no other, and no signal setting of ours.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lpm_child.h"

/* What a shell script prints after our preparations, on the one descriptor that is kept. */
static void run(const char *script, char *output, size_t size)
{
    int ends[2], status = -1;
    char number[16];
    ssize_t n;
    pid_t pid;

    assert_int_equal(0, pipe2(ends, O_CLOEXEC));
    snprintf(number, sizeof(number), "%d", ends[1]);
    pid = fork();
    assert_true(0 <= pid);
    if (0 == pid) {
        if (0 == lpm_child_signals() && 0 == lpm_child_descriptors(&ends[1], 1)) {
            execl("/bin/sh", "sh", "-c", script, "sh", number, (char *)NULL);
        }
        _exit(127);
    }
    close(ends[1]);
    output[0] = '\0';
    while (0 < (n = read(ends[0], output + strlen(output), size - strlen(output) - 1))) {
        output[strlen(output) + (size_t)n] = '\0';
    }
    close(ends[0]);
    assert_int_equal(pid, waitpid(pid, &status, 0));
    assert_int_equal(0, status);
}

static int occurrences(const char *text, const char *what)
{
    int count = 0;

    for (const char *at = strstr(text, what); NULL != at; at = strstr(at + 1, what)) {
        ++count;
    }
    return count;
}

static void only_what_is_kept_is_open(void **state)
{
    int other = open("/dev/zero", O_RDONLY); /* not close-on-exec: would be inherited */
    char output[4096];

    (void)state;
    assert_true(0 <= other);
    memset(output, 0, sizeof(output));
    /* exec: no shell that has pipes of its own; ls has the directory open, too, and its output is the pipe */
    run("exec ls -l /proc/self/fd >&$1", output, sizeof(output));
    assert_int_equal(2, occurrences(output, "-> /dev/null"));
    assert_int_equal(2, occurrences(output, "-> pipe:"));
    assert_int_equal(1, occurrences(output, "-> /proc/"));
    assert_int_equal(5, occurrences(output, "-> "));
    close(other);
}

/* The C library's own, which nobody can set; what was inherited of them stays. */
#define LIBRARY_SIGNALS 0x180000000ULL

static void no_signal_is_ignored_or_blocked(void **state)
{
    unsigned long long block = 1, ignore = 1;
    char output[256];
    sigset_t blocked;

    (void)state;
    memset(output, 0, sizeof(output));
    signal(SIGUSR1, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    /* exec: a shell blocks signals itself while it starts another program */
    run("exec sed -n -E 's/^Sig(Blk|Ign):[[:space:]]*/\\1 /p' /proc/self/status >&$1", output, sizeof(output));
    signal(SIGUSR1, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &blocked, NULL);
    assert_int_equal(2, sscanf(output, "Blk %llx Ign %llx", &block, &ignore));
    assert_int_equal(0, block);
    assert_int_equal(0, ignore & ~LIBRARY_SIGNALS);
}

static void a_closed_descriptor_cannot_be_kept(void **state)
{
    int status = 0, closed = 1000;
    pid_t pid;

    (void)state;
    pid = fork();
    assert_true(0 <= pid);
    if (0 == pid) {
        _exit(-1 == lpm_child_descriptors(&closed, 1) ? 0 : 1);
    }
    assert_int_equal(pid, waitpid(pid, &status, 0));
    assert_int_equal(0, status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_kept_is_open),
        cmocka_unit_test(no_signal_is_ignored_or_blocked),
        cmocka_unit_test(a_closed_descriptor_cannot_be_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
