/*
 * Pages that come before the rank does.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef PAGER_EARLY_H
#define PAGER_EARLY_H

#include "pager.h"

/* All functions belong on the thread that uses the bulk connection. */

typedef struct pager_early pager_early_t;

/**
 * Ask for some pages and wait for them. The list of pages is there; nothing is under way.
 * @param early  set to what has come, also on failure; NULL without memory for it
 * @return 0, or -1: the connection is to be given up
 */
int pager_early_fetch(pager_t *p, pager_early_t **early);

/** Put in place what has come, as far as it is still missing. The rank's userfaultfd is there. @param early  or NULL */
void pager_early_place(pager_t *p, pager_early_t *early);

/** @param early  set to NULL */
void pager_early_free(pager_early_t **early);

#endif /* PAGER_EARLY_H */
