/*
 * Where the control socket of an mpirun is looked for, and what is found there.
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

#include "find_mpirun.h"
#include "lpm_msg.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PID 4711
/* longer than sun_path, as session directories below a long TMPDIR are */
#define LONG_NAME                                                                                                      \
    "a-directory-name-that-is-on-its-own-almost-as-long-as-the-path-of-a-socket-may-be-so-that-two-overflow-it"

typedef struct {
    char base[256];
    char session[512];
    int listener;
} place_t;

static void launcher_names(void **state)
{
    (void)state;
    assert_true(find_is_launcher("mpirun"));
    assert_true(find_is_launcher("orterun"));
    assert_true(find_is_launcher("mpiexec"));
    assert_true(find_is_launcher("oshrun"));
    assert_true(find_is_launcher("mpirun.openmpi"));
    assert_false(find_is_launcher("mpirunner"));
    assert_false(find_is_launcher("orted"));
    assert_false(find_is_launcher("mpi"));
    assert_false(find_is_launcher(""));
}

#define BLOCK(text) text, sizeof(text) - 1

static void bases_come_from_everywhere_once(void **state)
{
    find_bases_t bases = {.count = 0};

    (void)state;
    assert_int_equal(0,
                     find_bases_collect("/own", BLOCK("A=b\0TMPDIR=/job\0TMP=/own\0OMPI_MCA_orte_tmpdir_base=/env\0"),
                                        BLOCK("mpirun\0--mca\0orte_tmpdir_base\0/line\0-mca\0crs\0lpm\0"
                                              "-gmca\0orte_local_tmpdir_base\0/local\0"),
                                        &bases));
    const char *expected[] = {"/line", "/local", "/env", "/job", "/own", "/tmp"};
    assert_int_equal(6, bases.count);
    for (int i = 0; i < bases.count; ++i) {
        assert_string_equal(expected[i], bases.dir[i]);
    }
    find_bases_clear(&bases);
    assert_int_equal(0, bases.count);
}

static void odd_blocks_give_tmp_alone(void **state)
{
    find_bases_t bases = {.count = 0};

    (void)state;
    /* empty values, a parameter without its value, names that only begin alike, a last string without its NUL */
    assert_int_equal(0,
                     find_bases_collect("", BLOCK("TMPDIR=\0TMPDIRX=/x\0XTMPDIR=/x\0TMP=/cut"),
                                        BLOCK("mpirun\0mca\0orte_tmpdir_base\0/x\0--mca\0orte_tmpdir_base\0"), &bases));
    assert_int_equal(1, bases.count);
    assert_string_equal("/tmp", bases.dir[0]);
    find_bases_clear(&bases);
    assert_int_equal(0, find_bases_collect(NULL, "", 0, "", 0, &bases));
    assert_int_equal(1, bases.count);
    find_bases_clear(&bases);
}

static int set_up(void **state)
{
    place_t *place = calloc(1, sizeof(*place));
    char dir[] = "/tmp/lpm-test-find-XXXXXX";

    assert_non_null(place);
    assert_non_null(mkdtemp(dir));
    (void)snprintf(place->base, sizeof(place->base), "%s/" LONG_NAME, dir);
    assert_int_equal(0, mkdir(place->base, 0700));
    place->listener = -1;
    *state = place;
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int tear_down(void **state)
{
    place_t *place = *state;

    if (place->listener >= 0) {
        (void)close(place->listener);
    }
    *strrchr(place->base, '/') = '\0';
    assert_int_equal(0, nftw(place->base, remove_entry, 8, FTW_DEPTH | FTW_PHYS));
    free(place);
    return 0;
}

/* For a test of several rounds: what a failed round leaves behind is still undone by the test's own tear_down. */
static void renew(void **state)
{
    assert_int_equal(0, tear_down(state));
    assert_int_equal(0, set_up(state));
}

static void make_session(place_t *place, const char *host, pid_t pid)
{
    char top[400];

    (void)snprintf(top, sizeof(top), "%s/ompi.%s.%lu", place->base, host, (unsigned long)geteuid());
    assert_int_equal(0, mkdir(top, 0700));
    (void)snprintf(place->session, sizeof(place->session), "%s/pid.%ld", top, (long)pid);
    assert_int_equal(0, mkdir(place->session, 0700));
}

/* Bind the control socket; its own path being too long, through the directory. */
static void make_socket(place_t *place)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = LPM_CONTROL_SOCKET};
    char cwd[512];

    place->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(place->listener >= 0);
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    assert_int_equal(0, chdir(place->session));
    int rc = bind(place->listener, (struct sockaddr *)&addr, sizeof(addr));
    assert_int_equal(0, chdir(cwd));
    assert_int_equal(0, rc);
}

