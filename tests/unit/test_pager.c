/*
 * Both ends of the page channel with processes of their own and without MPI or CRIU: a rank's memory is filled from a
 * holder while the rank uses it, whatever the rank does to it, and whoever of the others is killed.
 *
 * Needs the right to trace (root). TEST_PAGER_ONLY: a pattern of the names of the tests to be run.
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

#include "lpm_conn.h"
#include "lpm_fds.h"
#include "pager_cast.h"
#include "pager_proxy.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUARD_S     15 /* for one test */
#define TIMEOUT_MS  5000
#define STALL_BYTES (8u << 20)
#define KEPT_MAX    64
#define SECRET      "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define CONTROL_FD  3
#define SAFE_FD     4
#define PAGES       ((json_int_t)cast_written())

typedef struct fixture fixture_t;

typedef struct {
    fixture_t *f;
    const char *role;
    pid_t pid; /* -1: none */
    lpm_conn_t *conn;
    json_t *events; /* not yet waited for */
    bool ended;     /* the control connection */
} side_t;

struct fixture {
    struct event_base *base;
    struct event *guard, *ev_report;
    bool too_long;
    proxy_t *proxy;
    cast_t cast;
    unsigned reports;
    uint64_t wrong;
    side_t serve, fill;
    int safe[2];
    struct {
        int uffd, file;
    } kept[KEPT_MAX];
    json_t *attached;
    json_int_t port;
};

static char helper[512];

/* ---- the event loop ---- */

static void on_guard(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    ((fixture_t *)arg)->too_long = true;
}

static void turn(fixture_t *f)
{
    assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    if (f->too_long) {
        fail_msg("nothing happens: %u reports, %d bytes over the proxy", f->reports, (int)proxy_bytes(f->proxy));
    }
}

static void on_report(evutil_socket_t fd, short what, void *arg)
{
    fixture_t *f = arg;
    cast_report_t r;

    (void)what;
    assert_int_equal(sizeof(r), read(fd, &r, sizeof(r)));
    f->reports++;
    f->wrong += r.wrong;
}

static void on_msg(lpm_conn_t *conn, json_t *msg, void *arg)
{
    (void)conn;
    json_array_append(((side_t *)arg)->events, msg);
}

static void on_end(lpm_conn_t *conn, const char *why, void *arg)
{
    (void)conn;
    (void)why;
    ((side_t *)arg)->ended = true;
}

/* ---- helpers ---- */

static void be_helper(int control, int safe)
{
    char fd[16];

    /* out of the way of where they are to be */
    control = fcntl(control, F_DUPFD, 100);
    safe = fcntl(safe, F_DUPFD, 100);
    (void)snprintf(fd, sizeof(fd), "%d", CONTROL_FD);
    if (0 > dup2(control, CONTROL_FD) || 0 > dup2(safe, SAFE_FD) || 0 != close_range(SAFE_FD + 1, ~0U, 0) ||
        0 != prctl(PR_SET_PDEATHSIG, SIGKILL)) {
        _exit(2);
    }
    (void)execl(helper, helper, "--fd", fd, (char *)NULL);
    _exit(2);
}

static void start(side_t *s)
{
    int ends[2];

    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    s->pid = fork();
    if (0 == s->pid) {
        be_helper(ends[1], s->f->safe[1]);
    }
    assert_true(0 < s->pid);
    assert_int_equal(0, close(ends[1]));
    s->conn = lpm_conn_new(s->f->base, ends[0], on_msg, on_end, s);
    assert_non_null(s->conn);
    s->events = json_array();
    s->ended = false;
}

/* @return its status, as of waitpid() */
static int reap(side_t *s)
{
    int status = -1;

    assert_int_equal(s->pid, waitpid(s->pid, &status, 0));
    s->pid = -1;
    lpm_conn_free(s->conn);
    s->conn = NULL;
    json_decref(s->events);
    s->events = NULL;
    return status;
}

static void kill_side(side_t *s)
{
    assert_int_equal(0, kill(s->pid, SIGKILL));
    while (!s->ended) {
        turn(s->f);
    }
    assert_true(WIFSIGNALED(reap(s)));
}

static void await_exit(side_t *s, int code)
{
    int status;

    while (!s->ended) {
        turn(s->f);
    }
    status = reap(s);
    assert_true(WIFEXITED(status));
    assert_int_equal(code, WEXITSTATUS(status));
}

static void say(side_t *s, json_t *command)
{
    assert_non_null(command);
    assert_int_equal(0, lpm_conn_send(s->conn, command));
}

