/*
 * The helper that fills the memory of a rank that has arrived: commands and connections of the pager.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "helper.h"
#include "image_net.h"
#include "lpm_children.h"
#include "lpm_fds.h"
#include "lpm_msg.h"
#include "lpm_thread.h"
#include "pager.h"
#include "pages_uffd.h"
#include "util_bell.h"
#include "util_proc.h"

/* For a process to end that has been killed. */
#define END_MS 1000

typedef struct {
    helper_t *h;
    struct event_base *base;
    image_stream_conf_t conf;
    image_listener_t *listener;
    image_stream_t *next[2]; /* connections that take over as soon as the old ones are left: urgent, bulk */
    bool opened, expecting, ended;
    pid_t pid;    /* of the rank, once it is to be attached */
    double since; /* it has been attached */
    pager_t p;
    struct event *ev_wake;
    json_t *report; /* to be said in the end */
} fill_t;

static void fail(fill_t *f, const char *stage, const char *message)
{
    if (!f->ended) {
        f->ended = true;
        helper_fail(f->h, stage, message);
    }
}

/* ---- connections ---- */

static pages_link_t *link_of(fill_t *f, int i)
{
    return 0 == i ? &f->p.urgent : &f->p.bulk;
}

static atomic_bool *up_of(fill_t *f, int i)
{
    return 0 == i ? &f->p.urgent_up : &f->p.bulk_up;
}

/* A connection that its thread has left is closed, and the next one given to it. */
static void change_link(fill_t *f, int i)
{
    image_stream_t *st = f->next[i];

    if (*up_of(f, i)) {
        return;
    }
    pages_link_close(link_of(f, i));
    f->next[i] = NULL;
    if (NULL != st && 0 == pages_link_open(link_of(f, i), st)) {
        *up_of(f, i) = true;
        util_bell_ring(0 == i ? f->p.wake_fault : f->p.wake_stream);
    }
}

static void on_stream_failed(image_stream_t *st, const char *why, void *arg)
{
    fill_t *f = arg;

    (void)why; /* broken before it was used: the source comes again */
    for (int i = 0; i < 2; i++) {
        if (f->next[i] == st) {
            f->next[i] = NULL;
        }
    }
    image_stream_free(st);
}

static void on_connected(image_stream_t *st, void *arg)
{
    static const image_stream_cbs_t cbs = {.failed = on_stream_failed};
    fill_t *f = arg;
    const int i = IMAGE_CHANNEL_URGENT == image_stream_channel(st) ? 0 : 1;

    image_stream_free(f->next[i]);
    f->next[i] = st;
    image_stream_set_cbs(st, &cbs, f);
    pages_link_shut(link_of(f, i)); /* the source has given it up, or it would not have come again */
    change_link(f, i);
    if (!f->opened && f->p.urgent_up && f->p.bulk_up) {
        f->opened = true;
        helper_say(f->h, json_pack("{s:s}", "event", "opened"));
    }
}

static void on_not_connected(const char *why, void *arg)
{
    fail(arg, "connect", why);
}

/* ---- the threads ---- */

static void stop_threads(fill_t *f)
{
    pager_t *p = &f->p;

    p->ending = true;
    pages_link_shut(&p->urgent);
    pages_link_shut(&p->bulk);
    util_bell_ring(p->wake_fault);
    util_bell_ring(p->wake_stream);
    if (p->fault_runs) {
        (void)pthread_join(p->fault_thread, NULL);
        p->fault_runs = false;
    }
    if (p->stream_runs) {
        (void)pthread_join(p->stream_thread, NULL);
        p->stream_runs = false;
    }
}

