/*
 * Handing descriptors over: pairs with their number, in order; whatever else comes is an error and leaves nothing open.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>

#include "lpm_fds.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS_MAX 8

typedef struct {
    int ends[2]; /* -1: closed */
    int file[2];
    size_t open; /* descriptors of this process, with all of these */
} fixture_t;

static size_t count_open(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(d);
    while (NULL != readdir(d)) {
        n++;
    }
    closedir(d);
    return n;
}

static int set_up(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    assert_int_equal(0, lpm_fds_pair(f->ends));
    assert_int_equal(0, pipe(f->file));
    f->open = count_open();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture_t *f = *state;

    for (size_t i = 0; i < 2; i++) {
        if (0 <= f->ends[i]) {
            close(f->ends[i]);
        }
        close(f->file[i]);
    }
    free(f);
    return 0;
}

static void assert_same_file(int one, int other)
{
    struct stat a, b;

    assert_int_not_equal(one, other);
    assert_int_equal(0, fstat(one, &a));
    assert_int_equal(0, fstat(other, &b));
    assert_true(a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

static void take_pair(fixture_t *f, uint32_t expected)
{
    uint32_t number = ~expected;
    int one = -1, other = -1;

    assert_int_equal(1, lpm_fds_receive(f->ends[1], &number, &one, &other));
    assert_int_equal(expected, number);
    assert_same_file(f->file[0], one);
    assert_same_file(f->file[1], other);
    assert_int_equal(O_RDONLY, fcntl(one, F_GETFL) & O_ACCMODE);
    assert_int_equal(O_WRONLY, fcntl(other, F_GETFL) & O_ACCMODE);
    assert_int_equal(FD_CLOEXEC, fcntl(one, F_GETFD));
    assert_int_equal(FD_CLOEXEC, fcntl(other, F_GETFD));
    assert_int_equal(0, close(one));
    assert_int_equal(0, close(other));
    assert_int_equal(f->open, count_open());
}

static void nothing_there(fixture_t *f)
{
    uint32_t number;
    int one, other;

    assert_int_equal(0, lpm_fds_receive(f->ends[1], &number, &one, &other));
    assert_int_equal(f->open, count_open());
}

static void ends_are_close_on_exec(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(FD_CLOEXEC, fcntl(f->ends[0], F_GETFD));
    assert_int_equal(FD_CLOEXEC, fcntl(f->ends[1], F_GETFD));
}

static void pairs_arrive_in_order(void **state)
{
    static const uint32_t numbers[] = {0, 1, 7, UINT32_MAX, 1, 0x01020304};
    fixture_t *f = *state;

    nothing_there(f);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        assert_int_equal(0, lpm_fds_send(f->ends[0], numbers[i], f->file[0], f->file[1]));
    }
    assert_int_equal(f->open, count_open()); /* they stay the sender's */
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        take_pair(f, numbers[i]);
    }
    nothing_there(f);
}

/* What has been sent outlives the sender's own descriptors. */
static void sender_closes(void **state)
{
    fixture_t *f = *state;
    const int one = dup(f->file[0]), other = dup(f->file[1]);
    uint32_t number;
    int fds[2];

    assert_int_equal(0, lpm_fds_send(f->ends[0], 5, one, other));
    close(one);
    close(other);
    close(f->ends[0]);
    f->ends[0] = -1;
    f->open--;
    take_pair(f, 5);
    assert_int_equal(-1, lpm_fds_receive(f->ends[1], &number, &fds[0], &fds[1]));
    assert_int_equal(EPIPE, errno);
    assert_int_equal(f->open, count_open());
}

static void a_full_socket_says_so(void **state)
{
    fixture_t *f = *state;
    uint32_t sent = 0;

    while (0 == lpm_fds_send(f->ends[0], sent, f->file[0], f->file[1])) {
        sent++;
        assert_in_range(sent, 1, 1000000);
    }
    assert_int_equal(EAGAIN, errno);
    for (uint32_t i = 0; i < sent; i++) {
        take_pair(f, i);
    }
    nothing_there(f);
    assert_int_equal(0, lpm_fds_send(f->ends[0], 3, f->file[0], f->file[1]));
    take_pair(f, 3);
}

static void sending_fails(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(-1, lpm_fds_send(f->ends[0], 1, f->file[0], -1));
    assert_int_equal(EBADF, errno);
    nothing_there(f);
    close(f->ends[1]);
    f->ends[1] = -1;
    assert_int_equal(-1, lpm_fds_send(f->ends[0], 1, f->file[0], f->file[1])); /* and no SIGPIPE */
    assert_int_equal(EPIPE, errno);
}

/* ---- other messages ---- */

static void send_raw(const fixture_t *f, const void *text, size_t bytes, size_t n_fds)
{
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(FDS_MAX * sizeof(int))] = {0};
    struct iovec part = {(void *)(uintptr_t)text, bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    int fds[FDS_MAX];

    for (size_t i = 0; i < n_fds; i++) {
        fds[i] = f->file[i % 2];
    }
    if (0 < n_fds) {
        message.msg_control = room;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        CMSG_FIRSTHDR(&message)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&message)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&message)->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), fds, n_fds * sizeof(int));
    }
    assert_int_equal((ssize_t)bytes, sendmsg(f->ends[0], &message, 0));
}

static void other_messages_are_errors(void **state)
{
    static const struct {
        size_t bytes, n_fds;
    } bad[] = {{4, 0}, {4, 1}, {4, 3}, {4, FDS_MAX}, {3, 2}, {5, 2}, {64, 2}, {1, 1}, {5, 1}, {0, 2}, {0, 1}, {64, 0}};
    static const char text[64] = {1};
    fixture_t *f = *state;
    uint32_t number;
    int one, other;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        send_raw(f, text, bad[i].bytes, bad[i].n_fds);
        errno = 0;
        if (-1 != lpm_fds_receive(f->ends[1], &number, &one, &other) || 0 == errno) {
            fail_msg("%zu bytes with %zu descriptors are taken", bad[i].bytes, bad[i].n_fds);
        }
        if (f->open != count_open()) {
            fail_msg("%zu bytes with %zu descriptors: %zu of them stay open", bad[i].bytes, bad[i].n_fds,
                     count_open() - f->open);
        }
    }
    /* what is right here does not pass for another reason */
    send_raw(f, text, 4, 2);
    take_pair(f, *(const uint32_t *)(const void *)text);
}

static void the_other_end_is_closed(void **state)
{
    fixture_t *f = *state;
    uint32_t number;
    int one, other;

    close(f->ends[0]);
    f->ends[0] = -1;
    assert_int_equal(-1, lpm_fds_receive(f->ends[1], &number, &one, &other));
    assert_int_equal(EPIPE, errno);
    assert_int_equal(-1, lpm_fds_receive(f->file[0], &number, &one, &other)); /* no socket */
    assert_int_equal(ENOTSOCK, errno);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(ends_are_close_on_exec),  TEST(pairs_arrive_in_order), TEST(sender_closes),
        TEST(a_full_socket_says_so),   TEST(sending_fails),         TEST(other_messages_are_errors),
        TEST(the_other_end_is_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
