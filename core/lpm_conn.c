/*
 * One connection that carries newline-delimited JSON objects.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_conn.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/util.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define READ_CHUNK (64 * 1024)
#define QUEUE_MAX  ((size_t)16 * 1024 * 1024)
/* how long a finishing connection waits for a peer that takes nothing */
#define FINISH_STALL_S 10

struct lpm_conn {
    int fd;
    struct event *read_ev;
    struct event *write_ev;
    struct evbuffer *in;
    struct evbuffer *out;
    size_t scanned; /* bytes of `in` known to hold no newline */
    lpm_conn_msg_fn_t on_msg;
    lpm_conn_end_fn_t on_end;
    void *arg;
    int write_errno; /* why writing has stopped; 0 while it works */
    int depth;       /* frames of this file on the stack that still use the connection */
    bool closed;     /* no callback any more: ended, finishing or freed */
    bool finishing;
    bool doomed; /* freed when depth is back at 0 */
};

static void conn_destroy(lpm_conn_t *conn)
{
    event_free(conn->read_ev);
    event_free(conn->write_ev);
    evbuffer_free(conn->in);
    evbuffer_free(conn->out);
    evutil_closesocket(conn->fd);
    free(conn);
}

static void conn_leave(lpm_conn_t *conn)
{
    if (0 == --conn->depth && conn->doomed) {
        conn_destroy(conn);
    }
}

/* After an orderly end the queue stays, so that finish can still write it to a peer that only stopped sending. */
static void conn_end(lpm_conn_t *conn, const char *why)
{
    if (conn->closed) {
        return;
    }
    conn->closed = true;
    (void)event_del(conn->read_ev);
    (void)event_del(conn->write_ev);
    if (NULL != why) {
        (void)evbuffer_drain(conn->out, evbuffer_get_length(conn->out));
    }
    conn->on_end(conn, why, conn->arg);
}

/* Checked before parsing: the parser recurses, and its own limit is far beyond ours. */
static bool nested_too_deep(const char *line, size_t len)
{
    bool in_string = false;
    size_t depth = 0;

    for (size_t i = 0; i < len; ++i) {
        char c = line[i];
        if (in_string) {
            if ('\\' == c) {
                ++i;
            } else if ('"' == c) {
                in_string = false;
            }
        } else if ('"' == c) {
            in_string = true;
        } else if ('{' == c || '[' == c) {
            if (++depth > LPM_CONN_DEPTH_MAX) {
                return true;
            }
        } else if (('}' == c || ']' == c) && depth > 0) {
            --depth;
        }
    }
    return false;
}

static void make_printable(char *text)
{
    for (; '\0' != *text; ++text) {
        if (*text < ' ' || *text > '~') {
            *text = '?';
        }
    }
}

/* NULL, with the reason in `why`, for what is not a message. */
static json_t *parse_line(const char *line, size_t len, char *why, size_t why_size)
{
    json_error_t error;

    if (nested_too_deep(line, len)) {
        (void)snprintf(why, why_size, "message nested deeper than %d levels", LPM_CONN_DEPTH_MAX);
        return NULL;
    }
    json_t *msg = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (NULL == msg) {
        (void)snprintf(why, why_size, "bad JSON: %s", error.text);
        make_printable(why);
        return NULL;
    }
    if (!json_is_object(msg)) {
        (void)snprintf(why, why_size, "message is not a JSON object");
        json_decref(msg);
        return NULL;
    }
    return msg;
}

/* Take one line off the input. Returns 1 with *msg set, 0 when no whole line is there, -1 with the reason in `why`. */
static int next_message(lpm_conn_t *conn, json_t **msg, char *why, size_t why_size)
{
    struct evbuffer_ptr from;
    size_t have = evbuffer_get_length(conn->in);

    if (conn->scanned == have) {
        return 0;
    }
    if (0 != evbuffer_ptr_set(conn->in, &from, conn->scanned, EVBUFFER_PTR_SET)) {
        (void)snprintf(why, why_size, "input buffer is inconsistent");
        return -1;
    }
    struct evbuffer_ptr eol = evbuffer_search_eol(conn->in, &from, NULL, EVBUFFER_EOL_LF);
    size_t len = (eol.pos < 0) ? have : (size_t)eol.pos;
    if (len >= LPM_CONN_LINE_MAX) {
        (void)snprintf(why, why_size, "message longer than %d bytes", LPM_CONN_LINE_MAX);
        return -1;
    }
    if (eol.pos < 0) {
        conn->scanned = have;
        return 0;
    }
    const char *line = (const char *)evbuffer_pullup(conn->in, (ev_ssize_t)len + 1);
    if (NULL == line) {
        (void)snprintf(why, why_size, "%s", strerror(ENOMEM));
        return -1;
    }
    *msg = parse_line(line, len, why, why_size);
    conn->scanned = 0;
    if (NULL == *msg || 0 != evbuffer_drain(conn->in, len + 1)) {
        json_decref(*msg);
        return -1;
    }
    return 1;
}

static void deliver_messages(lpm_conn_t *conn)
{
    char why[JSON_ERROR_TEXT_LENGTH + 32] = "input buffer is inconsistent";
    json_t *msg;
    int rc = 0;

    while (!conn->closed && 1 == (rc = next_message(conn, &msg, why, sizeof(why)))) {
        conn->on_msg(conn, msg, conn->arg);
        json_decref(msg);
    }
    if (rc < 0) {
        conn_end(conn, why);
    }
}

static void end_of_input(lpm_conn_t *conn)
{
    if (0 != evbuffer_get_length(conn->in)) {
        conn_end(conn, "connection closed in the middle of a message");
    } else {
        conn_end(conn, NULL);
    }
}

