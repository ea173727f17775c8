/*
 * Messages over a connection: framing, limits, endings, and freeing from inside the callbacks.
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

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GUARD_S 30

typedef struct side side_t;
struct side {
    struct event_base *base;
    struct event *guard;
    lpm_conn_t *conn;
    int peer; /* the raw other end, -1 when closed */
    void (*react)(side_t *side, json_t *msg);
    int messages;
    int64_t last_n; /* member "n" of the last message */
    int ends;
    char why[256]; /* empty: orderly */
    bool timed_out;
};

static void on_msg(lpm_conn_t *conn, json_t *msg, void *arg)
{
    side_t *side = arg;

    assert_ptr_equal(conn, side->conn);
    assert_true(json_is_object(msg));
    ++side->messages;
    side->last_n = json_integer_value(json_object_get(msg, "n"));
    if (NULL != side->react) {
        side->react(side, msg);
    }
}

static void on_end(lpm_conn_t *conn, const char *why, void *arg)
{
    side_t *side = arg;

    assert_ptr_equal(conn, side->conn);
    ++side->ends;
    (void)snprintf(side->why, sizeof(side->why), "%s", NULL == why ? "" : why);
    assert_int_equal(0, event_base_loopbreak(side->base));
}

static void on_guard(evutil_socket_t fd, short what, void *arg)
{
    side_t *side = arg;

    (void)fd;
    (void)what;
    side->timed_out = true;
    assert_int_equal(0, event_base_loopbreak(side->base));
}

static int set_up(void **state)
{
    side_t *side = calloc(1, sizeof(*side));
    struct timeval limit = {.tv_sec = GUARD_S, .tv_usec = 0};
    int fds[2];

    assert_non_null(side);
    side->base = event_base_new();
    assert_non_null(side->base);
    side->guard = evtimer_new(side->base, on_guard, side);
    assert_non_null(side->guard);
    assert_int_equal(0, evtimer_add(side->guard, &limit));
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
    side->conn = lpm_conn_new(side->base, fds[0], on_msg, on_end, side);
    assert_non_null(side->conn);
    side->peer = fds[1];
    *state = side;
    return 0;
}

static int tear_down(void **state)
{
    side_t *side = *state;

    lpm_conn_free(side->conn);
    if (side->peer >= 0) {
        (void)close(side->peer);
    }
    event_free(side->guard);
    event_base_free(side->base);
    free(side);
    return 0;
}

/* For a test of several rounds: what a failed round leaves behind is still undone by the test's own tear_down. */
static void renew(void **state)
{
    assert_int_equal(0, tear_down(state));
    assert_int_equal(0, set_up(state));
}

/* Run until the connection ends or a callback breaks the loop. */
static void run(side_t *side)
{
    assert_true(event_base_dispatch(side->base) >= 0);
    assert_false(side->timed_out);
}

static void peer_close(side_t *side)
{
    assert_int_equal(0, close(side->peer));
    side->peer = -1;
}

/* The socket's buffer may be smaller than the text: the rest is written from the loop. */
typedef struct {
    side_t *side;
    const char *data;
    size_t len;
    struct event *event;
} writer_t;

static void peer_writable(evutil_socket_t fd, short what, void *arg)
{
    writer_t *writer = arg;

    (void)what;
    ssize_t n = send(fd, writer->data, writer->len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
        writer->data += n;
        writer->len -= (size_t)n;
    }
    if (n <= 0 || 0 == writer->len) {
        assert_int_equal(0, event_del(writer->event));
        assert_int_equal(0, shutdown(fd, SHUT_WR));
    }
}

/* Hand `len` bytes and then the end of file to the connection, and run until it has ended. */
static void feed(side_t *side, const char *data, size_t len)
{
    writer_t writer = {.side = side, .data = data, .len = len};

    writer.event = event_new(side->base, side->peer, EV_WRITE | EV_PERSIST, peer_writable, &writer);
    assert_non_null(writer.event);
    assert_int_equal(0, event_add(writer.event, NULL));
    run(side);
    event_free(writer.event);
}

static void feed_text(side_t *side, const char *text)
{
    feed(side, text, strlen(text));
}