/* Waits for the next word. */
static bool is_next(side_t *s, const char *expected)
{
    const char *name;

    while (0 == json_array_size(s->events)) {
        if (s->ended) {
            fail_msg("%s has ended before it has said %s", s->role, expected);
        }
        turn(s->f);
    }
    name = json_string_value(json_object_get(json_array_get(s->events, 0), "event"));
    return NULL != name && 0 == strcmp(expected, name);
}

/* The next word is to be this one. @return a new reference */
static json_t *await(side_t *s, const char *expected)
{
    const bool right = is_next(s, expected);
    json_t *event = json_incref(json_array_get(s->events, 0));

    json_array_remove(s->events, 0);
    if (!right) {
        fail_msg("%s says %s, not %s", s->role, json_dumps(event, 0), expected);
    }
    return event;
}

static void hear(side_t *s, const char *expected)
{
    json_decref(await(s, expected));
}

static json_int_t number(const json_t *event, const char *name)
{
    const json_t *n = json_object_get(event, name);

    assert_true(json_is_integer(n));
    return json_integer_value(n);
}

/* ---- the safe ---- */

static void close_kept(fixture_t *f, size_t i)
{
    if (0 <= f->kept[i].uffd) {
        (void)close(f->kept[i].uffd);
        (void)close(f->kept[i].file);
        f->kept[i].uffd = f->kept[i].file = -1;
    }
}

static void take_into_safe(fixture_t *f)
{
    uint32_t i;
    int uffd, file;

    while (1 == lpm_fds_receive(f->safe[0], &i, &uffd, &file)) {
        assert_in_range(i, 0, KEPT_MAX - 1);
        close_kept(f, i);
        f->kept[i].uffd = uffd;
        f->kept[i].file = file;
    }
}

static unsigned give_from_safe(fixture_t *f)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < KEPT_MAX; i++) {
        if (0 <= f->kept[i].uffd) {
            assert_int_equal(0, lpm_fds_send(f->safe[0], i, f->kept[i].uffd, f->kept[i].file));
            n++;
        }
    }
    return n;
}

static void empty_safe(fixture_t *f)
{
    take_into_safe(f);
    for (size_t i = 0; i < KEPT_MAX; i++) {
        close_kept(f, i);
    }
}

/* ---- what a daemon would do ---- */

static void open_fill(fixture_t *f, bool again)
{
    json_t *command = json_pack("{s:s,s:[s],s:s,s:i,s:i}", "op", "open_fill", "listen_addrs", "127.0.0.1", "secret",
                                SECRET, "timeout_ms", TIMEOUT_MS, "safe", SAFE_FD);
    json_t *listening;

    if (again) {
        json_object_set_new(command, "again", json_true());
        json_object_set_new(command, "port", json_integer(f->port));
    }
    start(&f->fill);
    say(&f->fill, command);
    listening = await(&f->fill, "listening");
    assert_true(!again || f->port == number(listening, "port"));
    f->port = number(listening, "port");
    proxy_set_target(f->proxy, (int)f->port);
    json_decref(listening);
}

static void open_serve(fixture_t *f)
{
    start(&f->serve);
    say(&f->serve, json_pack("{s:s,s:[s],s:i,s:s,s:i}", "op", "open_serve", "peer_addrs", "127.0.0.1", "peer_port",
                             proxy_port(f->proxy), "secret", SECRET, "timeout_ms", TIMEOUT_MS));
    hear(&f->serve, "opened");
}

static void serve_holder(fixture_t *f)
{
    say(&f->serve, json_pack("{s:s,s:i,s:o}", "op", "serve", "holder", (int)f->cast.holder, "ranges", cast_ranges()));
}

static void attach(fixture_t *f)
{
    say(&f->fill, json_pack("{s:s,s:o}", "op", "expect", "ranges", cast_ranges()));
    say(&f->fill, json_pack("{s:s,s:i}", "op", "attach", "pid", (int)f->cast.rank));
}

static void open_both(fixture_t *f)
{
    open_fill(f, false);
    open_serve(f);
    hear(&f->fill, "opened");
}

/* Until the rank may run; what it does not ask for is held back. */
static void begin_held_back(fixture_t *f)
{
    open_both(f);
    serve_holder(f);
    attach(f);
    f->attached = await(&f->fill, "attached");
    assert_int_equal(PAGES, number(f->attached, "pages"));
}

