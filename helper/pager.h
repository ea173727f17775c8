/*
 * The pager: at the target, it fills the memory of a rank that runs already.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef PAGER_H
#define PAGER_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "pages_link.h"
#include "pages_ranges.h"
#include "pages_space.h"

/*
 * Two threads. That of the faults hears of pages that the rank waits for, asks for each over the urgent connection and
 * puts it in place; it also hears of forks and of mappings that move. That of the stream asks for all others over the
 * bulk connection, from the place of the last fault on. So a fault never waits behind a chunk of the stream.
 *
 * A rank that forks makes another address space with pages missing in it: the same ones. What comes is put into every
 * space that lacks it.
 */

#define PAGER_SPACES_MAX 8192

/** An address space: that of the rank, or of a process that it has forked. */
typedef struct {
    int uffd;
    pages_space_t *pages;
    pid_t pid;        /* 0: not known */
    int info;         /* what the kernel tells of the uffd, or -1 */
    atomic_bool gone; /* the process has ended, or has other memory by now (exec) */
} pager_space_t;

typedef struct {
    uint64_t faults, urgent_pages, stream_pages, zero_pages;
    uint32_t *latency; /* how many faults took so many microseconds */
} pager_stats_t;

#define PAGER_LATENCY_MAX 200000 /* microseconds; what takes longer is counted there */

typedef struct pager {
    pages_ranges_t ranges; /* as the rank had them at the freeze */
    struct {
        uint64_t first, pages;
    } * huge; /* pages that were mapped as huge ones, by number */
    size_t n_huge;

    /*
     * Whoever puts a page in place may look and fill, with the read lock. Events of userfaultfd are read with the write
     * lock: once an event has been read the rank goes on, and a page put in place from then on must go where the
     * mapping is then.
     */
    pthread_rwlock_t lock;
    pager_space_t space[PAGER_SPACES_MAX];
    atomic_size_t n_spaces;
    int safe;           /* where descriptors of address spaces go, to survive this process; -1: nowhere */
    atomic_bool broken; /* for want of memory it is not known any more what is missing where: nobody may go on */

    _Atomic uint64_t last_fault; /* number of a page */
    _Atomic uint64_t fault_count;

    pages_link_t urgent, bulk;
    atomic_bool urgent_up, bulk_up; /* the connection is there; its thread may use it */
    atomic_bool ending;
    atomic_bool mapped;                     /* it is known which pages there are */
    atomic_bool nonsense;                   /* what the source says of them does not fit */
    atomic_bool attached;                   /* the rank's userfaultfd is there */
    atomic_bool streaming;                  /* what the rank does not ask for may come as well */
    atomic_bool complete;                   /* nothing is missing anywhere */
    int wake_fault, wake_stream, wake_main; /* bells */
    bool again; /* another process has begun to fill the rank: what is missing is known from it */
    pthread_t fault_thread, stream_thread;
    bool fault_runs, stream_runs;
    pager_stats_t stats;
} pager_t;

/* ---- pager_core.c ---- */

/** Of a pager that is all zeros; .ranges come later. @return 0, or -1 with errno set */
int pager_init(pager_t *p);
void pager_fini(pager_t *p);

/**
 * Add an address space; both are the pager's from then on. Alone, or with the write lock; there has to be room.
 */
void pager_add(pager_t *p, int uffd, pages_space_t *pages);

/** Name the process of an address space. */
void pager_name(pager_t *p, size_t i, pid_t pid);

/** Put what an address space needs where it survives this process. */
void pager_keep(pager_t *p, size_t i);

/** For how many more address spaces there is room. */
size_t pager_room(const pager_t *p);

/** The next pages that are missing anywhere, as pages_space_next(). */
uint64_t pager_next(pager_t *p, uint64_t from, uint64_t max, uint64_t *first);

/** Ask for pages of one range. @return 0, or -1: the connection is to be given up */
int pager_ask(const pager_t *p, pages_link_t *link, uint64_t first, uint64_t n);

/**
 * Wait for the next answer, all of whose pages lie in one range.
 * @param first  set to the number of its first page
 * @param data  set to the pages, in the link until the next call; NULL: they are zeros
 * @return how many pages, or -1: the connection is to be given up
 */
int64_t pager_hear(const pager_t *p, pages_link_t *link, uint64_t *first, const uint8_t **data);

/** What to do when a page cannot be put in place before an event has been read, or before there is memory. */
typedef void (*pager_later_fn_t)(pager_space_t *space, void *arg);

/**
 * Put pages in place wherever they are missing; @p data NULL: zeros.
 * @param later  called without the lock; then it is tried again
 * @return how many places there were
 */
uint64_t pager_place(pager_t *p, uint64_t first, uint64_t count, const uint8_t *data, pager_later_fn_t later,
                     void *arg);

/** To be used where another thread reads the events: waits a moment. */
void pager_wait(pager_space_t *space, void *arg);

/** Is anything missing in a process that lives? */
bool pager_lacks(pager_t *p);

/** Leave all processes to themselves, when nothing is missing in them. The threads have ended. */
void pager_detach(pager_t *p);

/** Make huge pages again of those that had been. @return how many */
uint64_t pager_collapse(pager_t *p, pid_t pid);

/** What has been done, as JSON: a new reference. */
json_t *pager_report(const pager_t *p);

/* ---- pager_fault.c, pager_stream.c: the threads ---- */

/** Body of the threads; the argument is the pager. */
void *pager_fault_main(void *arg);
void *pager_stream_main(void *arg);

#endif /* PAGER_H */
