/*
 * ompi-migrate as a program: what it asks, what it prints, and its exit status.
 *
 * The other side is a process of this test that bears mpirun's name and answers with a prepared text: what is tested
 * is the tool, not the migration.
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

#include "lpm_msg.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUARD_S   60
#define WORDS_MAX 12
#define DONE                                                                                                           \
    "{\"event\":\"done\",\"job\":1,\"rank\":3,\"pid\":77,\"from\":\"n1\",\"onto\":\"n2\",\"blackout_ms\":41.2,"        \
    "\"total_ms\":130.4,\"image_bytes\":3250586,\"phases\":[{\"phase\":\"PLAN\",\"ms\":1}],"                           \
    "\"channels\":[{\"event\":\"drained\",\"rank\":3,\"channels\":[{\"btl\":\"tcp\",\"peer\":0,\"queued\":2}]}]}\n"
#define PHASES                                                                                                         \
    "{\"event\":\"phase\",\"phase\":\"PLAN\",\"ms\":0.4}\n{\"event\":\"phase\",\"phase\":\"TRANSFER\",\"ms\":23}\n"
#define LIST                                                                                                           \
    "{\"event\":\"list\",\"ranks\":[{\"job\":1,\"rank\":0,\"node\":\"n1\",\"pid\":5,\"state\":\"running\"},"           \
    "{\"job\":2,\"rank\":1,\"node\":\"n1\",\"pid\":6,\"state\":\"moving\"}],"                                          \
    "\"nodes\":[{\"node\":\"n1\",\"slots\":4},{\"node\":\"n2\",\"slots\":1}]}\n"
#define ERROR(code, phase)                                                                                             \
    "{\"event\":\"error\",\"code\":\"" code "\"," phase "\"message\":\"it went wrong\",\"remedy\":\"do better\"}\n"
#define IN(phase) "\"phase\":\"" phase "\","

typedef enum {
    SERVER_NO_SOCKET,
    SERVER_DEAF,   /* socket without listener */
    SERVER_SILENT, /* takes the request and never answers */
    SERVER_ANSWERS /* and closes */
} server_kind_t;

typedef struct {
    char dir[64];
    pid_t pid;      /* of the server */
    int request_fd; /* what the server has been asked */
    /* what the tool has done */
    int status;
    char out[4096];
    char err[4096];
} cli_t;

static char tool[512];

/* ---- the process called mpirun: no cmocka in it, it leaves with _exit ---- */

static int server_listen(const char *dir, server_kind_t kind)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char path[200];

    (void)snprintf(path, sizeof(path), "%s/ompi.here.%lu", dir, (unsigned long)geteuid());
    if (0 != mkdir(path, 0700)) {
        return -1;
    }
    (void)snprintf(path + strlen(path), sizeof(path) - strlen(path), "/pid.%ld", (long)getpid());
    if (0 != mkdir(path, 0700)) {
        return -1;
    }
    int sock = socket(AF_UNIX, SOCK_STREAM, 0);
    if (SERVER_NO_SOCKET == kind || sock < 0) {
        return sock;
    }
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%.80s/%s", path, LPM_CONTROL_SOCKET);
    if (0 != bind(sock, (struct sockaddr *)&addr, sizeof(addr)) || (SERVER_DEAF != kind && 0 != listen(sock, 4))) {
        return -1;
    }
    return sock;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return -1;
        }
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int serve(const char *dir, server_kind_t kind, const char *answer, size_t len, int ready_fd, int request_fd)
{
    char c = '\0';

    (void)alarm(GUARD_S);
    int sock = server_listen(dir, kind);
    if (sock < 0 || 0 != prctl(PR_SET_NAME, "mpirun") || 1 != write(ready_fd, "r", 1)) {
        return 1;
    }
    if (SERVER_NO_SOCKET == kind || SERVER_DEAF == kind) {
        (void)pause();
    }
    int conn = accept(sock, NULL, NULL);
    while (conn >= 0 && '\n' != c && 1 == read(conn, &c, 1)) {
        if (1 != write(request_fd, &c, 1)) {
            return 1;
        }
    }
    (void)close(request_fd);
    if (SERVER_SILENT == kind) {
        (void)pause();
    }
    /* a tool that has heard enough closes: no fault of the server */
    (void)write_all(conn, answer, len);
    (void)close(conn);
    (void)pause();
    return 0;
}