static void begin(fixture_t *f)
{
    begin_held_back(f);
    say(&f->fill, json_pack("{s:s}", "op", "stream"));
}

/* The bulk connection stands still with most pages missing. */
static void begin_stalled(fixture_t *f)
{
    proxy_stall_bulk(f->proxy, STALL_BYTES);
    begin(f);
    while (!proxy_is_stalled(f->proxy)) {
        turn(f);
    }
}

/* Every thread gets one. */
static void tell_all(fixture_t *f, cast_job_t job)
{
    for (int i = 0; i < CAST_THREADS; i++) {
        assert_int_equal(0, cast_tell(&f->cast, job));
    }
}

static void await_reports(fixture_t *f, unsigned n)
{
    while (f->reports < n) {
        turn(f);
    }
    assert_int_equal(n, f->reports);
    assert_int_equal(0, f->wrong);
    f->reports = 0;
}

static json_t *await_filled(fixture_t *f)
{
    json_t *filled;

    hear(&f->fill, "complete");
    empty_safe(f);
    filled = await(&f->fill, "filled");
    await_exit(&f->fill, 0);
    return filled;
}

static void release(fixture_t *f)
{
    int status;

    say(&f->serve, json_pack("{s:s}", "op", "release"));
    hear(&f->serve, "released");
    await_exit(&f->serve, 0);
    assert_int_equal(f->cast.holder, waitpid(f->cast.holder, &status, 0));
    f->cast.holder = -1;
    assert_true(WIFSIGNALED(status) && SIGKILL == WTERMSIG(status));
}

static void verify_all(fixture_t *f)
{
    tell_all(f, cast_verify);
    await_reports(f, CAST_THREADS);
}

/* The pages that are missing come, and are still right when nobody cares for them any more. @return a new reference */
static json_t *finish(fixture_t *f)
{
    json_t *filled;

    proxy_go_on(f->proxy);
    filled = await_filled(f);
    release(f);
    verify_all(f);
    return filled;
}

static json_int_t pages_of(const json_t *filled)
{
    assert_int_equal(4096 * number(filled, "fault_pages"), number(filled, "fault_bytes"));
    assert_int_equal(4096 * number(filled, "stream_pages"), number(filled, "stream_bytes"));
    return number(filled, "fault_pages") + number(filled, "stream_pages");
}

/* ---- set-up ---- */

static void init_side(fixture_t *f, side_t *s, const char *role)
{
    *s = (side_t){.f = f, .role = role, .pid = -1};
}

static int set_up(void **state)
{
    const struct timeval limit = {GUARD_S, 0};
    fixture_t *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    *state = f;
    init_side(f, &f->serve, "the helper that serves");
    init_side(f, &f->fill, "the helper that fills");
    for (size_t i = 0; i < KEPT_MAX; i++) {
        f->kept[i].uffd = f->kept[i].file = -1;
    }
    assert_int_equal(0, cast_start(&f->cast));
    f->base = event_base_new();
    f->guard = event_new(f->base, -1, 0, on_guard, f);
    f->ev_report = event_new(f->base, f->cast.report, EV_READ | EV_PERSIST, on_report, f);
    assert_int_equal(0, event_add(f->guard, &limit) + event_add(f->ev_report, NULL));
    f->proxy = proxy_new(f->base);
    assert_non_null(f->proxy);
    assert_int_equal(0, lpm_fds_pair(f->safe));
    return 0;
}

static void end_side(side_t *s)
{
    if (0 < s->pid) {
        (void)kill(s->pid, SIGKILL);
        (void)reap(s);
    }
}

static int tear_down(void **state)
{
    fixture_t *f = *state;

    cast_end(&f->cast); /* the rank first: it is never to see what becomes of it without a pager */
    end_side(&f->serve);
    end_side(&f->fill);
    empty_safe(f);
    close(f->safe[0]);
    close(f->safe[1]);
    proxy_free(f->proxy);
    event_free(f->guard);
    event_free(f->ev_report);
    event_base_free(f->base);
    json_decref(f->attached);
    free(f);
    return 0;
}

/* ---- everything goes well ---- */

static void filled_while_in_use(void **state)
{
    fixture_t *f = *state;
    json_t *filled;

    begin(f);
    tell_all(f, cast_verify);
    filled = finish(f);
    json_decref(filled);
}

static void filled_without_being_touched(void **state)
{
    fixture_t *f = *state;
    json_t *filled;

    begin(f);
    filled = finish(f);
    assert_int_equal(PAGES, number(filled, "stream_pages"));
    assert_int_equal(0, number(filled, "faults") + number(filled, "fault_pages") + number(filled, "zero_faults"));
    json_decref(filled);
}

