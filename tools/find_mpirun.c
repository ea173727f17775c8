/*
 * From the process id of mpirun to its control socket.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "find_mpirun.h"

#include "lpm_msg.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* far above any command line or environment that execve takes by default */
#define PROC_FILE_MAX ((size_t)8 * 1024 * 1024)

bool find_is_launcher(const char *comm)
{
    static const char *const names[] = {"mpirun", "orterun", "mpiexec", "oshrun", "shmemrun"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); ++i) {
        size_t len = strlen(names[i]);
        if (0 == strncmp(comm, names[i], len) && ('\0' == comm[len] || '.' == comm[len])) {
            return true;
        }
    }
    return false;
}

static int add_base(find_bases_t *bases, const char *dir)
{
    if (NULL == dir || '\0' == dir[0] || FIND_BASES_MAX == bases->count) {
        return 0;
    }
    for (int i = 0; i < bases->count; ++i) {
        if (0 == strcmp(bases->dir[i], dir)) {
            return 0;
        }
    }
    char *copy = strdup(dir);
    if (NULL == copy) {
        return -1;
    }
    bases->dir[bases->count++] = copy;
    return 0;
}

void find_bases_clear(find_bases_t *bases)
{
    for (int i = 0; i < bases->count; ++i) {
        free(bases->dir[i]);
    }
    bases->count = 0;
}

/* The string after `at` in a block of NUL-ended strings; NULL at the end, or when the last one lacks its NUL. */
static const char *next_string(const char *block, size_t len, const char *at)
{
    const char *next = (NULL == at) ? block : at + strlen(at) + 1;
    size_t left = len - (size_t)(next - block);

    return (0 == left || NULL == memchr(next, '\0', left)) ? NULL : next;
}

static const char *env_value(const char *env, size_t len, const char *name)
{
    size_t name_len = strlen(name);

    for (const char *s = next_string(env, len, NULL); NULL != s; s = next_string(env, len, s)) {
        if (0 == strncmp(s, name, name_len) && '=' == s[name_len]) {
            return s + name_len + 1;
        }
    }
    return NULL;
}

/* --mca orte_tmpdir_base DIR, in all spellings that mpirun takes */
static int add_bases_of_cmdline(find_bases_t *bases, const char *cmdline, size_t len)
{
    const char *before = "";
    const char *param = "";

    for (const char *s = next_string(cmdline, len, NULL); NULL != s; s = next_string(cmdline, len, s)) {
        const char *option = before + strspn(before, "-");
        if (option > before && (0 == strcmp(option, "mca") || 0 == strcmp(option, "gmca")) &&
            (0 == strcmp(param, "orte_tmpdir_base") || 0 == strcmp(param, "orte_local_tmpdir_base")) &&
            0 != add_base(bases, s)) {
            return -1;
        }
        before = param;
        param = s;
    }
    return 0;
}

int find_bases_collect(const char *own, const char *env, size_t env_len, const char *cmdline, size_t cmdline_len,
                       find_bases_t *bases)
{
    static const char *const names[] = {"OMPI_MCA_orte_tmpdir_base", "OMPI_MCA_orte_local_tmpdir_base", "TMPDIR",
                                        "TEMP", "TMP"};

    if (0 != add_bases_of_cmdline(bases, cmdline, cmdline_len)) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); ++i) {
        if (0 != add_base(bases, env_value(env, env_len, names[i]))) {
            return -1;
        }
    }
    if (0 != add_base(bases, own)) {
        return -1;
    }
    return add_base(bases, "/tmp");
}

static int set_connect_timeout(int sock, double timeout)
{
    struct timeval tv = {.tv_sec = (time_t)timeout, .tv_usec = (suseconds_t)((timeout - (time_t)timeout) * 1e6)};

    return (timeout > 0) ? setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) : 0;
}

static find_result_t result_of_errno(void)
{
    switch (errno) {
    case ENOENT: return FIND_NO_SOCKET;
    case ECONNREFUSED: return FIND_REFUSED;
    case EACCES:
    case EPERM: return FIND_DENIED;
    case EAGAIN: return FIND_TIMED_OUT;
    default: return FIND_FAILED;
    }
}

