/*
 * UNIX sockets in directories: mode, long paths, leftovers, who is at the other end.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lpm_unix.h"

#define NAME "test.sock"

static char top[64], deep[512], path[600];

/* deeper than the 107 bytes that an address of a UNIX socket holds */
static int setup(void **state)
{
    size_t length;

    (void)state;
    snprintf(top, sizeof(top), "/tmp/lpm-test-unix.XXXXXX");
    if (NULL == mkdtemp(top)) {
        return -1;
    }
    snprintf(deep, sizeof(deep), "%s", top);
    for (int level = 0; level < 4; ++level) {
        length = strlen(deep);
        snprintf(deep + length, sizeof(deep) - length, "/%.*s", 50,
                 "a-long-name-of-a-directory-that-goes-on-and-on-and-on");
        if (0 != mkdir(deep, 0700)) {
            return -1;
        }
    }
    snprintf(path, sizeof(path), "%s/%s", deep, NAME);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    while (0 != strcmp(deep, top)) {
        if (0 != rmdir(deep)) {
            return -1;
        }
        *strrchr(deep, '/') = '\0';
    }
    return rmdir(top);
}

static int accept_one(int listener)
{
    int fd, tries = 0;

    do { /* the listener does not block; a local connection is there when connect() has returned */
        fd = accept(listener, NULL, NULL);
    } while (0 > fd && EAGAIN == errno && 1000 > ++tries);
    assert_true(0 <= fd);
    return fd;
}

static void two_ends_meet(void **state)
{
    int listener = lpm_unix_listen(deep, NAME), client, server, pid = 0;
    unsigned uid = 12345;
    char byte = 0;

    (void)state;
    assert_true(0 <= listener);
    client = lpm_unix_connect(path);
    assert_true(0 <= client);
    server = accept_one(listener);
    assert_int_equal(1, write(client, "x", 1));
    assert_int_equal(1, read(server, &byte, 1));
    assert_int_equal('x', byte);
    assert_int_equal(0, lpm_unix_peer(server, &pid, &uid));
    assert_int_equal(getpid(), pid);
    assert_int_equal(getuid(), uid);
    close(client);
    close(server);
    close(listener);
}

static void only_the_owner_may_connect(void **state)
{
    int listener = lpm_unix_listen(deep, NAME);
    struct stat st;

    (void)state;
    assert_true(0 <= listener);
    assert_int_equal(0, stat(path, &st));
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(0600, st.st_mode & 07777);
    assert_int_equal(FD_CLOEXEC, fcntl(listener, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(O_NONBLOCK, fcntl(listener, F_GETFL) & O_NONBLOCK);
    close(listener);
}

static void a_leftover_is_replaced(void **state)
{
    int first = lpm_unix_listen(deep, NAME), second, client;

    (void)state;
    assert_true(0 <= first);
    close(first);
    assert_int_equal(-1, lpm_unix_connect(path));
    assert_int_equal(ECONNREFUSED, errno);
    second = lpm_unix_listen(deep, NAME);
    assert_true(0 <= second);
    client = lpm_unix_connect(path);
    assert_true(0 <= client);
    close(client);
    close(second);
}

static void failures_say_why(void **state)
{
    (void)state;
    assert_int_equal(-1, lpm_unix_listen("/nonexistent", NAME));
    assert_int_equal(ENOENT, errno);
    assert_int_equal(-1, lpm_unix_connect("/nonexistent/" NAME));
    assert_int_equal(ENOENT, errno);
    assert_int_equal(-1, lpm_unix_peer(-1, NULL, NULL));
    assert_int_equal(EBADF, errno);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(two_ends_meet, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_owner_may_connect, setup, teardown),
        cmocka_unit_test_setup_teardown(a_leftover_is_replaced, setup, teardown),
        cmocka_unit_test(failures_say_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