/* A rank that is long in being connected again gets what it does not ask for all the same. */
static void filled_without_a_word(void **state)
{
    fixture_t *f = *state;
    json_t *filled;

    begin_held_back(f);
    filled = finish(f);
    assert_int_equal(PAGES, number(filled, "stream_pages"));
    json_decref(filled);
}

/* With the bulk connection standing still, pages come because the rank waits for them. */
static void filled_by_faults(void **state)
{
    fixture_t *f = *state;
    json_t *filled;

    begin_stalled(f);
    verify_all(f);
    filled = finish(f);
    assert_int_equal(PAGES, pages_of(filled));
    assert_in_range(number(filled, "fault_pages"), (PAGES - STALL_BYTES / 4096) / 2, PAGES);
    assert_in_range(number(filled, "zero_faults"), 1, CAST_PAGES - (unsigned)PAGES);
    assert_true(number(filled, "faults") >= number(filled, "fault_pages") + number(filled, "zero_faults"));
    json_decref(filled);
}

/* ---- the rank changes its memory ---- */

static void changed_while_missing(void **state)
{
    fixture_t *f = *state;
    json_t *filled;

    begin_stalled(f);
    assert_int_equal(0, cast_tell(&f->cast, cast_change));
    await_reports(f, 1);
    verify_all(f);
    filled = finish(f);
    assert_in_range(pages_of(filled), 1, PAGES - 100); /* some were not wanted any more */
    json_decref(filled);
}

/* The stream, not faults, brings the pages to where they have moved. */
static void changed_and_not_touched(void **state)
{
    fixture_t *f = *state;

    begin_stalled(f);
    assert_int_equal(0, cast_tell(&f->cast, cast_change));
    await_reports(f, 1);
    json_decref(finish(f));
}

static void forked_while_missing(void **state)
{
    fixture_t *f = *state;
    json_t *filled;

    begin_stalled(f);
    tell_all(f, cast_fork);
    await_reports(f, CAST_THREADS);
    filled = finish(f);
    assert_true(PAGES < pages_of(filled)); /* a page goes to every process that lacks it */
    json_decref(filled);
}

static void forked_and_changed(void **state)
{
    fixture_t *f = *state;

    begin_stalled(f);
    assert_int_equal(0, cast_tell(&f->cast, cast_change));
    await_reports(f, 1);
    tell_all(f, cast_fork);
    await_reports(f, CAST_THREADS);
    json_decref(finish(f));
}

/* While some threads wait for pages, another one changes mappings without pause: nobody may wait for the other. */
static void changed_without_pause(void **state)
{
    fixture_t *f = *state;

    begin_stalled(f);
    assert_int_equal(0, cast_tell(&f->cast, cast_churn));
    assert_int_equal(0, cast_tell(&f->cast, cast_verify));
    assert_int_equal(0, cast_tell(&f->cast, cast_verify));
    await_reports(f, CAST_THREADS);
    proxy_go_on(f->proxy);
    json_decref(await_filled(f));
    release(f);
}

/* The same with the stream. */
static void changed_without_pause_in_the_stream(void **state)
{
    fixture_t *f = *state;

    begin(f);
    assert_int_equal(0, cast_tell(&f->cast, cast_churn));
    assert_int_equal(0, cast_tell(&f->cast, cast_verify));
    assert_int_equal(0, cast_tell(&f->cast, cast_verify));
    json_decref(await_filled(f));
    await_reports(f, CAST_THREADS);
    release(f);
}

/* ---- connections ---- */

static void connections_are_cut(void **state)
{
    fixture_t *f = *state;
    uint64_t next = 1 << 20;
    int cuts = 0;

    begin(f);
    tell_all(f, cast_verify);
    while (0 == json_array_size(f->fill.events)) {
        turn(f);
        if (proxy_bytes(f->proxy) >= next && 0 < proxy_cut(f->proxy)) {
            next = proxy_bytes(f->proxy) + (3u << 20);
            cuts++;
        }
    }
    json_decref(finish(f));
    assert_in_range(cuts, 5, 1000);
}

/* Nothing is under way but what a thread waits for. */
static void connections_are_cut_when_stalled(void **state)
{
    fixture_t *f = *state;

    begin_stalled(f);
    assert_int_equal(2, proxy_cut(f->proxy));
    proxy_stall_bulk(f->proxy, 0);
    verify_all(f);
    assert_in_range(proxy_cut(f->proxy), 1, 4);
    json_decref(finish(f));
}

