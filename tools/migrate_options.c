/*
 * The command line of ompi-migrate.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "migrate_options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MAX 1e7
#define SEE_HELP    "ompi-migrate --help lists the options"

enum { OPT_HNP_PID = 256, OPT_JSON, OPT_TIMEOUT, OPT_LIST, OPT_HELP, OPT_VERSION };

static const struct option long_options[] = {
    {"ranks", required_argument, NULL, 'r'},
    {"onto", required_argument, NULL, 't'},
    {"hnp-pid", required_argument, NULL, OPT_HNP_PID},
    {"verbose", no_argument, NULL, 'v'},
    {"json", no_argument, NULL, OPT_JSON},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"list", no_argument, NULL, OPT_LIST},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

const char *migrate_options_help(void)
{
    return "Usage: ompi-migrate [OPTION]... --ranks RANK --onto NODE PID\n"
           "       ompi-migrate [OPTION]... --list PID\n"
           "Move a rank of a running Open MPI job to another node, or list ranks and nodes.\n"
           "PID is the process id of mpirun, which was started with --mca crs lpm.\n"
           "\n"
           "  -r, --ranks RANK       the rank to move: RANK (of the first job) or JOB.RANK\n"
           "  -t, --onto NODE        the node to move it to\n"
           "      --list             print the ranks and the nodes of the job\n"
           "      --hnp-pid PID      mpirun's process id, instead of the last argument\n"
           "      --timeout SECONDS  how long to wait for the end (default 120, 0: no limit)\n"
           "  -v, --verbose          print each phase as it ends\n"
           "      --json             print the events as JSON, one per line\n"
           "  -h, --help             print this text\n"
           "  -V, --version          print the version\n"
           "\n"
           "Exit status: 0 moved, 1 failed and rolled back, 2 bad usage, 3 refused,\n"
           "4 mpirun not reached or connection lost, 5 timed out, 6 output not written.\n";
}

/* Digits only: strtoll alone would take blanks, signs and an empty text. */
static int parse_number(const char *text, size_t len, int64_t max, int64_t *out)
{
    int64_t value = 0;

    if (0 == len) {
        return -1;
    }
    for (size_t i = 0; i < len; ++i) {
        if (!isdigit((unsigned char)text[i])) {
            return -1;
        }
        value = value * 10 + (text[i] - '0');
        if (value > max) {
            return -1;
        }
    }
    *out = value;
    return 0;
}

int migrate_options_rank(const char *text, int64_t *job, int64_t *rank, fault_t *fault)
{
    const char *dot = strchr(text, '.');
    const char *rank_text = (NULL == dot) ? text : dot + 1;
    int64_t job_value = -1;
    int64_t rank_value;

    if (isdigit((unsigned char)text[0]) && strlen(text) == strspn(text, "0123456789.,-: ") &&
        NULL != strpbrk(text, ",-: ")) {
        fault_set(fault, "usage", "move the ranks one after the other",
                  "'%s' names more than one rank: this version moves one rank at a time", text);
        return -1;
    }
    if ((NULL != dot && 0 != parse_number(text, (size_t)(dot - text), UINT16_MAX, &job_value)) ||
        0 != parse_number(rank_text, strlen(rank_text), INT32_MAX, &rank_value)) {
        fault_set(fault, "usage", "write RANK or JOB.RANK, for example 3 or 1.3", "'%s' is not a rank", text);
        return -1;
    }
    *job = job_value;
    *rank = rank_value;
    return 0;
}

static int parse_pid(const char *text, pid_t *pid, fault_t *fault)
{
    int64_t value;

    if (0 != parse_number(text, strlen(text), INT32_MAX, &value) || 0 == value) {
        fault_set(fault, "usage", "give the process id of mpirun (pgrep -x mpirun shows it)",
                  "'%s' is not a process id", text);
        return -1;
    }
    *pid = (pid_t)value;
    return 0;
}

static int parse_timeout(const char *text, double *timeout, fault_t *fault)
{
    char *end;

    errno = 0;
    double value = strtod(text, &end);
    if (0 != errno || end == text || '\0' != *end || !(value >= 0 && value <= TIMEOUT_MAX)) {
        fault_set(fault, "usage", "give seconds, 0 for no limit", "'%s' is not a time limit", text);
        return -1;
    }
    *timeout = value;
    return 0;
}