static void start_server_bytes(cli_t *cli, server_kind_t kind, const char *answer, size_t len)
{
    int ready[2];
    int request[2];
    char c;

    assert_int_equal(0, pipe2(ready, O_CLOEXEC));
    assert_int_equal(0, pipe2(request, O_CLOEXEC));
    cli->pid = fork();
    assert_true(cli->pid >= 0);
    if (0 == cli->pid) {
        _exit(serve(cli->dir, kind, answer, len, ready[1], request[1]));
    }
    assert_int_equal(0, close(ready[1]));
    assert_int_equal(0, close(request[1]));
    cli->request_fd = request[0];
    assert_int_equal(1, read(ready[0], &c, 1));
    assert_int_equal(0, close(ready[0]));
}

static void start_server(cli_t *cli, server_kind_t kind, const char *answer)
{
    start_server_bytes(cli, kind, answer, strlen(answer));
}

static void stop_server(cli_t *cli)
{
    int status;

    if (cli->pid > 0) {
        assert_int_equal(0, kill(cli->pid, SIGKILL));
        assert_int_equal(cli->pid, waitpid(cli->pid, &status, 0));
        assert_int_equal(0, close(cli->request_fd));
    }
    cli->pid = 0;
}

/* ---- running the tool ---- */

static void read_all(FILE *from, char *to, size_t size)
{
    rewind(from);
    size_t len = fread(to, 1, size - 1, from);
    to[len] = '\0';
    assert_int_equal(0, fclose(from));
}

/* Split `line` at blanks; "PID" stands for the server's process id. */
static void split(const cli_t *cli, char *line, char **argv, char *pid_text, size_t pid_size)
{
    int argc = 0;

    (void)snprintf(pid_text, pid_size, "%ld", (long)cli->pid);
    argv[argc++] = tool;
    for (char *word = strtok(line, " "); NULL != word; word = strtok(NULL, " ")) {
        assert_true(argc <= WORDS_MAX);
        argv[argc++] = (0 == strcmp(word, "PID")) ? pid_text : word;
    }
    argv[argc] = NULL;
}

/* out_path NULL: stdout is collected. uid 0: as we are. */
static void run_tool_as(cli_t *cli, const char *arguments, const char *out_path, uid_t uid)
{
    char *argv[WORDS_MAX + 2];
    char line[256];
    char pid_text[16];
    int status;
    FILE *out = (NULL == out_path) ? tmpfile() : fopen(out_path, "r+");
    FILE *err = tmpfile();

    assert_non_null(out);
    assert_non_null(err);
    (void)snprintf(line, sizeof(line), "%s", arguments);
    split(cli, line, argv, pid_text, sizeof(pid_text));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (0 == pid) {
        /* opened before the uid changes: that user may not be able to walk the path */
        int program = open(tool, O_RDONLY);
        if (program < 0 || 0 != setenv("TMPDIR", cli->dir, 1) || 0 > dup2(fileno(out), STDOUT_FILENO) ||
            0 > dup2(fileno(err), STDERR_FILENO) || (0 != uid && 0 != setuid(uid))) {
            _exit(126);
        }
        (void)alarm(GUARD_S);
        (void)fexecve(program, argv, environ);
        _exit(127);
    }
    assert_int_equal(pid, waitpid(pid, &status, 0));
    assert_true(WIFEXITED(status));
    cli->status = WEXITSTATUS(status);
    read_all(err, cli->err, sizeof(cli->err));
    if (NULL == out_path) {
        read_all(out, cli->out, sizeof(cli->out));
    } else {
        assert_int_equal(0, fclose(out));
    }
}