static void several_messages_in_one_write(void **state)
{
    side_t *side = *state;

    feed_text(side, "{\"n\":1}\n{\"n\":2}\r\n {\"n\":3} \n");
    assert_int_equal(3, side->messages);
    assert_int_equal(3, side->last_n);
    assert_int_equal(1, side->ends);
    assert_string_equal("", side->why);
}

static void break_loop(side_t *side, json_t *msg)
{
    (void)msg;
    assert_int_equal(0, event_base_loopbreak(side->base));
}

static void message_in_single_bytes(void **state)
{
    side_t *side = *state;
    const char *text = "{\"n\":7,\"text\":\"a\\nb\"}\n";

    side->react = break_loop;
    for (const char *c = text; '\0' != *c; ++c) {
        assert_int_equal(0, side->messages);
        assert_int_equal(1, write(side->peer, c, 1));
        assert_int_equal(0, event_base_loop(side->base, EVLOOP_ONCE));
    }
    assert_int_equal(1, side->messages);
    assert_int_equal(7, side->last_n);
    assert_int_equal(0, side->ends);
}

static void end_inside_a_message(void **state)
{
    side_t *side = *state;

    feed_text(side, "{\"n\":1}\n{\"n\":2}");
    assert_int_equal(1, side->messages);
    assert_int_equal(1, side->ends);
    assert_non_null(strstr(side->why, "middle of a message"));
}

static const struct {
    const char *line;
    size_t len;
    const char *why;
} bad[] = {
#define LINE(text, why)                                                                                                \
    {                                                                                                                  \
        text, sizeof(text) - 1, why                                                                                    \
    }
    LINE("", "bad JSON"),
    LINE("hello", "bad JSON"),
    LINE("{\"n\":1", "bad JSON"),
    LINE("{\"n\":1} {\"n\":2}", "bad JSON"),
    LINE("{\"n\":1}\0", "bad JSON"),
    LINE("{\"n\":\"a\0b\"}", "bad JSON"),
    LINE("{\"n\":\"a\\u0000b\"}", "bad JSON"),
    LINE("{\"n\":\"\xff\xfe\"}", "bad JSON"),
    LINE("{\"n\":\"\xc0\xaf\"}", "bad JSON"),
    LINE("{\"n\":1,\"n\":2}", "bad JSON"),
    LINE("{\"n\":1e999}", "bad JSON"),
    LINE("[1]", "not a JSON object"),
    LINE("null", "not a JSON object"),
    LINE("\"{}\"", "not a JSON object"),
    LINE("{\"n\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}", "nested deeper"),
    LINE("[[[[[[[[[[[[[[[[[", "nested deeper"),
#undef LINE
};

static void bad_lines_end_the_connection(void **state)
{
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); ++i) {
        char text[256] = "{\"n\":5}\n";
        size_t len = strlen(text);

        memcpy(text + len, bad[i].line, bad[i].len);
        len += bad[i].len;
        memcpy(text + len, "\n{\"n\":6}\n", 9);
        len += 9;
        renew(state);
        side_t *side = *state;
        feed(side, text, len);
        assert_int_equal(1, side->messages);
        assert_int_equal(5, side->last_n);
        assert_int_equal(1, side->ends);
        if (NULL == strstr(side->why, bad[i].why)) {
            fail_msg("line %zu: '%s' is not '%s'", i, side->why, bad[i].why);
        }
        for (const char *c = side->why; '\0' != *c; ++c) {
            assert_true(*c >= ' ' && *c <= '~');
        }
    }
}

static void deepest_nesting_is_taken(void **state)
{
    side_t *side = *state;

    feed_text(side, "{\"n\":1,\"a\":[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]}\n"
                    "{\"n\":2,\"a\":\"[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[\"}\n"
                    "{\"n\":3,\"a\":[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]}\n");
    assert_int_equal(3, side->messages);
    assert_string_equal("", side->why);
}

