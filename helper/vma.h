/*
 * The memory of a process: which parts of it may follow later.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef VMA_H
#define VMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/** A mapping as /proc/PID/smaps describes it. */
typedef struct {
    uint64_t start, end;
    char perms[5];
    uint64_t inode;
    bool device;     /* not 00:00 */
    char name[64];   /* beginning of what it maps; empty: nothing */
    uint64_t filled; /* bytes in memory or swapped out */
    char flags[192]; /* VmFlags: words of two letters, each with a blank before and behind */
} vma_t;

typedef struct {
    vma_t *v;
    size_t n;
} vma_list_t;

/** Read the mappings of a process. @return 0, or -1 with errno set. vma_free() in any case */
int vma_read(pid_t pid, vma_list_t *list);

/**
 * Read the mappings of a process some of which are known from shortly before, which takes much less time: of a mapping
 * that was there the flags are taken as they were, and what it holds as well. Only if there is a new one of @p least
 * bytes or more, or one that has grown by as much, or has come of several, all is read.
 * @return as vma_read()
 */
int vma_read_again(pid_t pid, const vma_list_t *known, uint64_t least, vma_list_t *list);

/** The same from text in the format of smaps, or of maps. */
int vma_parse(FILE *smaps, vma_list_t *list);

void vma_free(vma_list_t *list);

/** The mapping that an address lies in, or NULL. */
vma_t *vma_find(const vma_list_t *list, uint64_t at);

/**
 * May the contents of a mapping be missing when the process runs on its new node?
 *
 * They may, if the mapping is private and of no file (that is heap, mmap()ed arrays, what malloc() has made, and the
 * zeroed data of programs, such as Fortran's COMMON blocks), and if the kernel can do without them: it is not locked,
 * has no huge pages of hugetlbfs, is no stack that grows, is no shadow stack, and nobody handles its page faults. The
 * copy that keeps them is made by fork(), so it has to be inherited as it is (no MADV_DONTFORK or MADV_WIPEONFORK).
 * Below @p least bytes in memory it is not worth a thing.
 *
 * Stacks and thread-local storage in use lie in mappings like others; whoever knows the threads leaves them out.
 *
 * @return NULL, or why not, as a constant text
 */
const char *vma_why_not_later(const vma_t *v, uint64_t least);

#endif /* VMA_H */