static int take_option(int opt, migrate_options_t *options, const char **rank_text, fault_t *fault)
{
    switch (opt) {
    case 'r':
        if (NULL != *rank_text) {
            fault_set(fault, "usage", "move the ranks one after the other",
                      "--ranks is given twice: this version moves one rank at a time");
            return -1;
        }
        *rank_text = optarg;
        return migrate_options_rank(optarg, &options->job, &options->rank, fault);
    case 't': options->onto = optarg; return 0;
    case 'v': options->verbose = true; return 0;
    case OPT_HNP_PID: return parse_pid(optarg, &options->pid, fault);
    case OPT_JSON: options->json = true; return 0;
    case OPT_TIMEOUT: return parse_timeout(optarg, &options->timeout, fault);
    case OPT_LIST: options->action = MIGRATE_LIST; return 0;
    default: return -1;
    }
}

static int take_positional(int argc, char **argv, migrate_options_t *options, fault_t *fault)
{
    if (argc - optind > 1 || (argc > optind && 0 != options->pid)) {
        fault_set(fault, "usage", SEE_HELP, "'%s' is too much: one mpirun is dealt with at a time", argv[argc - 1]);
        return -1;
    }
    if (argc > optind) {
        return parse_pid(argv[optind], &options->pid, fault);
    }
    if (0 == options->pid) {
        fault_set(fault, "usage", "add the process id of mpirun as the last argument", "which mpirun?");
        return -1;
    }
    return 0;
}

/* Not more than that it is a word: which names there are is known to mpirun. */
static int check_node(const char *node, fault_t *fault)
{
    const char *c = node;

    while (isgraph((unsigned char)*c)) {
        ++c;
    }
    if (c == node || '\0' != *c) {
        fault_set(fault, "usage", "--list shows the nodes", "'%s' is not the name of a node", node);
        return -1;
    }
    return 0;
}

static int check_combination(const migrate_options_t *options, const char *rank_text, fault_t *fault)
{
    if (MIGRATE_LIST == options->action) {
        if (NULL != rank_text || NULL != options->onto) {
            fault_set(fault, "usage", SEE_HELP, "--list goes with neither --ranks nor --onto");
            return -1;
        }
        return 0;
    }
    if (NULL == rank_text) {
        fault_set(fault, "usage", "add --ranks RANK, or --list to see the ranks", "which rank?");
        return -1;
    }
    if (NULL == options->onto) {
        fault_set(fault, "usage", "add --onto NODE; --list shows the nodes", "onto which node?");
        return -1;
    }
    return check_node(options->onto, fault);
}

static void set_bad_option(fault_t *fault, bool lacks_value, const char *word)
{
    const char letter[] = {'-', (char)optopt, '\0'};
    const bool is_long = lacks_value ? (0 == strncmp(word, "--", 2)) : (0 == optopt || optopt >= OPT_HNP_PID);
    const char *option = is_long ? word : letter;

    fault_set(fault, "usage", SEE_HELP, lacks_value ? "option '%s' lacks its value" : "bad option '%s'", option);
}

int migrate_options_parse(int argc, char **argv, migrate_options_t *out, fault_t *fault)
{
    migrate_options_t options = {.action = MIGRATE_MOVE, .job = -1, .timeout = MIGRATE_TIMEOUT_DEFAULT};
    const char *rank_text = NULL;
    int opt;

    optind = 0; /* start afresh, so that it can be called more than once */
    while (-1 != (opt = getopt_long(argc, argv, ":r:t:vhV", long_options, NULL))) {
        if (OPT_HELP == opt || 'h' == opt || OPT_VERSION == opt || 'V' == opt) {
            options.action = (OPT_HELP == opt || 'h' == opt) ? MIGRATE_HELP : MIGRATE_VERSION;
            *out = options;
            return 0;
        }
        if (':' == opt || '?' == opt) {
            set_bad_option(fault, ':' == opt, argv[optind - 1]);
            return -1;
        }
        if (0 != take_option(opt, &options, &rank_text, fault)) {
            return -1;
        }
    }
    if (0 != take_positional(argc, argv, &options, fault) || 0 != check_combination(&options, rank_text, fault)) {
        return -1;
    }
    *out = options;
    return 0;
}
