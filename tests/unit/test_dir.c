/*
 * Removing an image directory: all of it, nothing else, and only our own.
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lpm_dir.h"

static char top[] = "/tmp/lpm-test-dir.XXXXXX";

static char *at(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", top, name);
    return path;
}

static void touch(const char *name)
{
    int fd = open(at(name), O_WRONLY | O_CREAT, 0600);

    assert_true(0 <= fd);
    assert_int_equal(0, close(fd));
}

static int setup(void **state)
{
    (void)state;
    snprintf(top, sizeof(top), "/tmp/lpm-test-dir.XXXXXX");
    return (NULL == mkdtemp(top)) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(at("outside"));
    (void)unlink(at("link"));
    (void)rmdir(at("images/inner"));
    (void)rmdir(at("images"));
    return rmdir(top);
}

static void removes_files_and_itself(void **state)
{
    (void)state;
    assert_int_equal(0, mkdir(at("images"), 0700));
    touch("images/a.img");
    touch("images/.hidden");
    assert_int_equal(0, lpm_dir_remove(at("images")));
    assert_int_equal(-1, access(at("images"), F_OK));
}

static void a_missing_one_is_fine(void **state)
{
    (void)state;
    assert_int_equal(0, lpm_dir_remove(at("images")));
}

static void follows_no_link(void **state)
{
    char target[256];

    (void)state;
    touch("outside");
    assert_int_equal(0, mkdir(at("images"), 0700));
    snprintf(target, sizeof(target), "%s/outside", top);
    assert_int_equal(0, symlink(target, at("images/to_outside")));
    assert_int_equal(0, lpm_dir_remove(at("images")));
    assert_int_equal(0, access(at("outside"), F_OK));
    assert_int_equal(0, symlink(top, at("link")));
    assert_int_equal(-1, lpm_dir_remove(at("link")));
    assert_int_equal(0, access(at("outside"), F_OK));
}

static void a_directory_inside_stays(void **state)
{
    (void)state;
    assert_int_equal(0, mkdir(at("images"), 0700));
    assert_int_equal(0, mkdir(at("images/inner"), 0700));
    assert_int_equal(-1, lpm_dir_remove(at("images")));
    assert_int_equal(0, access(at("images/inner"), F_OK));
}

/* The daemon and its helper may both be at it. On tmpfs, as images are, a listing then leaves out some files. */
static void two_at_once(void **state)
{
    char path[64], file[96];
    int status, fd;
    pid_t child;

    (void)state;
    for (int round = 0; round < 50; ++round) {
        snprintf(path, sizeof(path), "/dev/shm/lpm-test-dir.%d.%d", (int)getpid(), round);
        assert_int_equal(0, mkdir(path, 0700));
        for (int i = 0; i < 300; ++i) {
            snprintf(file, sizeof(file), "%s/%d.img", path, i);
            assert_true(0 <= (fd = open(file, O_WRONLY | O_CREAT, 0600)));
            close(fd);
        }
        if (0 == (child = fork())) {
            _exit(0 == lpm_dir_remove(path) ? 0 : 1);
        }
        assert_true(0 < child);
        assert_int_equal(0, lpm_dir_remove(path));
        assert_int_equal(child, waitpid(child, &status, 0));
        assert_int_equal(0, status);
        assert_int_equal(-1, access(path, F_OK));
    }
}

static void only_our_own(void **state)
{
    (void)state;
    if (0 != geteuid()) {
        skip(); /* needs root to make a directory of someone else */
    }
    assert_int_equal(0, mkdir(at("images"), 0700));
    assert_int_equal(0, chown(at("images"), 12345, 12345));
    assert_int_equal(-1, lpm_dir_remove(at("images")));
    assert_int_equal(EPERM, errno);
    assert_int_equal(0, access(at("images"), F_OK));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(removes_files_and_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_one_is_fine, setup, teardown),
        cmocka_unit_test_setup_teardown(follows_no_link, setup, teardown),
        cmocka_unit_test_setup_teardown(a_directory_inside_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(two_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(only_our_own, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
