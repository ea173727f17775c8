/*
 * Looking into the memory of a holder, which does not change any more.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "holder_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "linux_pagemap.h"

#define SCAN_REGIONS 512
#define ENTRIES      4096
#define PIECE_BYTES  (1u << 20)

static int open_proc(pid_t pid, const char *name, int flags)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return open(path, flags | O_CLOEXEC);
}

/* ---- what is there ---- */

/* A run never reaches from one range into the next, even if they touch. */
static int append(holder_runs_t *runs, const pages_range_t *range, uint64_t at, uint64_t pages, bool huge)
{
    holder_run_t *last = 0 == runs->n ? NULL : &runs->r[runs->n - 1], *more;

    runs->pages += pages;
    if (NULL != last && range->start <= last->at && last->at + (uint64_t)last->pages * PAGE_BYTES == at &&
        last->huge == huge && last->pages + pages <= UINT32_MAX) {
        last->pages += (uint32_t)pages;
        return 0;
    }
    if (0 == (runs->n & (runs->n - 1))) { /* the room is a power of two */
        more = realloc(runs->r, (0 == runs->n ? 1 : 2 * runs->n) * sizeof(*more));
        if (NULL == more) {
            errno = ENOMEM;
            return -1;
        }
        runs->r = more;
    }
    runs->r[runs->n++] = (holder_run_t){.at = at, .pages = (uint32_t)pages, .huge = huge};
    return 0;
}

/* Linux >= 6.7. @return 0, or -1 with errno ENOTTY where the kernel is older */
static int scan(int pagemap, const pages_range_t *range, holder_runs_t *runs)
{
    static struct page_region regions[SCAN_REGIONS];
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .end = range->end,
        .vec = (uintptr_t)regions,
        .vec_len = SCAN_REGIONS,
        .category_inverted = PAGE_IS_PFNZERO,
        .category_mask = PAGE_IS_PFNZERO,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_HUGE,
    };

    for (uint64_t at = range->start; at < range->end; at = arg.walk_end) {
        arg.start = at;
        const int n = ioctl(pagemap, PAGEMAP_SCAN, &arg);

        if (0 > n) {
            return -1;
        }
        for (int i = 0; i < n; i++) {
            if (0 != append(runs, range, regions[i].start, (regions[i].end - regions[i].start) / PAGE_BYTES,
                            0 != (regions[i].categories & PAGE_IS_HUGE))) {
                return -1;
            }
        }
        if (arg.walk_end <= at) {
            errno = EIO;
            return -1;
        }
    }
    return 0;
}

static int read_entries(int pagemap, const pages_range_t *range, holder_runs_t *runs)
{
    static uint64_t entries[ENTRIES];
    uint64_t at = range->start;

    while (at < range->end) {
        const uint64_t left = (range->end - at) / PAGE_BYTES;
        const size_t want = left < ENTRIES ? left : ENTRIES;

        if ((ssize_t)(want * sizeof(entries[0])) !=
            pread(pagemap, entries, want * sizeof(entries[0]), (off_t)(at / PAGE_BYTES * sizeof(entries[0])))) {
            errno = ESRCH;
            return -1;
        }
        for (size_t i = 0; i < want; i++, at += PAGE_BYTES) {
            if (0 != (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) && 0 != append(runs, range, at, 1, false)) {
                return -1;
            }
        }
    }
    return 0;
}

int holder_runs(pid_t holder, const pages_ranges_t *ranges, holder_runs_t *runs)
{
    int pagemap = open_proc(holder, "pagemap", O_RDONLY), rc = 0;
    bool old = false;

    *runs = (holder_runs_t){NULL, 0, 0};
    if (0 > pagemap) {
        return -1;
    }
    for (size_t i = 0; 0 == rc && i < ranges->n; i++) {
        if (!old && 0 != scan(pagemap, &ranges->r[i], runs)) {
            old = ENOTTY == errno;
            rc = old ? 0 : -1;
        }
        if (old) {
            rc = read_entries(pagemap, &ranges->r[i], runs);
        }
    }
    (void)close(pagemap);
    return rc;
}

