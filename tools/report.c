/*
 * What ompi-migrate prints, and with which status it exits.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "report.h"

#include "lpm_msg.h"

#include <stdlib.h>
#include <string.h>

/* Text from the other side goes to a terminal: no control characters. */
static void print_text(FILE *to, const char *text)
{
    for (; '\0' != *text; ++text) {
        unsigned char c = (unsigned char)*text;
        (void)fputc((c < ' ' || 0x7f == c) ? ' ' : c, to);
    }
}

static void print_json(FILE *to, const json_t *event)
{
    char *line = json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(15));

    if (NULL == line) {
        (void)fputs("{\"event\":\"error\",\"code\":\"internal\",\"message\":\"out of memory\"}\n", to);
        return;
    }
    (void)fprintf(to, "%s\n", line);
    (void)fflush(to);
    free(line);
}

static void print_ms(FILE *to, double ms)
{
    (void)fprintf(to, "%.*f ms", (ms < 10) ? 1 : 0, ms);
}

static void print_size(FILE *to, int64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        ++unit;
    }
    (void)fprintf(to, "%.*f %s", (0 == unit) ? 0 : 1, value, units[unit]);
}

/* The first job's ranks go by their number alone, as on the command line. */
static void print_rank(FILE *to, int64_t job, int64_t rank)
{
    if (1 != job) {
        (void)fprintf(to, "%lld.", (long long)job);
    }
    (void)fprintf(to, "%lld", (long long)rank);
}

static int get_ms(const json_t *event, const char *key, double *ms)
{
    const json_t *member = json_object_get(event, key);

    if (!json_is_number(member) || json_number_value(member) < 0) {
        return -1;
    }
    *ms = json_number_value(member);
    return 0;
}

static report_status_t print_error(report_t *report, const json_t *error, report_status_t status)
{
    const char *phase = lpm_msg_str(error, "phase");
    const char *remedy = lpm_msg_str(error, "remedy");

    if (report->json) {
        print_json(report->out, error);
        return status;
    }
    /* in order with what has been printed so far, also when both go to one file */
    (void)fflush(report->out);
    (void)fputs("ompi-migrate: ", report->err);
    print_text(report->err, lpm_msg_str(error, "message"));
    if (NULL != phase) {
        (void)fputs("\n  phase: ", report->err);
        print_text(report->err, phase);
    }
    if (NULL != remedy) {
        (void)fputs("\n  remedy: ", report->err);
        print_text(report->err, remedy);
    }
    (void)fputs("\n", report->err);
    return status;
}

report_status_t report_fault(report_t *report, const fault_t *fault, report_status_t status)
{
    json_t *error = lpm_msg_error(fault->code, ('\0' == report->phase[0]) ? NULL : report->phase, fault->message,
                                  ('\0' == fault->remedy[0]) ? NULL : fault->remedy);

    if (NULL == error) {
        (void)fprintf(report->err, "ompi-migrate: %s\n", fault->message);
        return status;
    }
    (void)print_error(report, error, status);
    json_decref(error);
    return status;
}

static report_status_t not_understood(report_t *report, const json_t *event)
{
    const char *name = lpm_msg_str(event, "event");
    fault_t fault;

    fault_set(&fault, "protocol", "look with --list where the rank is; use the ompi-migrate of mpirun's LPM version",
              "mpirun sent an answer that is not understood ('%.64s')", NULL == name ? "no event" : name);
    return report_fault(report, &fault, REPORT_UNREACHABLE);
}

static report_status_t take_phase(report_t *report, const json_t *event)
{
    const char *phase = lpm_msg_str(event, "phase");
    double ms;

    if (report->list || NULL == phase || 0 != get_ms(event, "ms", &ms)) {
        return not_understood(report, event);
    }
    (void)snprintf(report->phase, sizeof(report->phase), "%s", phase);
    if (report->json) {
        print_json(report->out, event);
    } else if (report->verbose) {
        (void)fputs("  ", report->out);
        print_text(report->out, report->phase);
        (void)fprintf(report->out, "%*s", (int)(10 - strnlen(report->phase, 9)), "");
        print_ms(report->out, ms);
        (void)fputs("\n", report->out);
        (void)fflush(report->out);
    }
    return REPORT_MORE;
}

/* What the answers of a rank tell differs by their kind: all plain members are shown. */
static void print_members(FILE *to, const json_t *object)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value)
    {
        char *text;

        if (json_is_array(value) || json_is_object(value)) {
            continue;
        }
        text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(5));
        (void)fputs(" ", to);
        print_text(to, key);
        (void)fputs(" ", to);
        print_text(to, json_is_string(value) ? json_string_value(value) : (NULL == text ? "?" : text));
        free(text);
    }
    (void)fputs("\n", to);
}

static void print_channels(FILE *to, const json_t *answers)
{
    json_t *answer, *channel;
    size_t i, j;

    json_array_foreach(answers, i, answer) {
        (void)fputs("  rank:", to);
        print_members(to, answer);
        json_array_foreach(json_object_get(answer, "channels"), j, channel) {
            (void)fputs("    channel:", to);
            print_members(to, channel);
        }
    }
}