static void run_tool(cli_t *cli, const char *arguments)
{
    run_tool_as(cli, arguments, NULL, 0);
}

static json_t *read_request(cli_t *cli)
{
    char text[512];
    ssize_t len = read(cli->request_fd, text, sizeof(text));

    for (ssize_t more = len; more > 0 && len < (ssize_t)sizeof(text); len += more) {
        more = read(cli->request_fd, text + len, sizeof(text) - (size_t)len);
        assert_true(more >= 0);
    }
    assert_true(len > 0);
    assert_int_equal('\n', text[len - 1]);
    json_t *request = json_loadb(text, (size_t)len, 0, NULL);
    assert_non_null(request);
    return request;
}

static void expect(const char *text, const char *part)
{
    if (NULL == strstr(text, part)) {
        fail_msg("'%s' is not in: %s", part, text);
    }
}

static int set_up(void **state)
{
    cli_t *cli = calloc(1, sizeof(*cli));

    assert_non_null(cli);
    strcpy(cli->dir, "/tmp/lpm-test-cli-XXXXXX");
    assert_non_null(mkdtemp(cli->dir));
    *state = cli;
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int tear_down(void **state)
{
    cli_t *cli = *state;

    stop_server(cli);
    assert_int_equal(0, nftw(cli->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS));
    free(cli);
    return 0;
}

/* For a test of several rounds: what a failed round leaves behind is still undone by the test's own tear_down. */
static void renew(void **state)
{
    assert_int_equal(0, tear_down(state));
    assert_int_equal(0, set_up(state));
}

/* ---- tests ---- */

static void move_is_asked_for_and_reported(void **state)
{
    cli_t *cli = *state;

    start_server(cli, SERVER_ANSWERS, PHASES DONE);
    run_tool(cli, "--ranks 3 --onto n2 PID");
    assert_string_equal("rank 3 moved from n1 to n2: blackout 41 ms, 3.1 MiB, 130 ms in all\n", cli->out);
    assert_string_equal("", cli->err);
    assert_int_equal(0, cli->status);

    json_t *request = read_request(cli);
    json_t *expected = json_pack("{s:i, s:s, s:i, s:s}", "lpm", 1, "op", "migrate", "rank", 3, "onto", "n2");
    assert_true(json_equal(request, expected));
    json_decref(expected);
    json_decref(request);
}

static void job_is_passed_on(void **state)
{
    cli_t *cli = *state;
    int64_t job;

    start_server(cli, SERVER_ANSWERS, DONE);
    run_tool(cli, "-r 2.3 -t n2 --hnp-pid PID");
    assert_int_equal(0, cli->status);
    json_t *request = read_request(cli);
    assert_int_equal(0, lpm_msg_int(request, "job", 2, 2, &job));
    json_decref(request);
}

static void verbose_shows_phases_and_channels(void **state)
{
    cli_t *cli = *state;

    start_server(cli, SERVER_ANSWERS, PHASES DONE);
    run_tool(cli, "-v -r 3 -t n2 PID");
    assert_string_equal("  PLAN      0.4 ms\n"
                        "  TRANSFER  23 ms\n"
                        "  rank: event drained rank 3\n"
                        "    channel: btl tcp peer 0 queued 2\n"
                        "rank 3 moved from n1 to n2: blackout 41 ms, 3.1 MiB, 130 ms in all\n",
                        cli->out);
    assert_int_equal(0, cli->status);
}

/* Equal as JSON, line by line: how a number is written is not part of it. */
static void expect_same_lines(const char *expected, const char *found)
{
    while ('\0' != *expected && '\0' != *found) {
        size_t expected_len = strcspn(expected, "\n") + 1;
        size_t found_len = strcspn(found, "\n") + 1;
        json_t *a = json_loadb(expected, expected_len, 0, NULL);
        json_t *b = json_loadb(found, found_len, 0, NULL);

        assert_non_null(a);
        assert_true(json_equal(a, b));
        json_decref(a);
        json_decref(b);
        expected += expected_len;
        found += found_len;
    }
    assert_string_equal(expected, found);
}

static void json_passes_events_through(void **state)
{
    cli_t *cli = *state;

    start_server(cli, SERVER_ANSWERS, PHASES DONE);
    run_tool(cli, "--json -r 3 -t n2 PID");
    expect_same_lines(PHASES DONE, cli->out);
    assert_string_equal("", cli->err);
    assert_int_equal(0, cli->status);
}

static void list_is_shown(void **state)
{
    cli_t *cli = *state;

    start_server(cli, SERVER_ANSWERS, LIST);
    run_tool(cli, "--list PID");
    assert_string_equal("rank 0 on n1: pid 5, running\n"
                        "rank 2.1 on n1: pid 6, moving\n"
                        "node n1: 4 slots, 2 ranks\n"
                        "node n2: 1 slot, 0 ranks\n",
                        cli->out);
    assert_int_equal(0, cli->status);

    json_t *request = read_request(cli);
    json_t *expected = json_pack("{s:i, s:s}", "lpm", 1, "op", "list");
    assert_true(json_equal(request, expected));
    json_decref(expected);
    json_decref(request);
}

static void errors_of_mpirun_give_their_status(void **state)
{
    static const struct {
        const char *answer;
        int status;
    } cases[] = {
        {ERROR("unknown-rank", IN("PLAN")), 3},
        {ERROR("whatever", IN("PLAN")), 3},
        {ERROR("bad-request", ""), 3},
        {ERROR("ending", IN("PREPARE")), 3},
        {ERROR("criu", IN("PREPARE")), 1},
        {ERROR("ending", IN("QUIESCE")), 1},
        {ERROR("criu", IN("TRANSFER")), 1},
        {PHASES ERROR("criu", ""), 1},
        {PHASES ERROR("lost", IN("TRANSFER")), 4},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        renew(state);
        cli_t *cli = *state;
        start_server(cli, SERVER_ANSWERS, cases[i].answer);
        run_tool(cli, "-r 3 -t n2 PID");
        if (cases[i].status != cli->status) {
            fail_msg("status %d, not %d, for %s", cli->status, cases[i].status, cases[i].answer);
        }
        expect(cli->err, "ompi-migrate: it went wrong\n");
        expect(cli->err, "  remedy: do better\n");
        assert_string_equal("", cli->out);
    }
}

static void phase_of_the_error_is_named(void **state)
{
    cli_t *cli = *state;

    start_server(cli, SERVER_ANSWERS, ERROR("criu", IN("RESTORE")));
    run_tool(cli, "-r 3 -t n2 PID");
    assert_string_equal("ompi-migrate: it went wrong\n  phase: RESTORE\n  remedy: do better\n", cli->err);
}

/* After the request only answers that are understood and complete may end well. */
static void rubbish_is_never_success(void **state)
{
#define RUBBISH(text)                                                                                                  \
    {                                                                                                                  \
        text, sizeof(text) - 1                                                                                         \
    }
    static const struct {
        const char *answer;
        size_t len;
    } cases[] = {
        RUBBISH(""),
        RUBBISH("\n"),
        RUBBISH("hello\n"),
        RUBBISH("{}\n"),
        RUBBISH("[]\n"),
        RUBBISH("\0\0\0\0\n"),
        RUBBISH("{\"event\":\"surprise\"}\n"),
        RUBBISH("{\"event\":5}\n"),
        RUBBISH("{\"event\":\"done\"}\n"),
        RUBBISH("{\"event\":\"done\",\"job\":1,\"rank\":3,\"from\":\"n1\",\"onto\":\"n2\",\"blackout_ms\":-1,"
                "\"total_ms\":1,\"image_bytes\":1}\n"),
        RUBBISH("{\"event\":\"error\",\"code\":\"x\"}\n"),
        RUBBISH("{\"event\":\"phase\",\"phase\":\"PLAN\"}\n"),
        RUBBISH(PHASES),
        RUBBISH(LIST),
        RUBBISH("{\"event\":\"done\",\"job\":1,\"rank\":3,\"from\":\"n1\",\"onto\":\"n2\",\"blackout_ms\":1,"
                "\"total_ms\":1,\"image_bytes\":1}"),
    };
#undef RUBBISH

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        renew(state);
        cli_t *cli = *state;
        start_server_bytes(cli, SERVER_ANSWERS, cases[i].answer, cases[i].len);
        run_tool(cli, "-r 3 -t n2 PID");
        if (4 != cli->status) {
            fail_msg("status %d for case %zu: %s", cli->status, i, cases[i].answer);
        }
        expect(cli->err, "  remedy: ");
    }
}