uint64_t holder_first(pid_t pid, const pages_range_t *range)
{
    const int pagemap = open_proc(pid, "pagemap", O_RDONLY);
    struct page_region region;
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .start = range->start,
        .end = range->end,
        .vec = (uintptr_t)&region,
        .vec_len = 1,
        .max_pages = 1,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_PRESENT,
    };
    int n, err;

    if (0 > pagemap) {
        return UINT64_MAX;
    }
    n = ioctl(pagemap, PAGEMAP_SCAN, &arg);
    err = errno;
    (void)close(pagemap);
    errno = err;
    return 0 > n ? UINT64_MAX : 0 == n ? range->end : region.start;
}

void holder_runs_free(holder_runs_t *runs)
{
    free(runs->r);
    *runs = (holder_runs_t){NULL, 0, 0};
}

const holder_run_t *holder_runs_from(const holder_runs_t *runs, uint64_t at)
{
    size_t low = 0, high = runs->n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (runs->r[mid].at + (uint64_t)runs->r[mid].pages * PAGE_BYTES <= at) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < runs->n ? &runs->r[low] : NULL;
}

/* ---- its contents ---- */

int holder_view(holder_view_t *view, pid_t pid)
{
    *view = (holder_view_t){.pid = pid, .mem = open_proc(pid, "mem", O_RDONLY)};
    return 0 > view->mem ? -1 : 0;
}

void holder_view_close(holder_view_t *view)
{
    if (0 <= view->mem) {
        (void)close(view->mem);
        view->mem = -1;
    }
}

int holder_read(const holder_view_t *view, uint64_t at, void *to, size_t n)
{
    struct iovec mine = {to, n}, theirs = {(void *)at, n};
    ssize_t got = process_vm_readv(view->pid, &mine, 1, &theirs, 1, 0);

    if ((ssize_t)n == got) {
        return 0;
    }
    if (0 > got && ESRCH == errno) {
        return -1;
    }
    /* memory without the right to read, which the tracer's file gives all the same */
    for (size_t done = 0; done < n; done += (size_t)got) {
        got = pread(view->mem, (char *)to + done, n - done, (off_t)(at + done));
        if (0 >= got) {
            errno = 0 == got ? ESRCH : errno;
            return -1;
        }
    }
    return 0;
}

static int write_all(int fd, const char *from, size_t n, uint64_t at)
{
    ssize_t put;

    for (size_t done = 0; done < n; done += (size_t)put) {
        put = pwrite(fd, from + done, n - done, (off_t)(at + done));
        if (0 >= put) {
            return -1;
        }
    }
    return 0;
}

int holder_copy_back(pid_t holder, pid_t rank, const pages_ranges_t *ranges)
{
    holder_view_t view = {.mem = -1};
    holder_runs_t runs = {NULL, 0, 0};
    int to = open_proc(rank, "mem", O_WRONLY), rc = -1;
    char *piece = malloc(PIECE_BYTES);

    if (0 > to || NULL == piece || 0 != holder_view(&view, holder) || 0 != holder_runs(holder, ranges, &runs)) {
        goto out_close;
    }
    for (size_t i = 0; i < runs.n; i++) {
        const uint64_t end = runs.r[i].at + (uint64_t)runs.r[i].pages * PAGE_BYTES;

        for (uint64_t at = runs.r[i].at; at < end; at += PIECE_BYTES) {
            const size_t n = end - at < PIECE_BYTES ? end - at : PIECE_BYTES;

            if (0 != holder_read(&view, at, piece, n) || 0 != write_all(to, piece, n, at)) {
                goto out_close;
            }
        }
    }
    rc = 0;
out_close:
    holder_runs_free(&runs);
    holder_view_close(&view);
    free(piece);
    if (0 <= to) {
        (void)close(to);
    }
    return rc;
}