static report_status_t take_done(report_t *report, const json_t *event)
{
    const char *from = lpm_msg_str(event, "from");
    const char *onto = lpm_msg_str(event, "onto");
    int64_t job;
    int64_t rank;
    int64_t bytes;
    double blackout;
    double total;

    if (report->list || NULL == from || NULL == onto || 0 != lpm_msg_int(event, "job", 0, INT32_MAX, &job) ||
        0 != lpm_msg_int(event, "rank", 0, INT32_MAX, &rank) ||
        0 != lpm_msg_int(event, "image_bytes", 0, INT64_MAX, &bytes) || 0 != get_ms(event, "blackout_ms", &blackout) ||
        0 != get_ms(event, "total_ms", &total)) {
        return not_understood(report, event);
    }
    if (report->json) {
        print_json(report->out, event);
        return REPORT_DONE;
    }
    if (report->verbose) {
        print_channels(report->out, json_object_get(event, "channels"));
    }
    (void)fputs("rank ", report->out);
    print_rank(report->out, job, rank);
    (void)fputs(" moved from ", report->out);
    print_text(report->out, from);
    (void)fputs(" to ", report->out);
    print_text(report->out, onto);
    (void)fputs(": blackout ", report->out);
    print_ms(report->out, blackout);
    (void)fputs(", ", report->out);
    print_size(report->out, bytes);
    (void)fputs(", ", report->out);
    print_ms(report->out, total);
    (void)fputs(" in all\n", report->out);
    return REPORT_DONE;
}

/* One rank of a list; with a NULL stream it is only checked. */
static int list_rank(FILE *to, const json_t *item)
{
    const char *node = lpm_msg_str(item, "node");
    const char *state = lpm_msg_str(item, "state");
    int64_t job;
    int64_t rank;
    int64_t pid;

    if (NULL == node || NULL == state || 0 != lpm_msg_int(item, "job", 0, INT32_MAX, &job) ||
        0 != lpm_msg_int(item, "rank", 0, INT32_MAX, &rank) || 0 != lpm_msg_int(item, "pid", 0, INT32_MAX, &pid)) {
        return -1;
    }
    if (NULL != to) {
        (void)fputs("rank ", to);
        print_rank(to, job, rank);
        (void)fputs(" on ", to);
        print_text(to, node);
        (void)fprintf(to, ": pid %lld, ", (long long)pid);
        print_text(to, state);
        (void)fputs("\n", to);
    }
    return 0;
}

static int list_node(FILE *to, const json_t *item, const json_t *ranks)
{
    const char *node = lpm_msg_str(item, "node");
    int64_t slots;
    size_t i;
    size_t here = 0;
    const json_t *rank;

    if (NULL == node || 0 != lpm_msg_int(item, "slots", 0, INT32_MAX, &slots)) {
        return -1;
    }
    if (NULL != to) {
        json_array_foreach(ranks, i, rank) {
            here += (0 == strcmp(node, lpm_msg_str(rank, "node"))) ? 1 : 0;
        }
        (void)fputs("node ", to);
        print_text(to, node);
        (void)fprintf(to, ": %lld slot%s, %zu rank%s\n", (long long)slots, (1 == slots) ? "" : "s", here,
                      (1 == here) ? "" : "s");
    }
    return 0;
}

static int list_all(FILE *to, const json_t *ranks, const json_t *nodes)
{
    size_t i;
    const json_t *item;

    json_array_foreach(ranks, i, item) {
        if (0 != list_rank(to, item)) {
            return -1;
        }
    }
    json_array_foreach(nodes, i, item) {
        if (0 != list_node(to, item, ranks)) {
            return -1;
        }
    }
    return 0;
}

static report_status_t take_list(report_t *report, const json_t *event)
{
    const json_t *ranks = json_object_get(event, "ranks");
    const json_t *nodes = json_object_get(event, "nodes");

    if (!report->list || !json_is_array(ranks) || !json_is_array(nodes) || 0 != list_all(NULL, ranks, nodes)) {
        return not_understood(report, event);
    }
    if (report->json) {
        print_json(report->out, event);
    } else if (0 != list_all(report->out, ranks, nodes)) {
        return not_understood(report, event);
    }
    return REPORT_DONE;
}

/* PLAN only looks; PREPARE already starts things, but these codes say that it had no need to. */
static bool is_refusal(const char *code, const char *phase)
{
    static const char *const codes[] = {"unknown-rank", "unknown-node", "same-node", "not-allocated",
                                        "busy",         "ending",       "unmovable", "bad-request"};

    if (NULL == phase || 0 == strcmp(phase, "PLAN")) {
        return true;
    }
    for (size_t i = 0; 0 == strcmp(phase, "PREPARE") && i < sizeof(codes) / sizeof(codes[0]); ++i) {
        if (0 == strcmp(code, codes[i])) {
            return true;
        }
    }
    return false;
}

static report_status_t take_error(report_t *report, const json_t *event)
{
    const char *code = lpm_msg_str(event, "code");
    const char *phase = lpm_msg_str(event, "phase");

    if (NULL == code || NULL == lpm_msg_str(event, "message")) {
        return not_understood(report, event);
    }
    if (NULL == phase && '\0' != report->phase[0]) {
        phase = report->phase;
    }
    if (0 == strcmp(code, "lost")) {
        return print_error(report, event, REPORT_UNREACHABLE);
    }
    return print_error(report, event, is_refusal(code, phase) ? REPORT_REFUSED : REPORT_FAILED);
}

report_status_t report_event(report_t *report, const json_t *event)
{
    const char *name = lpm_msg_str(event, "event");

    if (NULL == name) {
        return not_understood(report, event);
    }
    if (0 == strcmp(name, "phase")) {
        return take_phase(report, event);
    }
    if (0 == strcmp(name, "done")) {
        return take_done(report, event);
    }
    if (0 == strcmp(name, "list")) {
        return take_list(report, event);
    }
    if (0 == strcmp(name, "error")) {
        return take_error(report, event);
    }
    return not_understood(report, event);
}

report_status_t report_close(report_t *report, report_status_t status)
{
    bool unwritten = (0 != fflush(report->out)) || (0 != ferror(report->out));

    if (unwritten && REPORT_DONE == status) {
        (void)fputs("ompi-migrate: it was done, but the output could not be written\n", report->err);
        return REPORT_UNWRITTEN;
    }
    return status;
}
