/*
 * The page channel's helpers, one at each end of a move whose memory follows later.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SNAPC_LPM_PAGES_H
#define SNAPC_LPM_PAGES_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

/*
 * Both ends start their helper anew when it is killed, as often as that happens: the rank waits meanwhile. What the
 * helper at the target must not lose, the descriptors by which the kernel knows that pages are missing, the daemon
 * keeps as well.
 *
 * All functions belong on orte_event_base; callbacks are called there.
 */

/** An event of a helper, borrowed: "opened", "listening", "attached", "filled", "released" or "failed". */
typedef void (*snapc_lpm_pages_fn_t)(json_t *event);

/* ---- snapc_lpm_serve.c: the source ---- */

/** Start the helper and let it connect. @param message  of mpirun, with "peer_addrs", "pages_port" and "secret" */
int snapc_lpm_serve_open(const json_t *message, snapc_lpm_pages_fn_t fn);

/** The pages are in the memory of @p holder. @param ranges  borrowed */
void snapc_lpm_serve_holder(pid_t holder, json_t *ranges);

/** Nobody needs the pages any more: the holder ends. "released" follows. */
void snapc_lpm_serve_release(void);

/** Whatever is left of it, the holder excepted, which whoever undoes the move needs. */
void snapc_lpm_serve_reset(void);

/* ---- snapc_lpm_fill.c: the target ---- */

/** Start the helper. @param message  of mpirun, with "listen_addrs" and "secret" */
int snapc_lpm_fill_open(const json_t *message, snapc_lpm_pages_fn_t fn);

/** What will be missing. @param ranges  borrowed */
void snapc_lpm_fill_expect(json_t *ranges);

/** The rank is there, and does not run yet. "attached" follows, later "filled". */
void snapc_lpm_fill_attach(pid_t pid);

/** The rank is connected again. Before, pages that it does not ask for would take CPU time from what it needs. */
void snapc_lpm_fill_stream(void);

void snapc_lpm_fill_reset(void);

#endif /* SNAPC_LPM_PAGES_H */