static find_result_t look(const place_t *place, uid_t owner, double timeout)
{
    int fd = -1;

    find_result_t result = find_control_socket(place->base, owner, PID, timeout, &fd);
    assert_int_equal(FIND_CONNECTED == result, fd >= 0);
    if (fd >= 0) {
        assert_int_equal(0, close(fd));
    }
    return result;
}

static void no_session_directory(void **state)
{
    place_t *place = *state;

    assert_int_equal(FIND_NO_SESSION, look(place, geteuid(), 0));
    make_session(place, "n1", PID + 1);
    assert_int_equal(FIND_NO_SESSION, look(place, geteuid(), 0));
}

static void session_without_socket(void **state)
{
    place_t *place = *state;

    make_session(place, "n1", PID);
    assert_int_equal(FIND_NO_SOCKET, look(place, geteuid(), 0));
}

static void socket_without_listener(void **state)
{
    place_t *place = *state;

    make_session(place, "n1", PID);
    make_socket(place);
    assert_int_equal(FIND_REFUSED, look(place, geteuid(), 0));
}

static void listener_is_reached(void **state)
{
    place_t *place = *state;

    make_session(place, "n1", PID);
    make_socket(place);
    assert_int_equal(0, listen(place->listener, 1));
    assert_int_equal(FIND_CONNECTED, look(place, geteuid(), 0));
}

/* Left over from another host or an earlier process of that number. */
static void stale_session_does_not_hide_the_live_one(void **state)
{
    place_t *place = *state;

    make_session(place, "n0", PID);
    make_session(place, "n1.cluster.example", PID);
    make_socket(place);
    assert_int_equal(0, listen(place->listener, 1));
    make_session(place, "n2", PID);
    assert_int_equal(FIND_CONNECTED, look(place, geteuid(), 0));
}

/* In whatever order the directories are read: each of three has the socket once. */
static void what_says_most_is_told(void **state)
{
    static const char *const hosts[] = {"n0", "n1", "n2"};

    for (size_t with_socket = 0; with_socket < 3; ++with_socket) {
        renew(state);
        for (size_t i = 0; i < 3; ++i) {
            make_session(*state, hosts[i], PID);
            if (i == with_socket) {
                make_socket(*state);
            }
        }
        assert_int_equal(FIND_REFUSED, look(*state, geteuid(), 0));
    }
}

static void full_listener_times_out(void **state)
{
    place_t *place = *state;
    int fd;

    make_session(place, "n1", PID);
    make_socket(place);
    assert_int_equal(0, listen(place->listener, 0));
    assert_int_equal(FIND_CONNECTED, find_control_socket(place->base, geteuid(), PID, 0, &fd));
    assert_int_equal(FIND_TIMED_OUT, look(place, geteuid(), 0.05));
    assert_int_equal(0, close(fd));
}

static void directory_of_another_user_is_not_trusted(void **state)
{
    place_t *place = *state;
    char other[600];

    make_session(place, "n1", PID);
    make_socket(place);
    assert_int_equal(0, listen(place->listener, 1));
    /* the name says that it belongs to the next user, the file system does not */
    *strrchr(place->session, '/') = '\0';
    (void)snprintf(other, sizeof(other), "%s/ompi.n1.%lu", place->base, (unsigned long)geteuid() + 1);
    assert_int_equal(0, rename(place->session, other));
    assert_int_equal(FIND_NO_SESSION, look(place, geteuid() + 1, 0));
    assert_int_equal(FIND_NO_SESSION, look(place, geteuid(), 0));
}

static void link_is_not_followed(void **state)
{
    place_t *place = *state;
    char moved[600];

    make_session(place, "n1", PID);
    make_socket(place);
    assert_int_equal(0, listen(place->listener, 1));
    (void)snprintf(moved, sizeof(moved), "%s/elsewhere", place->base);
    assert_int_equal(0, rename(place->session, moved));
    assert_int_equal(0, symlink(moved, place->session));
    assert_int_equal(FIND_NO_SESSION, look(place, geteuid(), 0));
}

static void no_such_base(void **state)
{
    int fd;

    (void)state;
    assert_int_equal(FIND_NO_SESSION, find_control_socket("/nonexistent", geteuid(), PID, 0, &fd));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(launcher_names),
        cmocka_unit_test(bases_come_from_everywhere_once),
        cmocka_unit_test(odd_blocks_give_tmp_alone),
        TEST(no_session_directory),
        TEST(session_without_socket),
        TEST(socket_without_listener),
        TEST(listener_is_reached),
        TEST(stale_session_does_not_hide_the_live_one),
        TEST(what_says_most_is_told),
        TEST(full_listener_times_out),
        TEST(directory_of_another_user_is_not_trusted),
        TEST(link_is_not_followed),
        cmocka_unit_test(no_such_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
