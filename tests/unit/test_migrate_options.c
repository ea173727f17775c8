/*
 * The command line of ompi-migrate.
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

#include "migrate_options.h"

#include <string.h>

#define WORDS_MAX 12

/* Split `line` at single blanks and parse it; `line` is changed. */
static int parse(char *line, migrate_options_t *options, fault_t *fault)
{
    char *argv[WORDS_MAX + 2] = {(char *)"ompi-migrate"};
    int argc = 1;

    for (char *word = strtok(line, " "); NULL != word; word = strtok(NULL, " ")) {
        assert_true(argc <= WORDS_MAX);
        argv[argc++] = word;
    }
    return migrate_options_parse(argc, argv, options, fault);
}

static void move_with_long_options(void **state)
{
    char line[] = "--ranks 3 --onto node12 4711";
    migrate_options_t options;
    fault_t fault;

    (void)state;
    assert_int_equal(0, parse(line, &options, &fault));
    assert_int_equal(MIGRATE_MOVE, options.action);
    assert_int_equal(-1, options.job);
    assert_int_equal(3, options.rank);
    assert_string_equal("node12", options.onto);
    assert_int_equal(4711, options.pid);
    assert_true(MIGRATE_TIMEOUT_DEFAULT == options.timeout);
    assert_false(options.json);
    assert_false(options.verbose);
}

static void move_with_short_options(void **state)
{
    char line[] = "4711 -v -r 2.0 -t n1 --json --timeout 0.5";
    migrate_options_t options;
    fault_t fault;

    (void)state;
    assert_int_equal(0, parse(line, &options, &fault));
    assert_int_equal(2, options.job);
    assert_int_equal(0, options.rank);
    assert_string_equal("n1", options.onto);
    assert_int_equal(4711, options.pid);
    assert_true(0.5 == options.timeout);
    assert_true(options.json);
    assert_true(options.verbose);
}

static void other_actions(void **state)
{
    char list[] = "--list --hnp-pid 12";
    char help[] = "--ranks 1 --help";
    char version[] = "--version";
    migrate_options_t options;
    fault_t fault;

    (void)state;
    assert_int_equal(0, parse(list, &options, &fault));
    assert_int_equal(MIGRATE_LIST, options.action);
    assert_int_equal(12, options.pid);
    assert_int_equal(0, parse(help, &options, &fault));
    assert_int_equal(MIGRATE_HELP, options.action);
    assert_int_equal(0, parse(version, &options, &fault));
    assert_int_equal(MIGRATE_VERSION, options.action);
}

static const struct {
    const char *line;
    const char *message;
} wrong[] = {
    {"", "which mpirun"},
    {"5", "which rank"},
    {"-r 1 5", "which node"},
    {"-t n1 5", "which rank"},
    {"-r 1 -t n1", "which mpirun"},
    {"-r 1 -t n1 5 6", "'6' is too much"},
    {"-r 1 -t n1 --hnp-pid 5 6", "'6' is too much"},
    {"-r 1 -t n1 0", "not a process id"},
    {"-r 1 -t n1 12x", "not a process id"},
    {"-r 1 -t n1 99999999999999999999", "not a process id"},
    {"-r 1,2 -t n1 5", "more than one rank"},
    {"-r 1-3 -t n1 5", "more than one rank"},
    {"-r 1 -r 2 -t n1 5", "--ranks is given twice"},
    {"-r x -t n1 5", "not a rank"},
    {"-r -1 -t n1 5", "not a rank"},
    {"-r 1. -t n1 5", "not a rank"},
    {"-r .1 -t n1 5", "not a rank"},
    {"-r 1.2.3 -t n1 5", "not a rank"},
    {"-r 65536.1 -t n1 5", "not a rank"},
    {"-r 2147483648 -t n1 5", "not a rank"},
    {"-r 1 -t n\xff 5", "not the name of a node"},
    {"-r 1 -t n1 --timeout -1 5", "not a time limit"},
    {"-r 1 -t n1 --timeout nan 5", "not a time limit"},
    {"-r 1 -t n1 --timeout 1s 5", "not a time limit"},
    {"--list -r 1 5", "neither --ranks nor --onto"},
    {"--list -t n1 5", "neither --ranks nor --onto"},
    {"--frob 5", "bad option '--frob'"},
    {"-vx 5", "bad option '-x'"},
    {"--onto", "option '--onto' lacks its value"},
    {"-vr", "option '-r' lacks its value"},
};

static void wrong_usage_is_refused(void **state)
{
    (void)state;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); ++i) {
        char line[128];
        migrate_options_t options = {.pid = 77};
        fault_t fault = {.code = ""};

        strcpy(line, wrong[i].line);
        assert_int_equal(-1, parse(line, &options, &fault));
        if (NULL == strstr(fault.message, wrong[i].message)) {
            fail_msg("'%s': '%s' does not say '%s'", wrong[i].line, fault.message, wrong[i].message);
        }
        assert_string_equal("usage", fault.code);
        assert_string_not_equal("", fault.remedy);
        assert_int_equal(77, options.pid);
    }
}

static void ranks_at_their_limits(void **state)
{
    int64_t job;
    int64_t rank;
    fault_t fault;

    (void)state;
    assert_int_equal(0, migrate_options_rank("65535.2147483647", &job, &rank, &fault));
    assert_int_equal(65535, job);
    assert_int_equal(2147483647, rank);
    assert_int_equal(0, migrate_options_rank("0", &job, &rank, &fault));
    assert_int_equal(-1, job);
    assert_int_equal(0, rank);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(move_with_long_options), cmocka_unit_test(move_with_short_options),
        cmocka_unit_test(other_actions),          cmocka_unit_test(wrong_usage_is_refused),
        cmocka_unit_test(ranks_at_their_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
