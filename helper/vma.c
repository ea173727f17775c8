/*
 * The memory of a process: which parts of it may follow later.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vma.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define KIB   1024
#define PERMS 4 /* rwxp */

static vma_t *append(vma_list_t *list)
{
    vma_t *more;

    if (0 == (list->n & (list->n - 1))) { /* the room is a power of two */
        more = realloc(list->v, (0 == list->n ? 1 : 2 * list->n) * sizeof(*more));
        if (NULL == more) {
            return NULL;
        }
        list->v = more;
    }
    memset(&list->v[list->n], 0, sizeof(*list->v));
    return &list->v[list->n++];
}

/* A number, and one of the characters behind it, or the end. @return where that is, or NULL: it is something else */
static const char *number(const char *text, int base, const char *behind, uint64_t *value)
{
    char *end;

    if (NULL == text || '\0' == text[0] || NULL == strchr("0123456789abcdef", text[0])) {
        return NULL;
    }
    *value = strtoull(text, &end, base);
    return NULL != strchr(behind, *end) ? end : NULL;
}

static const char *skip(const char *text)
{
    return NULL == text || '\0' == *text ? NULL : text + 1;
}

/*
 * 55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0          [heap]
 *
 * Read while the process stands still, and a rank has some hundred: scanf(3) would take the time of its fork.
 */
static bool read_head(const char *line, vma_t *v)
{
    uint64_t offset, major, minor;
    const char *at = skip(number(skip(number(line, 16, "-", &v->start)), 16, " ", &v->end));

    if (NULL == at || PERMS != strcspn(at, " ")) {
        return false;
    }
    memcpy(v->perms, at, PERMS);
    at = skip(number(skip(number(skip(at + PERMS), 16, " ", &offset)), 16, ":", &major));
    at = number(skip(number(at, 16, " ", &minor)), 10, " \n", &v->inode);
    if (NULL == at) {
        return false;
    }
    at += strspn(at, " ");
    v->device = 0 != major || 0 != minor;
    snprintf(v->name, sizeof(v->name), "%.*s", (int)strcspn(at, "\n"), at);
    return true;
}

static void read_detail(const char *line, vma_t *v)
{
    uint64_t kib;

    if (1 == sscanf(line, "Rss: %" SCNu64, &kib) || 1 == sscanf(line, "Swap: %" SCNu64, &kib)) {
        v->filled += kib * KIB;
    } else if (0 == strncmp(line, "VmFlags:", 8) && NULL != strchr(line, '\n')) { /* else more might have followed */
        snprintf(v->flags, sizeof(v->flags), "%.*s ", (int)strcspn(line + 8, "\n"), line + 8);
    }
}

int vma_parse(FILE *smaps, vma_list_t *list)
{
    char *line = NULL;
    size_t room = 0;
    vma_t head, *v;
    int rc = 0;

    *list = (vma_list_t){NULL, 0};
    while (0 == rc && 0 < getline(&line, &room, smaps)) {
        memset(&head, 0, sizeof(head));
        if ('A' <= line[0] && 'Z' >= line[0]) {
            if (0 < list->n) {
                read_detail(line, &list->v[list->n - 1]);
            }
        } else if (read_head(line, &head)) {
            v = append(list);
            rc = NULL == v ? -1 : 0;
            if (0 == rc) {
                *v = head;
            }
        }
    }
    free(line);
    if (0 != rc) {
        errno = ENOMEM;
    }
    return 0 == rc && ferror(smaps) ? -1 : rc; /* errno is that of the reading */
}

static int read_file(pid_t pid, const char *name, vma_list_t *list)
{
    char path[64];
    FILE *f;
    int rc;

    *list = (vma_list_t){NULL, 0};
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    f = fopen(path, "re");
    if (NULL == f) {
        return -1;
    }
    rc = vma_parse(f, list);
    (void)fclose(f);
    return rc;
}

int vma_read(pid_t pid, vma_list_t *list)
{
    return read_file(pid, "smaps", list);
}

/* Takes over what is known of a mapping. @return false: too little */
static bool take_over(vma_t *v, const vma_list_t *known, size_t *first, uint64_t least)
{
    const bool matters = 'p' == v->perms[3] && 0 == v->inode && least <= v->end - v->start;
    uint64_t covered = 0;
    size_t i = *first;

    while (i < known->n && known->v[i].end <= v->start) {
        i++;
    }
    *first = i;
    for (; i < known->n && known->v[i].start < v->end; i++) {
        const vma_t *k = &known->v[i];

        if ('\0' != v->flags[0] && 0 != strcmp(v->flags, k->flags)) {
            return !matters;
        }
        memcpy(v->flags, k->flags, sizeof(v->flags));
        v->filled += k->filled;
        covered += (k->end < v->end ? k->end : v->end) - (k->start > v->start ? k->start : v->start);
    }
    return !matters || (0 < covered && (least <= v->filled || v->end - v->start - covered < least));
}

int vma_read_again(pid_t pid, const vma_list_t *known, uint64_t least, vma_list_t *list)
{
    size_t first = 0;

    if (0 != read_file(pid, "maps", list)) {
        return -1;
    }
    for (size_t i = 0; i < list->n; i++) {
        if (!take_over(&list->v[i], known, &first, least)) {
            vma_free(list);
            return vma_read(pid, list);
        }
    }
    return 0;
}

void vma_free(vma_list_t *list)
{
    free(list->v);
    *list = (vma_list_t){NULL, 0};
}

vma_t *vma_find(const vma_list_t *list, uint64_t at)
{
    for (size_t i = 0; i < list->n; i++) {
        if (list->v[i].start <= at && at < list->v[i].end) {
            return &list->v[i];
        }
    }
    return NULL;
}

const char *vma_why_not_later(const vma_t *v, uint64_t least)
{
    static const struct {
        const char *flag, *why;
    } flags[] = {{" lo ", "locked"},
                 {" ht ", "huge pages of hugetlbfs"},
                 {" gd ", "a stack"},
                 {" ss ", "a shadow stack"},
                 {" io ", "memory of a device"},
                 {" pf ", "memory of a device"},
                 {" dc ", "not inherited (MADV_DONTFORK)"},
                 {" wf ", "not inherited (MADV_WIPEONFORK)"},
                 {" um ", "its page faults are handled by the program"},
                 {" uw ", "its page faults are handled by the program"},
                 {" ui ", "its page faults are handled by the program"},
                 {" gu ", "it has guard pages of MADV_GUARD_INSTALL"}};

    if ('p' != v->perms[3]) {
        return "shared";
    }
    if (0 != v->inode || v->device) {
        return "of a file";
    }
    if ('[' == v->name[0] && 0 != strcmp("[heap]", v->name) && 0 != strncmp("[anon:", v->name, 6)) {
        return 0 == strcmp("[stack]", v->name) ? "a stack" : "the kernel's";
    }
    if ('\0' == v->flags[0]) {
        return "its flags are not known";
    }
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (NULL != strstr(v->flags, flags[i].flag)) {
            return flags[i].why;
        }
    }
    return v->filled < least ? "small" : NULL;
}