static void malformed_lists_are_refused(void **state)
{
    static const char *const cases[] = {
        DONE,
        "{\"event\":\"list\",\"ranks\":[]}\n",
        "{\"event\":\"list\",\"ranks\":[5],\"nodes\":[]}\n",
        "{\"event\":\"list\",\"ranks\":[{\"job\":1,\"rank\":0,\"node\":\"n1\",\"pid\":5,\"state\":\"running\"}],"
        "\"nodes\":[{\"node\":\"n1\"}]}\n",
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        renew(state);
        cli_t *cli = *state;
        start_server(cli, SERVER_ANSWERS, cases[i]);
        run_tool(cli, "--list PID");
        assert_int_equal(4, cli->status);
        assert_string_equal("", cli->out);
    }
}

static void json_has_errors_too(void **state)
{
    cli_t *cli = *state;

    start_server(cli, SERVER_ANSWERS, PHASES);
    run_tool(cli, "--json -r 3 -t n2 PID");
    assert_int_equal(4, cli->status);
    char *last = strstr(cli->out, "{\"event\":\"error\"");
    assert_non_null(last);
    json_t *error = json_loads(last, 0, NULL);
    assert_non_null(error);
    assert_string_equal("lost", lpm_msg_str(error, "code"));
    assert_string_equal("TRANSFER", lpm_msg_str(error, "phase"));
    json_decref(error);
}

