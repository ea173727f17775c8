/*
 * The storm's command line.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include <getopt.h>

#include "storm.h"

struct options options = {.seconds = 5, .report = 50, .stall = 120, .seed = 1, .thread = MPI_THREAD_SINGLE};

static void usage(void)
{
    fprintf(stderr,
            "usage: storm [--seconds S | --rounds N] [--brake FILE] [--report N] [--seed N] [--stall-seconds S]\n"
            "             [--thread single|funneled|serialized] [--compute MS] [--spawn] [--onesided] [--io DIR]\n"
            "             [--only KIND,...] [--except KIND,...] [--list-kinds]\n"
            "             [--inject flip|swap|drop|double|result|stall]\n"
            "  --brake FILE   go on as long as this file exists, also after the seconds are over\n"
            "  --compute MS   now and then compute for up to MS milliseconds without any MPI call\n"
            "  --inject WHAT  make a mistake on the last rank, which has to be noticed\n");
    exit(TEST_USAGE);
}

/* The number of a word in a list that ends with NULL. */
static int word(const char *const *words, const char *text)
{
    for (int i = 0; NULL != words[i]; i++) {
        if (0 == strcmp(words[i], text)) {
            return i;
        }
    }
    usage();
    return -1;
}

static void set_option(int c)
{
    static const char *const threads[] = {"single", "funneled", "serialized", NULL};
    static const char *const injections[] = {"nothing", "flip", "swap", "drop", "double", "result", "stall", NULL};
    static const int levels[] = {MPI_THREAD_SINGLE, MPI_THREAD_FUNNELED, MPI_THREAD_SERIALIZED};

    switch (c) {
    case 's': options.seconds = test_number("seconds", optarg, 0, 10000000); break;
    case 'r': options.rounds = test_number("rounds", optarg, 1, 1000000000); break;
    case 'p': options.report = test_number("report", optarg, 0, 1000000000); break;
    case 'd': options.seed = test_number("seed", optarg, 0, 1000000000); break;
    case 't': options.stall = test_number("stall-seconds", optarg, 1, 100000); break;
    case 'c': options.compute = test_number("compute", optarg, 0, 100000); break;
    case 'b': options.brake = optarg; break;
    case 'f': options.io = optarg; break;
    case 'o': options.only = optarg; break;
    case 'x': options.except = optarg; break;
    case 'S': options.spawn = true; break;
    case 'w': options.onesided = true; break;
    case 'h': options.thread = levels[word(threads, optarg)]; break;
    case 'i': options.inject = (enum injection)word(injections, optarg); break;
    case 'l': options.list = true; break;
    default: usage();
    }
}

void options_parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"seconds", 1, NULL, 's'}, {"rounds", 1, NULL, 'r'},     {"report", 1, NULL, 'p'},
        {"seed", 1, NULL, 'd'},    {"compute", 1, NULL, 'c'},    {"stall-seconds", 1, NULL, 't'},
        {"brake", 1, NULL, 'b'},   {"io", 1, NULL, 'f'},         {"only", 1, NULL, 'o'},
        {"spawn", 0, NULL, 'S'},   {"thread", 1, NULL, 'h'},     {"onesided", 0, NULL, 'w'},
        {"inject", 1, NULL, 'i'},  {"list-kinds", 0, NULL, 'l'}, {"except", 1, NULL, 'x'},
        {NULL, 0, NULL, 0}};
    int c;

    while (-1 != (c = getopt_long(argc, argv, "", names, NULL))) {
        set_option(c);
    }
    if (optind != argc) {
        usage();
    }
}