/* ---- helpers are killed ---- */

static void serve_again(fixture_t *f)
{
    kill_side(&f->serve);
    open_serve(f);
    serve_holder(f);
}

static void serving_helper_is_killed(void **state)
{
    fixture_t *f = *state;

    begin_stalled(f);
    tell_all(f, cast_verify);
    for (int i = 0; i < 3; i++) {
        serve_again(f);
    }
    await_reports(f, CAST_THREADS);
    json_decref(finish(f));
}

/* @return for how many processes the new one cares */
static unsigned fill_again(fixture_t *f)
{
    unsigned n;

    kill_side(&f->fill);
    take_into_safe(f);
    n = give_from_safe(f);
    proxy_stall_bulk(f->proxy, STALL_BYTES);
    open_fill(f, true);
    attach(f);
    return n;
}

/* The two connections of the new one may be there before or after it has been told what to do. */
static void await_attached_again(fixture_t *f)
{
    const bool opened = is_next(&f->fill, "opened");

    hear(&f->fill, opened ? "opened" : "attached");
    hear(&f->fill, opened ? "attached" : "opened");
}

static void filling_helper_is_killed(void **state)
{
    fixture_t *f = *state;

    begin_stalled(f);
    tell_all(f, cast_verify);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(1, fill_again(f));
        await_attached_again(f);
    }
    await_reports(f, CAST_THREADS);
    json_decref(finish(f));
}

static void filling_helper_is_killed_after_changes(void **state)
{
    fixture_t *f = *state;

    begin_stalled(f);
    assert_int_equal(0, cast_tell(&f->cast, cast_change));
    await_reports(f, 1);
    assert_int_equal(1, fill_again(f));
    await_attached_again(f);
    verify_all(f);
    json_decref(finish(f));
}

static void filling_helper_is_killed_after_forks(void **state)
{
    fixture_t *f = *state;

    begin_stalled(f);
    tell_all(f, cast_fork_and_wait);
    await_reports(f, CAST_THREADS);
    assert_int_equal(1 + CAST_THREADS, fill_again(f));
    await_attached_again(f);
    assert_int_equal(CAST_THREADS, write(f->cast.gate, "ggg", CAST_THREADS));
    await_reports(f, CAST_THREADS);
    json_decref(finish(f));
}

/* The old helper has been told of a page that somebody waits for, and cannot answer any more. */
static void filling_helper_is_killed_with_a_question(void **state)
{
    fixture_t *f = *state;
    struct pollfd question = {.events = POLLIN};
    struct uffd_msg m;

    begin_stalled(f);
    kill_side(&f->fill);
    take_into_safe(f);
    question.fd = f->kept[0].uffd;
    assert_int_equal(0, cast_tell(&f->cast, cast_touch_unwritten));
    assert_int_equal(1, poll(&question, 1, GUARD_S * 1000));
    assert_int_equal(sizeof(m), read(question.fd, &m, sizeof(m)));
    assert_int_equal(UFFD_EVENT_PAGEFAULT, m.event);
    assert_int_equal(1, give_from_safe(f));
    proxy_stall_bulk(f->proxy, STALL_BYTES);
    open_fill(f, true);
    attach(f);
    await_attached_again(f);
    await_reports(f, 1);
    json_decref(finish(f));
}

static void everything_at_once(void **state)
{
    fixture_t *f = *state;

    begin_stalled(f);
    tell_all(f, cast_fork_and_wait);
    await_reports(f, CAST_THREADS);
    serve_again(f);
    (void)fill_again(f);
    (void)proxy_cut(f->proxy);
    assert_int_equal(CAST_THREADS, write(f->cast.gate, "ggg", CAST_THREADS));
    await_attached_again(f);
    (void)proxy_cut(f->proxy);
    serve_again(f);
    await_reports(f, CAST_THREADS);
    json_decref(finish(f));
}

/* ---- it cannot go on ---- */

static void await_failed(side_t *s, const char *stage)
{
    json_t *failed = await(s, "failed");

    assert_string_equal(stage, json_string_value(json_object_get(failed, "stage")));
    json_decref(failed);
    while (!s->ended) {
        turn(s->f);
    }
    assert_int_equal(0, json_array_size(s->events)); /* once */
    await_exit(s, 1);
}