static void read_ready(evutil_socket_t fd, short what, void *arg)
{
    lpm_conn_t *conn = arg;

    (void)what;
    ++conn->depth;
    errno = 0;
    int got = evbuffer_read(conn->in, fd, READ_CHUNK);
    if (got > 0) {
        deliver_messages(conn);
        if (!conn->closed && 0 != conn->write_errno) {
            event_active(conn->read_ev, EV_READ, 0);
        }
    } else if (0 == got) {
        end_of_input(conn);
    } else if (EAGAIN != errno && EWOULDBLOCK != errno && EINTR != errno) {
        conn_end(conn, strerror(0 == errno ? ENOMEM : errno));
    } else if (0 != conn->write_errno) {
        /* all the peer has said before it stopped listening has been read */
        conn_end(conn, strerror(conn->write_errno));
    }
    conn_leave(conn);
}

static void write_failed(lpm_conn_t *conn, int error)
{
    (void)event_del(conn->write_ev);
    (void)evbuffer_drain(conn->out, evbuffer_get_length(conn->out));
    if (conn->finishing) {
        conn->doomed = true;
    } else {
        /* the peer's last words may explain it: they are read first, then the end is reported */
        conn->write_errno = error;
        event_active(conn->read_ev, EV_READ, 0);
    }
}

static void write_ready(evutil_socket_t fd, short what, void *arg)
{
    lpm_conn_t *conn = arg;

    ++conn->depth;
    if (0 != (what & EV_TIMEOUT)) {
        write_failed(conn, ETIMEDOUT);
        goto leave;
    }
    size_t len = evbuffer_get_contiguous_space(conn->out);
    const void *data = evbuffer_pullup(conn->out, (ev_ssize_t)len);
    /* not evbuffer_write: it would raise SIGPIPE in a process that is not ours */
    ssize_t sent = (NULL == data) ? 0 : send(fd, data, len, MSG_NOSIGNAL);
    if (sent < 0) {
        if (EAGAIN != errno && EWOULDBLOCK != errno && EINTR != errno) {
            write_failed(conn, errno);
        }
        goto leave;
    }
    if (0 != evbuffer_drain(conn->out, (size_t)sent)) {
        write_failed(conn, ENOMEM);
        goto leave;
    }
    if (0 == evbuffer_get_length(conn->out)) {
        (void)event_del(conn->write_ev);
        conn->doomed = conn->doomed || conn->finishing;
    }
leave:
    conn_leave(conn);
}

lpm_conn_t *lpm_conn_new(struct event_base *base, int fd, lpm_conn_msg_fn_t on_msg, lpm_conn_end_fn_t on_end, void *arg)
{
    lpm_conn_t *conn = calloc(1, sizeof(*conn));

    if (NULL == conn) {
        return NULL;
    }
    conn->fd = fd;
    conn->on_msg = on_msg;
    conn->on_end = on_end;
    conn->arg = arg;
    if (0 != evutil_make_socket_nonblocking(fd) || 0 != evutil_make_socket_closeonexec(fd)) {
        goto err_free_conn;
    }
    if (NULL == (conn->in = evbuffer_new())) {
        goto err_free_conn;
    }
    if (NULL == (conn->out = evbuffer_new())) {
        goto err_free_in;
    }
    if (NULL == (conn->read_ev = event_new(base, fd, EV_READ | EV_PERSIST, read_ready, conn))) {
        goto err_free_out;
    }
    if (NULL == (conn->write_ev = event_new(base, fd, EV_WRITE | EV_PERSIST, write_ready, conn))) {
        goto err_free_read_ev;
    }
    if (0 != event_add(conn->read_ev, NULL)) {
        goto err_free_write_ev;
    }
    return conn;

err_free_write_ev:
    event_free(conn->write_ev);
err_free_read_ev:
    event_free(conn->read_ev);
err_free_out:
    evbuffer_free(conn->out);
err_free_in:
    evbuffer_free(conn->in);
err_free_conn:
    free(conn);
    return NULL;
}

/* Whole lines only: a line that does not fit leaves the queue as it was. */
static int queue_line(lpm_conn_t *conn, char *text)
{
    size_t len = strlen(text);

    if (len >= LPM_CONN_LINE_MAX || evbuffer_get_length(conn->out) + len >= QUEUE_MAX) {
        return -1;
    }
    /* the event first: to wake up for nothing is harmless, a queued line that nobody writes is not */
    if (0 != event_add(conn->write_ev, NULL)) {
        return -1;
    }
    text[len] = '\n';
    return evbuffer_add(conn->out, text, len + 1);
}

int lpm_conn_send(lpm_conn_t *conn, json_t *msg)
{
    int rc = -1;

    if (json_is_object(msg) && !conn->closed && 0 == conn->write_errno) {
        char *text = json_dumps(msg, JSON_COMPACT);
        if (NULL != text) {
            rc = queue_line(conn, text);
            free(text);
        }
    }
    json_decref(msg);
    return rc;
}

void lpm_conn_free(lpm_conn_t *conn)
{
    if (NULL == conn) {
        return;
    }
    conn->closed = true;
    conn->doomed = true;
    (void)event_del(conn->read_ev);
    (void)event_del(conn->write_ev);
    if (0 == conn->depth) {
        conn_destroy(conn);
    }
}

void lpm_conn_finish(lpm_conn_t *conn)
{
    const struct timeval stall = {.tv_sec = FINISH_STALL_S, .tv_usec = 0};

    if (NULL == conn) {
        return;
    }
    conn->closed = true;
    conn->finishing = true;
    (void)event_del(conn->read_ev);
    if (0 == evbuffer_get_length(conn->out) || 0 != event_add(conn->write_ev, &stall)) {
        lpm_conn_free(conn);
    }
}

int lpm_conn_fd(const lpm_conn_t *conn)
{
    return conn->fd;
}