static void control_characters_do_not_reach_the_terminal(void **state)
{
    cli_t *cli = *state;

    start_server(cli, SERVER_ANSWERS,
                 "{\"event\":\"error\",\"code\":\"x\",\"message\":\"a\\u001b[2Jb\\nc\",\"phase\":\"PLAN\"}\n");
    run_tool(cli, "-r 3 -t n2 PID");
    assert_string_equal("ompi-migrate: a [2Jb c\n  phase: PLAN\n", cli->err);
    assert_int_equal(3, cli->status);
}

static void silence_times_out(void **state)
{
    cli_t *cli = *state;

    start_server(cli, SERVER_SILENT, "");
    run_tool(cli, "--timeout 0.05 -r 3 -t n2 PID");
    assert_int_equal(5, cli->status);
    expect(cli->err, "may still be under way");
}

static void mpirun_without_lpm(void **state)
{
    cli_t *cli = *state;

    start_server(cli, SERVER_NO_SOCKET, "");
    run_tool(cli, "-r 3 -t n2 PID");
    assert_int_equal(4, cli->status);
    expect(cli->err, "was not started with --mca crs lpm");
}

static void mpirun_that_does_not_listen(void **state)
{
    cli_t *cli = *state;

    start_server(cli, SERVER_DEAF, "");
    run_tool(cli, "-r 3 -t n2 PID");
    assert_int_equal(4, cli->status);
    expect(cli->err, "does not listen on its control socket any more");
}

static void mpirun_without_session_directory(void **state)
{
    cli_t *cli = *state;
    char top[128];
    char moved[128];

    start_server(cli, SERVER_NO_SOCKET, "");
    (void)snprintf(top, sizeof(top), "%s/ompi.here.%lu", cli->dir, (unsigned long)geteuid());
    (void)snprintf(moved, sizeof(moved), "%s/other", cli->dir);
    assert_int_equal(0, rename(top, moved));
    run_tool(cli, "-r 3 -t n2 PID");
    assert_int_equal(4, cli->status);
    expect(cli->err, "no session directory");
}