static void holder_is_killed(void **state)
{
    fixture_t *f = *state;

    begin_stalled(f);
    tell_all(f, cast_verify);
    assert_int_equal(0, kill(f->cast.holder, SIGKILL));
    await_failed(&f->serve, "serve");
}

/* With its threads busy reading. */
static void holder_is_killed_in_the_stream(void **state)
{
    fixture_t *f = *state;

    begin(f);
    while (proxy_bytes(f->proxy) < STALL_BYTES) {
        turn(f);
    }
    assert_int_equal(0, kill(f->cast.holder, SIGKILL));
    await_failed(&f->serve, "serve");
}

static void nothing_to_serve(void **state)
{
    fixture_t *f = *state;

    open_both(f);
    say(&f->serve, json_pack("{s:s,s:i,s:[[i,i]]}", "op", "serve", "holder", (int)f->cast.holder, "ranges", 8192, 1));
    await_failed(&f->serve, "serve");
}

static void no_rank(void **state)
{
    fixture_t *f = *state;

    open_both(f);
    serve_holder(f);
    say(&f->fill, json_pack("{s:s,s:o}", "op", "expect", "ranges", cast_ranges()));
    say(&f->fill, json_pack("{s:s,s:i}", "op", "attach", "pid", (int)f->cast.holder)); /* has no second thread */
    await_failed(&f->fill, "attach");
}

static void out_of_turn(void **state)
{
    fixture_t *f = *state;

    open_both(f);
    say(&f->fill, json_pack("{s:s,s:i}", "op", "attach", "pid", (int)f->cast.rank));
    await_failed(&f->fill, "fill");
    say(&f->serve, json_pack("{s:s}", "op", "release"));
    await_failed(&f->serve, "serve");
}

/* Nothing has been handed over to the one that is to go on. */
static void empty_handed(void **state)
{
    fixture_t *f = *state;

    open_fill(f, false);
    end_side(&f->fill);
    open_fill(f, true);
    say(&f->fill, json_pack("{s:s,s:o}", "op", "expect", "ranges", cast_ranges()));
    await_failed(&f->fill, "expect");
}

/* Rolled back before the rank is there: the holder stays. */
static void rolled_back(void **state)
{
    fixture_t *f = *state;

    open_both(f);
    serve_holder(f);
    say(&f->fill, json_pack("{s:s,s:o}", "op", "expect", "ranges", cast_ranges()));
    say(&f->fill, json_pack("{s:s}", "op", "rollback"));
    hear(&f->fill, "discarded");
    await_exit(&f->fill, 0);
    say(&f->serve, json_pack("{s:s}", "op", "rollback"));
    hear(&f->serve, "released");
    await_exit(&f->serve, 0);
    assert_int_equal(0, waitpid(f->cast.holder, NULL, WNOHANG));
}

/* The helper as the build leaves it, beside the tests. */
static int find_helper(void **state)
{
    static const char *const places[] = {"/../../helper/lpm-helper", "/../../../helper/lpm-helper"};
    char self[256];
    const ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN); /* a connection that has been cut */
    if (0 >= len) {
        return -1;
    }
    self[len] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        (void)snprintf(helper, sizeof(helper), "%s%s", self, places[i]);
        if (0 == access(helper, X_OK)) {
            return 0;
        }
    }
    (void)fprintf(stderr, "lpm-helper is not built\n");
    return -1;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(filled_while_in_use),
        TEST(filled_without_being_touched),
        TEST(filled_without_a_word),
        TEST(filled_by_faults),
        TEST(changed_while_missing),
        TEST(changed_and_not_touched),
        TEST(forked_while_missing),
        TEST(forked_and_changed),
        TEST(changed_without_pause),
        TEST(changed_without_pause_in_the_stream),
        TEST(connections_are_cut),
        TEST(connections_are_cut_when_stalled),
        TEST(serving_helper_is_killed),
        TEST(filling_helper_is_killed),
        TEST(filling_helper_is_killed_after_changes),
        TEST(filling_helper_is_killed_after_forks),
        TEST(filling_helper_is_killed_with_a_question),
        TEST(everything_at_once),
        TEST(holder_is_killed),
        TEST(holder_is_killed_in_the_stream),
        TEST(nothing_to_serve),
        TEST(no_rank),
        TEST(out_of_turn),
        TEST(empty_handed),
        TEST(rolled_back),
    };
    const char *only = getenv("TEST_PAGER_ONLY");

    if (NULL != only) {
        cmocka_set_test_filter(only);
    }
    return cmocka_run_group_tests(tests, find_helper, NULL);
}
