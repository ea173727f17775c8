/*
 * The storm's alarm: says where every rank is when a round does not end, or that a message did not come any more.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include <signal.h>
#include <time.h>

#include "storm.h"

#define STALL_GRACE  5 /* seconds in which all ranks can say where they are, before the job ends */
#define SUSPECT_TIME 5 /* seconds in which a message that was overtaken can come */

static char suspect_text[700];
static volatile sig_atomic_t stalled;

/* A signal handler must not format with stdio: these two do. */
static char *put_text(char *at, const char *end, const char *text)
{
    while (NULL != text && '\0' != *text && at < end) {
        *at++ = *text++;
    }
    return at;
}

static char *put_number(char *at, const char *end, uint64_t number)
{
    char digits[24], *first = digits + sizeof(digits) - 1;

    *first = '\0';
    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (0 != number);
    return put_text(at, end, first);
}

static char *put_pairs(char *at, const char *end, const struct channel *c)
{
    at = put_text(at, end, "; sent/expected by peer:");
    for (int i = 0; i < c->peers; i++) {
        at = put_number(put_text(at, end, " "), end, (uint64_t)i);
        at = put_number(put_text(at, end, ":"), end, c->pairs[i].sent);
        at = put_number(put_text(at, end, "/"), end, c->pairs[i].expected);
    }
    return at;
}

/* Where this rank is. The job ends some seconds later: the other ranks' alarms are due, too. */
static void on_alarm(int number)
{
    char text[2000] = "", host[80] = "?", *at = text, *end = text + sizeof(text) - 1;
    struct timespec second = {.tv_sec = 1};

    (void)number;
    if (stalled) {
        return;
    }
    stalled = 1;
    gethostname(host, sizeof(host) - 1);
    at = put_number(put_text(at, end, "DEFECT: rank "), end, (uint64_t)storm.rank);
    at = put_text(put_text(at, end, " on "), end, host);
    at = put_text(at, end, ": ");
    if ('\0' != suspect_text[0]) {
        at = put_text(at, end, suspect_text);
    } else {
        at = put_number(put_text(at, end, "stalled: round "), end, (uint64_t)storm.round);
        at = put_text(put_text(at, end, " does not end; kind "), end, storm.kind);
        at = put_text(put_text(at, end, ", in "), end, storm.step);
        at = NULL == storm.active ? at : put_pairs(at, end, storm.active);
    }
    at = put_text(at, end, "\n");
    if (write(STDERR_FILENO, text, (size_t)(at - text)) < 0) {
        _exit(TEST_DEFECT + 1);
    }
    for (int i = 0; i < STALL_GRACE; i++) {
        nanosleep(&second, NULL);
    }
    _exit(TEST_DEFECT);
}

void storm_guard(void)
{
    if ('\0' == suspect_text[0]) {
        alarm((unsigned)options.stall);
    }
}

void storm_suspect(const char *text)
{
    if ('\0' == suspect_text[0]) {
        snprintf(suspect_text, sizeof(suspect_text), "%s", text);
        alarm(SUSPECT_TIME);
    }
}

void storm_alarm_start(void)
{
    if (SIG_ERR == signal(SIGALRM, on_alarm)) {
        test_defect("signal: %s", strerror(errno));
    }
}
