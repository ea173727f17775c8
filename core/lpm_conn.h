/*
 * One connection that carries newline-delimited JSON objects.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_CONN_H
#define LPM_CONN_H

#include <event2/event.h>
#include <jansson.h>
#include <stddef.h>

/** Longest line, newline included, in bytes; a longer one ends the connection. */
#define LPM_CONN_LINE_MAX (256 * 1024)
/** Deepest nesting of a message; a deeper one ends the connection. */
#define LPM_CONN_DEPTH_MAX 16

typedef struct lpm_conn lpm_conn_t;

/**
 * A message has come. The message is borrowed: it lives until the callback returns.
 * The callback may free the connection.
 */
typedef void (*lpm_conn_msg_fn_t)(lpm_conn_t *conn, json_t *msg, void *arg);

/**
 * The connection has ended; called at most once, and nothing is called after it.
 * @param why NULL for an orderly end of file, else one line of text (bad JSON, line too long, errno text).
 * The callback (or its owner, later) frees the connection.
 */
typedef void (*lpm_conn_end_fn_t)(lpm_conn_t *conn, const char *why, void *arg);

/**
 * Wrap a connected stream socket.
 *
 * Made non-blocking and close-on-exec. Callbacks run on the thread that runs @p base; all other functions of a
 * connection are to be called on that thread too.
 *
 * @param fd  owned by the connection from success on; on failure still the caller's.
 * @return the connection, or NULL when out of memory.
 */
lpm_conn_t *lpm_conn_new(struct event_base *base, int fd, lpm_conn_msg_fn_t on_msg, lpm_conn_end_fn_t on_end,
                         void *arg);

/**
 * Queue one message; it is written as the socket takes it.
 *
 * @param msg  a JSON object; the reference is stolen, also on failure. NULL is accepted and is an error.
 * @return 0, or -1 (nothing queued) when out of memory, after the end, when the line would be longer than
 *         LPM_CONN_LINE_MAX, or when more than 16 MiB would be waiting to be written.
 */
int lpm_conn_send(lpm_conn_t *conn, json_t *msg);

/** Close at once; what is still queued is lost. NULL is accepted. Safe inside the connection's own callbacks. */
void lpm_conn_free(lpm_conn_t *conn);

/**
 * Write what is queued, then close and free; reading stops at once and no callback comes any more. A peer that takes
 * nothing for 10 s loses the rest. Needs the event base to go on running. NULL is accepted.
 */
void lpm_conn_finish(lpm_conn_t *conn);

/** The descriptor, still owned by the connection. */
int lpm_conn_fd(const lpm_conn_t *conn);

#endif /* LPM_CONN_H */
