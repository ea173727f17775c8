/*
 * What /proc and the kernel say about a rank, about the room for it, and about this node's networks.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lpm_msg.h"
#include "lpm_task.h"

static char *proc_link(pid_t pid, const char *what, char *text, size_t size)
{
    char path[64];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
    n = readlink(path, text, size - 1);
    if (0 > n) {
        return NULL;
    }
    text[n] = '\0';
    return text;
}

/*
 * How CRIU names what a standard stream is connected to; "" for what it restores by itself: files, /dev/null, and the
 * pipe of stdin with what is still unread in it. (mpirun sends further input to the daemon it knew at launch.)
 */
static json_t *stream_key(pid_t pid, int fd)
{
    char what[32], path[64], target[PATH_MAX], key[64];
    struct stat st;

    snprintf(what, sizeof(what), "fd/%d", fd);
    if (NULL == proc_link(pid, what, target, sizeof(target))) {
        return json_string(""); /* closed */
    }
    if (0 != fd && 0 == strncmp(target, "pipe:[", 6)) {
        return json_string(target);
    }
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
    if (0 == strncmp(target, "/dev/pts/", 9) && 0 == stat(path, &st)) {
        snprintf(key, sizeof(key), "tty[%lx:%lx]", (unsigned long)st.st_rdev, (unsigned long)st.st_dev);
        return json_string(key);
    }
    return json_string("");
}

static int append_thread(pid_t tid, void *tids)
{
    return json_array_append_new(tids, json_integer(tid));
}

static json_t *threads_of(pid_t pid)
{
    json_t *tids = json_array();

    if (0 != lpm_task_each(pid, append_thread, tids)) {
        json_decref(tids);
        return NULL;
    }
    return tids;
}

/*
 * May this shared mapping move? Memory that other processes of the node write would become a private copy without a
 * word: CRIU restores a deleted file as one of the process's own. Files with a name are the file system's business,
 * memory without one (/dev/zero, memfd) is the rank's own.
 */
static bool mapping_moves(const char *path)
{
    static const char deleted[] = " (deleted)";
    size_t length = strlen(path);
    const char *name = strrchr(path, '/');

    if (0 == strncmp(path, "/dev/zero", 9) || 0 == strncmp(path, "/memfd:", 7)) {
        return true;
    }
    if (NULL != name && 0 == strncmp(name, "/vader_segment.", 15)) {
        return true; /* crcp/lpm lets go of it */
    }
    if (length >= sizeof(deleted) && 0 == strcmp(path + length - (sizeof(deleted) - 1), deleted)) {
        return false;
    }
    return 0 != strncmp(path, "/dev/", 5) && 0 != strncmp(path, "/SYSV", 5);
}

/* The first mapping that keeps the process here, static; NULL when there is none. */
static const char *immovable_mapping(pid_t pid)
{
    static char text[PATH_MAX + 128];
    char line[PATH_MAX + 128], mode[8], path[PATH_MAX];
    const char *found = NULL;
    FILE *maps;

    snprintf(line, sizeof(line), "/proc/%d/maps", (int)pid);
    if (NULL == (maps = fopen(line, "re"))) {
        return "the mappings of the rank cannot be read";
    }
    while (NULL == found && NULL != fgets(line, sizeof(line), maps)) {
        line[strcspn(line, "\n")] = '\0';
        if (2 == sscanf(line, "%*s %7s %*s %*s %*s %4095[^\n]", mode, path) && 's' == mode[3] && !mapping_moves(path)) {
            snprintf(text, sizeof(text),
                     "the rank shares memory with its node, %s (a shared-memory window of MPI, or the "
                     "program's own)",
                     path);
            found = text;
        }
    }
    fclose(maps);
    return found;
}

json_t *snapc_lpm_inspect_process(pid_t pid, const char **why)
{
    char exe[PATH_MAX], cwd[PATH_MAX];
    json_t *tids;

    if (NULL != (*why = immovable_mapping(pid))) {
        return NULL;
    }
    tids = threads_of(pid);

    if (NULL == tids || NULL == proc_link(pid, "exe", exe, sizeof(exe)) ||
        NULL == proc_link(pid, "cwd", cwd, sizeof(cwd))) {
        json_decref(tids);
        *why = "the process of the rank cannot be looked at (has it ended, or does it belong to another user?)";
        return NULL;
    }
    return json_pack("{s:i,s:o,s:s,s:s,s:[o,o,o]}", "pid", (int)pid, "tids", tids, "exe", exe, "cwd", cwd, "fds",
                     stream_key(pid, 0), stream_key(pid, 1), stream_key(pid, 2));
}

static bool id_taken(json_int_t id)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%lld", (long long)id);
    return 0 == access(path, F_OK);
}

char *snapc_lpm_inspect_room(const json_t *process)
{
    const json_t *tids = json_object_get(process, "tids");
    const char *exe = lpm_msg_str(process, "exe"), *cwd = lpm_msg_str(process, "cwd");
    char host[64] = "", *why = NULL;
    int rc = 0;
    size_t i;
    json_t *tid;

    (void)gethostname(host, sizeof(host) - 1);
    if (NULL == exe || NULL == cwd) {
        return strdup("the source did not describe the process");
    }
    if (0 != access(exe, X_OK)) {
        rc = asprintf(&why, "%s has no program %s (%s)", host, exe, strerror(errno));
        return (0 > rc) ? NULL : why;
    }
    if (0 != access(cwd, X_OK)) {
        rc = asprintf(&why, "%s has no working directory %s (%s)", host, cwd, strerror(errno));
        return (0 > rc) ? NULL : why;
    }
    json_array_foreach(tids, i, tid) {
        if (id_taken(json_integer_value(tid))) {
            rc = asprintf(&why, "process or thread id %lld of the rank is in use on %s",
                          (long long)json_integer_value(tid), host);
            return (0 > rc) ? NULL : why;
        }
    }
    return NULL;
}

static bool usable(const struct ifaddrs *ifa)
{
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ifa->ifa_addr;

    if (NULL == ifa->ifa_addr || !(ifa->ifa_flags & IFF_UP) || (ifa->ifa_flags & IFF_LOOPBACK)) {
        return false;
    }
    if (AF_INET6 == ifa->ifa_addr->sa_family) {
        return !IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) && !IN6_IS_ADDR_SITELOCAL(&in6->sin6_addr);
    }
    return AF_INET == ifa->ifa_addr->sa_family;
}

json_t *snapc_lpm_inspect_interfaces(void)
{
    struct ifaddrs *list, *ifa;
    json_t *result = json_array();
    char text[INET6_ADDRSTRLEN];

    if (0 != getifaddrs(&list)) {
        return result;
    }
    for (ifa = list; NULL != ifa; ifa = ifa->ifa_next) {
        const void *address;

        if (!usable(ifa)) {
            continue;
        }
        address = (AF_INET == ifa->ifa_addr->sa_family)
                      ? (const void *)&((const struct sockaddr_in *)ifa->ifa_addr)->sin_addr
                      : (const void *)&((const struct sockaddr_in6 *)ifa->ifa_addr)->sin6_addr;
        if (NULL != inet_ntop(ifa->ifa_addr->sa_family, address, text, sizeof(text))) {
            json_array_append_new(result, json_pack("{s:s,s:i,s:i,s:s}", "name", ifa->ifa_name, "index",
                                                    (int)if_nametoindex(ifa->ifa_name), "family",
                                                    AF_INET == ifa->ifa_addr->sa_family ? 4 : 6, "addr", text));
        }
    }
    freeifaddrs(list);
    return result;
}