/* A message of `size` bytes, newline included; the caller frees it. */
static char *message_of_size(size_t size)
{
    const char *head = "{\"n\":1,\"a\":\"";
    const char *tail = "\"}\n";
    char *text = malloc(size + 1);

    assert_non_null(text);
    memset(text, 'x', size);
    memcpy(text, head, strlen(head));
    memcpy(text + size - strlen(tail), tail, strlen(tail) + 1);
    return text;
}

static void longest_line_is_taken(void **state)
{
    side_t *side = *state;
    char *text = message_of_size(LPM_CONN_LINE_MAX);

    feed_text(side, text);
    free(text);
    assert_int_equal(1, side->messages);
    assert_string_equal("", side->why);
}

static void longer_line_ends_the_connection(void **state)
{
    side_t *side = *state;
    char *text = message_of_size(LPM_CONN_LINE_MAX + 1);

    feed_text(side, text);
    free(text);
    assert_int_equal(0, side->messages);
    assert_non_null(strstr(side->why, "longer than"));
}

static void endless_line_ends_the_connection(void **state)
{
    side_t *side = *state;
    size_t size = 4 * LPM_CONN_LINE_MAX;
    char *text = malloc(size);

    assert_non_null(text);
    memset(text, ' ', size);
    feed(side, text, size);
    free(text);
    assert_int_equal(1, side->ends);
    assert_non_null(strstr(side->why, "longer than"));
}

static void answer_next(side_t *side, json_t *msg)
{
    (void)msg;
    assert_int_equal(0, lpm_conn_send(side->conn, json_pack("{s:I}", "n", (json_int_t)side->last_n + 1)));
}

static void answer_until_ten(side_t *side, json_t *msg)
{
    if (side->last_n < 10) {
        answer_next(side, msg);
    } else {
        assert_int_equal(0, event_base_loopbreak(side->base));
    }
}

static void conversation(void **state)
{
    side_t *side = *state;
    side_t other = {.base = side->base, .react = answer_until_ten};

    side->react = answer_next;
    other.conn = lpm_conn_new(side->base, side->peer, on_msg, on_end, &other);
    assert_non_null(other.conn);
    side->peer = -1;
    assert_int_equal(0, lpm_conn_send(other.conn, json_pack("{s:i}", "n", 1)));
    run(side);
    lpm_conn_free(other.conn);
    assert_int_equal(5, side->messages);
    assert_int_equal(5, other.messages);
    assert_int_equal(10, other.last_n);
    assert_int_equal(0, side->ends + other.ends);
}

static void free_self(side_t *side, json_t *msg)
{
    lpm_conn_free(side->conn);
    side->conn = NULL;
    /* the message is borrowed until the callback returns, whatever becomes of the connection */
    assert_int_equal(1, json_integer_value(json_object_get(msg, "n")));
    assert_int_equal(0, event_base_loopbreak(side->base));
}

static void freed_inside_its_callback(void **state)
{
    side_t *side = *state;
    char c;

    side->react = free_self;
    feed_text(side, "{\"n\":1}\n{\"n\":2}\nrubbish\n");
    assert_int_equal(1, side->messages);
    assert_int_equal(0, side->ends);
    assert_int_equal(0, read(side->peer, &c, 1));
}

static void send_is_refused(void **state)
{
    side_t *side = *state;
    char *text = message_of_size(LPM_CONN_LINE_MAX);
    int queued = 0;

    assert_int_equal(-1, lpm_conn_send(side->conn, NULL));
    assert_int_equal(-1, lpm_conn_send(side->conn, json_array()));
    text[LPM_CONN_LINE_MAX - 1] = '\0';
    assert_int_equal(-1, lpm_conn_send(side->conn, json_pack("{s:s}", "a", text)));
    free(text);

    json_t *big = json_pack("{s:o}", "a", json_string("0123456789"));
    text = malloc(LPM_CONN_LINE_MAX);
    assert_non_null(text);
    memset(text, 'x', LPM_CONN_LINE_MAX);
    text[LPM_CONN_LINE_MAX - 100] = '\0';
    assert_int_equal(0, json_object_set_new(big, "b", json_string(text)));
    free(text);
    while (queued < 1000 && 0 == lpm_conn_send(side->conn, json_incref(big))) {
        ++queued;
    }
    json_decref(big);
    assert_in_range(queued, 60, 64);

    peer_close(side);
    run(side);
    assert_int_equal(1, side->ends);
    assert_int_equal(-1, lpm_conn_send(side->conn, json_object()));
}