static find_result_t connect_in(int session_fd, uid_t owner, double timeout, int *fd)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t peer_len = sizeof(peer);

    /* a session directory's own path may be longer than sun_path */
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", session_fd, LPM_CONTROL_SOCKET);
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0) {
        return FIND_FAILED;
    }
    find_result_t result;
    if (0 != set_connect_timeout(sock, timeout) || 0 != connect(sock, (struct sockaddr *)&addr, sizeof(addr)) ||
        0 != getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len)) {
        result = result_of_errno();
        goto err_close_sock;
    }
    if (owner != peer.uid) {
        result = FIND_DENIED;
        goto err_close_sock;
    }
    *fd = sock;
    return FIND_CONNECTED;

err_close_sock:;
    int error = errno;
    (void)close(sock);
    errno = error;
    return result;
}

/* A directory that is a link or somebody else's is as good as none: base directories are open to all. */
static int open_owned_dir(int at, const char *name, uid_t owner)
{
    struct stat st;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd >= 0 && (0 != fstat(fd, &st) || owner != st.st_uid)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static find_result_t look_in_top(int base_fd, const char *top, uid_t owner, pid_t pid, double timeout, int *fd)
{
    find_result_t result = FIND_NO_SESSION;
    char session[32];

    int top_fd = open_owned_dir(base_fd, top, owner);
    if (top_fd < 0) {
        return result;
    }
    (void)snprintf(session, sizeof(session), "pid.%ld", (long)pid);
    int session_fd = open_owned_dir(top_fd, session, owner);
    if (session_fd >= 0) {
        result = connect_in(session_fd, owner, timeout, fd);
        int error = errno;
        (void)close(session_fd);
        errno = error;
    }
    int error = errno;
    (void)close(top_fd);
    errno = error;
    return result;
}

/* ompi.<host>.<uid> */
static bool is_top_name(const char *name, uid_t owner)
{
    char suffix[32];
    size_t len = strlen(name);

    int suffix_len = snprintf(suffix, sizeof(suffix), ".%lu", (unsigned long)owner);
    return len > strlen("ompi") + (size_t)suffix_len && 0 == strncmp(name, "ompi.", strlen("ompi.")) &&
           0 == strcmp(name + len - suffix_len, suffix);
}

find_result_t find_control_socket(const char *base, uid_t owner, pid_t pid, double timeout, int *fd)
{
    find_result_t best = FIND_NO_SESSION;
    int best_errno = 0;
    DIR *dir = opendir(base);

    if (NULL == dir) {
        return best;
    }
    const struct dirent *entry;
    while (FIND_CONNECTED != best && NULL != (entry = readdir(dir))) {
        if (is_top_name(entry->d_name, owner)) {
            find_result_t result = look_in_top(dirfd(dir), entry->d_name, owner, pid, timeout, fd);
            if (result > best) {
                best = result;
                best_errno = errno;
            }
        }
    }
    (void)closedir(dir);
    errno = best_errno;
    return best;
}

/* A whole file of /proc/PID, ended by a NUL that is not counted; empty when it cannot be read. NULL: no memory. */
static char *read_proc(pid_t pid, const char *name, size_t *len)
{
    char path[64];
    size_t used = 0;
    size_t size = 4096;
    char *data = malloc(size);

    if (NULL == data) {
        return NULL;
    }
    (void)snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0) {
        ssize_t got = read(fd, data + used, size - used - 1);
        if (got <= 0) {
            break;
        }
        used += (size_t)got;
        if (used + 1 == size) {
            char *more = (size < PROC_FILE_MAX) ? realloc(data, size * 2) : NULL;
            if (NULL == more) {
                break;
            }
            data = more;
            size *= 2;
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    data[used] = '\0';
    *len = used;
    return data;
}

static int check_process(pid_t pid, uid_t *owner, fault_t *fault)
{
    char path[32];
    struct stat st;
    size_t len;

    (void)snprintf(path, sizeof(path), "/proc/%ld", (long)pid);
    char *comm = read_proc(pid, "comm", &len);
    if (NULL == comm) {
        fault_set(fault, "internal", NULL, "out of memory");
        return -1;
    }
    comm[strcspn(comm, "\n")] = '\0';
    int rc = -1;
    if (0 != stat(path, &st)) {
        fault_set(fault, "no-such-process", "give the process id of a running mpirun on this node (pgrep -x mpirun)",
                  "there is no process %ld on this node", (long)pid);
    } else if (!find_is_launcher(comm)) {
        fault_set(fault, "not-mpirun", "give the process id of mpirun itself, not of a rank or a daemon",
                  "process %ld ('%s') is not an mpirun", (long)pid, comm);
    } else if (st.st_uid != geteuid() && 0 != geteuid()) {
        fault_set(fault, "not-permitted", "run ompi-migrate as the user who started the job, or as root",
                  "mpirun %ld belongs to another user (uid %lu)", (long)pid, (unsigned long)st.st_uid);
    } else {
        *owner = st.st_uid;
        rc = 0;
    }
    free(comm);
    return rc;
}

static int collect_bases_of(pid_t pid, find_bases_t *bases)
{
    size_t env_len;
    size_t cmdline_len;
    int rc = -1;
    char *env = read_proc(pid, "environ", &env_len);
    char *cmdline = read_proc(pid, "cmdline", &cmdline_len);

    if (NULL != env && NULL != cmdline) {
        rc = find_bases_collect(getenv("TMPDIR"), env, env_len, cmdline, cmdline_len, bases);
    }
    free(cmdline);
    free(env);
    return rc;
}

static void explain(find_result_t result, int error, pid_t pid, fault_t *fault)
{
    switch (result) {
    case FIND_NO_SESSION:
        fault_set(fault, "no-session", "try again when the job runs; if mpirun has a TMPDIR of its own, set the same",
                  "no session directory of mpirun %ld was found: it is starting, ending, or has it elsewhere",
                  (long)pid);
        break;
    case FIND_NO_SOCKET:
        fault_set(fault, "not-enabled", "start the job with mpirun --mca crs lpm ...",
                  "mpirun %ld was not started with --mca crs lpm", (long)pid);
        break;
    case FIND_REFUSED:
        fault_set(fault, "not-listening", "look whether the job is ending; if not, see what mpirun has printed",
                  "mpirun %ld does not listen on its control socket any more", (long)pid);
        break;
    case FIND_DENIED:
        fault_set(fault, "not-permitted", "run ompi-migrate as the user who started the job, or as root",
                  "the control socket of mpirun %ld is not accessible or is not that of its user", (long)pid);
        break;
    case FIND_TIMED_OUT:
        fault_set(fault, "timeout", "look whether mpirun is stopped; nothing has been asked of it",
                  "mpirun %ld did not take the connection in time", (long)pid);
        break;
    default:
        fault_set(fault, "internal", NULL, "connecting to mpirun %ld failed: %s", (long)pid, strerror(error));
        break;
    }
}

int find_mpirun(pid_t pid, double timeout, fault_t *fault)
{
    find_bases_t bases = {.count = 0};
    find_result_t best = FIND_NO_SESSION;
    int best_errno = 0;
    int fd = -1;
    uid_t owner;

    if (0 != check_process(pid, &owner, fault)) {
        return -1;
    }
    if (0 != collect_bases_of(pid, &bases)) {
        fault_set(fault, "internal", NULL, "out of memory");
        goto out;
    }
    for (int i = 0; FIND_CONNECTED != best && i < bases.count; ++i) {
        find_result_t result = find_control_socket(bases.dir[i], owner, pid, timeout, &fd);
        if (result > best) {
            best = result;
            best_errno = errno;
        }
    }
    /* what was missing may have been cleaned up by an mpirun that ended meanwhile */
    if (FIND_CONNECTED != best && 0 == check_process(pid, &owner, fault)) {
        explain(best, best_errno, pid, fault);
    }
out:
    find_bases_clear(&bases);
    return fd;
}