static void no_such_process(void **state)
{
    cli_t *cli = *state;
    char arguments[64];

    /* a process id that has just been given back is not in use again so soon */
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (0 == pid) {
        _exit(0);
    }
    assert_int_equal(pid, waitpid(pid, NULL, 0));
    (void)snprintf(arguments, sizeof(arguments), "-r 3 -t n2 %ld", (long)pid);
    run_tool(cli, arguments);
    assert_int_equal(4, cli->status);
    expect(cli->err, "there is no process");
}

static void not_an_mpirun(void **state)
{
    cli_t *cli = *state;
    char arguments[64];

    (void)snprintf(arguments, sizeof(arguments), "--list %ld", (long)getpid());
    run_tool(cli, arguments);
    assert_int_equal(4, cli->status);
    expect(cli->err, "is not an mpirun");
}

static void mpirun_of_another_user(void **state)
{
    cli_t *cli = *state;

    if (0 != geteuid()) {
        skip(); /* only root can become somebody else */
    }
    start_server(cli, SERVER_ANSWERS, DONE);
    run_tool_as(cli, "-r 3 -t n2 PID", NULL, 65534);
    assert_int_equal(4, cli->status);
    expect(cli->err, "belongs to another user");
}

static void wrong_usage(void **state)
{
    cli_t *cli = *state;

    run_tool(cli, "-r 1,2 -t n2 1");
    assert_int_equal(2, cli->status);
    expect(cli->err, "one rank at a time");
    run_tool(cli, "");
    assert_int_equal(2, cli->status);
}

static void help_and_version(void **state)
{
    cli_t *cli = *state;

    run_tool(cli, "--help");
    assert_int_equal(0, cli->status);
    expect(cli->out, "Usage: ompi-migrate");
    run_tool(cli, "--version");
    assert_int_equal(0, cli->status);
    expect(cli->out, "ompi-migrate (LPM) ");
}

static void output_that_cannot_be_written_is_no_success(void **state)
{
    cli_t *cli = *state;

    start_server(cli, SERVER_ANSWERS, PHASES DONE);
    run_tool_as(cli, "-v -r 3 -t n2 PID", "/dev/full", 0);
    assert_int_equal(6, cli->status);
    expect(cli->err, "output could not be written");
}

/* The tool as the build leaves it, beside the tests; OMPI_MIGRATE names another one. */
static int find_tool(void **state)
{
    static const char *const places[] = {"/../../tools/ompi-migrate", "/../../../tools/ompi-migrate"};
    const char *given = getenv("OMPI_MIGRATE");
    char self[256];

    (void)state;
    if (NULL != given) {
        (void)snprintf(tool, sizeof(tool), "%s", given);
        return access(tool, X_OK);
    }
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len <= 0) {
        return -1;
    }
    self[len] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); ++i) {
        (void)snprintf(tool, sizeof(tool), "%s%s", self, places[i]);
        if (0 == access(tool, X_OK)) {
            return 0;
        }
    }
    (void)fprintf(stderr, "ompi-migrate is not built\n");
    return -1;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(move_is_asked_for_and_reported),
        TEST(job_is_passed_on),
        TEST(verbose_shows_phases_and_channels),
        TEST(json_passes_events_through),
        TEST(list_is_shown),
        TEST(errors_of_mpirun_give_their_status),
        TEST(phase_of_the_error_is_named),
        TEST(rubbish_is_never_success),
        TEST(malformed_lists_are_refused),
        TEST(json_has_errors_too),
        TEST(control_characters_do_not_reach_the_terminal),
        TEST(silence_times_out),
        TEST(mpirun_without_lpm),
        TEST(mpirun_that_does_not_listen),
        TEST(mpirun_without_session_directory),
        TEST(no_such_process),
        TEST(not_an_mpirun),
        TEST(mpirun_of_another_user),
        TEST(wrong_usage),
        TEST(help_and_version),
        TEST(output_that_cannot_be_written_is_no_success),
    };
    return cmocka_run_group_tests(tests, find_tool, NULL);
}