/* SIGPIPE has its default action here: a wrong write would kill the test. */
static void last_words_are_read_though_writing_fails(void **state)
{
    side_t *side = *state;
    const char *words = "{\"n\":41}\n{\"n\":42}\n";

    assert_int_equal(strlen(words), write(side->peer, words, strlen(words)));
    peer_close(side);
    assert_int_equal(0, lpm_conn_send(side->conn, json_object()));
    run(side);
    assert_int_equal(2, side->messages);
    assert_int_equal(42, side->last_n);
    assert_int_equal(1, side->ends);
}

static void peer_that_only_stops_reading_is_noticed(void **state)
{
    side_t *side = *state;

    assert_int_equal(0, shutdown(side->peer, SHUT_RD));
    assert_int_equal(0, lpm_conn_send(side->conn, json_object()));
    run(side);
    assert_int_equal(1, side->ends);
    assert_string_not_equal("", side->why);
}

static void finish_self(side_t *side, json_t *msg)
{
    char text[1000];

    (void)msg;
    memset(text, 'y', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    for (int n = 1; n <= 3000; ++n) {
        assert_int_equal(0, lpm_conn_send(side->conn, json_pack("{s:i, s:s}", "n", n, "a", text)));
    }
    lpm_conn_finish(side->conn);
    side->conn = NULL;
}

/* Three megabytes are more than a socket holds: the rest is to be written after finish has returned. */
static void finish_writes_all_that_is_queued(void **state)
{
    side_t *side = *state;
    side_t reader = {.base = side->base};
    const char *request = "{\"n\":1}\n{\"n\":2}\n";

    side->react = finish_self;
    assert_int_equal(strlen(request), write(side->peer, request, strlen(request)));
    reader.conn = lpm_conn_new(side->base, side->peer, on_msg, on_end, &reader);
    assert_non_null(reader.conn);
    side->peer = -1;
    run(side);
    lpm_conn_free(reader.conn);
    assert_int_equal(1, side->messages);
    assert_int_equal(0, side->ends);
    assert_int_equal(3000, reader.messages);
    assert_int_equal(3000, reader.last_n);
    assert_string_equal("", reader.why);
}

static void finish_with_nothing_queued_closes(void **state)
{
    side_t *side = *state;
    char c;

    lpm_conn_finish(side->conn);
    side->conn = NULL;
    assert_int_equal(0, read(side->peer, &c, 1));
    lpm_conn_finish(NULL);
    lpm_conn_free(NULL);
}

static void descriptor_is_made_ready(void **state)
{
    side_t *side = *state;
    int fd = lpm_conn_fd(side->conn);

    assert_true(0 != (fcntl(fd, F_GETFL) & O_NONBLOCK));
    assert_true(0 != (fcntl(fd, F_GETFD) & FD_CLOEXEC));
}

static void quiet(int severity, const char *text)
{
    (void)severity;
    (void)text;
}

static void bad_descriptor_is_refused(void **state)
{
    side_t *side = *state;

    event_set_log_callback(quiet);
    assert_null(lpm_conn_new(side->base, -1, on_msg, on_end, side));
    event_set_log_callback(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(several_messages_in_one_write),
        TEST(message_in_single_bytes),
        TEST(end_inside_a_message),
        TEST(bad_lines_end_the_connection),
        TEST(deepest_nesting_is_taken),
        TEST(longest_line_is_taken),
        TEST(longer_line_ends_the_connection),
        TEST(endless_line_ends_the_connection),
        TEST(conversation),
        TEST(freed_inside_its_callback),
        TEST(send_is_refused),
        TEST(last_words_are_read_though_writing_fails),
        TEST(peer_that_only_stops_reading_is_noticed),
        TEST(finish_writes_all_that_is_queued),
        TEST(finish_with_nothing_queued_closes),
        TEST(descriptor_is_made_ready),
        TEST(bad_descriptor_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