static int start_threads(fill_t *f)
{
    pager_t *p = &f->p;
    struct rlimit files;

    /* two descriptors for each process that the rank forks */
    if (0 == getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    p->fault_runs = 0 == lpm_thread_start(&p->fault_thread, pager_fault_main, p);
    p->stream_runs = 0 == lpm_thread_start(&p->stream_thread, pager_stream_main, p);
    return p->fault_runs && p->stream_runs ? 0 : -1;
}

/* A moment later, when what we have said has been sent. */
static void on_collapse(evutil_socket_t fd, short what, void *arg)
{
    fill_t *f = arg;

    (void)fd;
    (void)what;
    json_object_set_new(f->report, "huge_pages", json_integer((json_int_t)pager_collapse(&f->p, f->pid)));
    helper_last_word(f->h, f->report, 0);
    f->report = NULL;
}

/* Nothing is missing: without userfaultfd the kernel does the rest, and pages that are not there are zeros. */
static void finish(fill_t *f)
{
    static const struct timeval now = {0, 0};
    const double ms = util_now_ms() - f->since;

    f->ended = true;
    stop_threads(f);
    f->report = pager_report(&f->p);
    helper_say(f->h, json_pack("{s:s}", "event", "complete")); /* the safe is emptied, too */
    pager_detach(&f->p);
    json_object_set_new(f->report, "event", json_string("filled"));
    json_object_set_new(f->report, "fill_ms", json_real(ms));
    if (0 != event_base_once(f->base, -1, EV_TIMEOUT, on_collapse, f, &now)) {
        on_collapse(-1, 0, f);
    }
}

/* What another process has left in the safe. @return whether the rank's own memory is among it */
static bool open_safe(fill_t *f)
{
    uint32_t number;
    pages_space_t *pages;
    int uffd, file;

    while (1 == lpm_fds_receive(f->p.safe, &number, &uffd, &file)) {
        pages = PAGER_SPACES_MAX > number ? pages_space_open(file) : NULL;
        (void)close(file);
        if (NULL == pages) {
            f->p.broken = true; /* with the descriptor open, whoever lacks pages waits */
            continue;
        }
        f->p.space[number].uffd = uffd;
        f->p.space[number].pages = pages;
        f->p.n_spaces = number < f->p.n_spaces ? f->p.n_spaces : number + 1;
    }
    for (size_t i = 0; i < f->p.n_spaces; i++) {
        if (NULL == f->p.space[i].pages) {
            f->p.space[i].uffd = -1;
            f->p.space[i].gone = true;
        }
    }
    return 0 < f->p.n_spaces && !f->p.space[0].gone;
}

static void attached(fill_t *f)
{
    pager_t *p = &f->p;
    const json_int_t missing = (json_int_t)pages_space_missing(p->space[0].pages); /* before the first one comes */

    f->since = util_now_ms();
    p->attached = true;
    util_bell_ring(p->wake_fault);
    util_bell_ring(p->wake_stream);
    helper_say(f->h, json_pack("{s:s,s:I}", "event", "attached", "pages", missing));
}

/*
 * What had been read of faults by the process before us nobody answers any more, and the kernel does not tell it again.
 * Threads that wait look again, and fault again if they have to.
 */
static void wake_all(pager_t *p)
{
    for (size_t i = 0; i < p->n_spaces; i++) {
        if (!p->space[i].gone) {
            uffd_wake_all(p->space[i].uffd);
        }
    }
}

static void attach(fill_t *f)
{
    pager_t *p = &f->p;
    const char *why;
    int uffd;

    if (p->again) {
        pager_name(p, 0, f->pid);
        wake_all(p);
        attached(f);
        return;
    }
    uffd = uffd_attach(f->pid, &p->ranges, f->conf.stall_ms, &why);
    if (0 > uffd) {
        fail(f, "attach", why);
        return;
    }
    (void)pthread_rwlock_wrlock(&p->lock);
    p->space[0].uffd = uffd;
    pager_name(p, 0, f->pid);
    pager_keep(p, 0);
    (void)pthread_rwlock_unlock(&p->lock);
    attached(f);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    fill_t *f = arg;

    (void)what;
    util_bell_hush(fd);
    for (int i = 0; i < 2; i++) {
        change_link(f, i);
    }
    if (f->ended) {
        return;
    }
    if (f->p.broken) {
        fail(f, "fill", "there is no memory to follow what the rank does to its own");
    } else if (f->p.nonsense) {
        fail(f, "fill", "the list of the pages that are missing does not fit the memory that is");
    } else if (0 != f->pid && f->p.mapped && !f->p.attached) {
        attach(f);
    } else if (f->p.complete) {
        finish(f);
    }
}

/* ---- commands ---- */

static void expect(fill_t *f, const json_t *msg)
{
    pages_ranges_t ranges;
    pages_space_t *pages;

    if (0 != pages_ranges_parse(json_object_get(msg, "ranges"), &ranges)) {
        fail(f, "expect", "\"ranges\" is to be an array of addresses in ascending order");
        return;
    }
    f->p.ranges = ranges;
    f->expecting = true;
    if (!f->p.again) {
        pages = pages_space_new(&ranges);
        if (NULL == pages) {
            fail(f, "expect", "out of memory");
            return;
        }
        pager_add(&f->p, -1, pages);
    } else if (!open_safe(f)) {
        fail(f, "expect", "what the rank lacks has not been handed over");
        return;
    }
    if (0 != start_threads(f)) {
        fail(f, "expect", "a thread cannot be started");
    }
}

static void fill_command(void *self, const char *op, const json_t *msg)
{
    fill_t *f = self;
    int64_t pid;

    if (0 == strcmp(op, "expect") && !f->expecting) {
        expect(f, msg);
    } else if (0 == strcmp(op, "stream") && f->expecting) {
        f->p.streaming = true;
        util_bell_ring(f->p.wake_stream);
    } else if (0 == strcmp(op, "attach") && f->expecting && 0 == f->pid &&
               0 == lpm_msg_int(msg, "pid", 2, INT_MAX, &pid)) {
        f->pid = (pid_t)pid;
        util_bell_ring(f->p.wake_main); /* when it is known which pages there are */
    } else {
        fail(f, "fill", "a command out of turn");
    }
}

static bool fill_replaceable(void *self)
{
    const fill_t *f = self;

    return 0 <= f->p.safe && f->p.attached && !f->ended;
}

static void fill_undo(void *self)
{
    fill_t *f = self;

    if (!f->ended) {
        f->ended = true;
        if (f->p.attached) { /* nobody goes on with it: without us the kernel would give it zeros */
            lpm_end_with_group(f->pid, END_MS);
        }
        helper_last_word(f->h, json_pack("{s:s}", "event", "discarded"), 0);
    }
}

static void fill_dispose(void *self)
{
    fill_t *f = self;

    stop_threads(f);
    image_listener_free(f->listener);
    for (int i = 0; i < 2; i++) {
        image_stream_free(f->next[i]);
    }
    if (NULL != f->ev_wake) {
        event_free(f->ev_wake);
    }
    pager_fini(&f->p);
    image_auth_wipe(f->conf.key, sizeof(f->conf.key));
    free(f);
}

static const char *open_all(fill_t *f, const json_t *msg)
{
    static const image_net_cbs_t net = {on_connected, on_not_connected};
    int64_t safe = -1;
    int port = 0;

    if (0 != helper_read_channel(msg, &f->conf)) {
        return "\"secret\" or \"timeout_ms\" is missing or out of range";
    }
    f->conf.channel = IMAGE_CHANNEL_PAGES;
    f->ev_wake = event_new(f->base, f->p.wake_main, EV_READ | EV_PERSIST, on_wake, f);
    if (NULL == f->ev_wake || 0 != event_add(f->ev_wake, NULL)) {
        return "out of memory";
    }
    (void)lpm_msg_int(msg, "safe", 3, INT_MAX, &safe); /* left out: nobody goes on when we are killed */
    f->p.safe = (int)safe;
    f->p.again = lpm_msg_true(msg, "again");
    f->p.streaming = f->p.again;
    port = (int)json_integer_value(json_object_get(msg, "port"));
    f->listener = image_listener_new(f->base, json_object_get(msg, "listen_addrs"), 0, &f->conf, &net, f, &port);
    if (NULL == f->listener) {
        return "cannot listen for the pages";
    }
    helper_say(f->h, json_pack("{s:s,s:i}", "event", "listening", "port", port));
    return NULL;
}

void *fill_new(helper_t *h, struct event_base *base, const json_t *msg, helper_role_t *role)
{
    fill_t *f = calloc(1, sizeof(*f));
    const char *why;

    if (NULL == f) {
        return NULL;
    }
    f->h = h;
    f->base = base;
    *role = (helper_role_t){fill_command, fill_undo, fill_dispose, fill_replaceable};
    why = 0 == pager_init(&f->p) ? open_all(f, msg) : "out of memory";
    if (NULL != why) {
        fail(f, "open", why);
    }
    return f;
}
