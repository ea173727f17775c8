/*
 * For test_pager: a TCP proxy between the two ends of the page channel, which stalls or drops connections when told to.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef PAGER_PROXY_H
#define PAGER_PROXY_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct proxy proxy_t;

/** Listen on the loopback; all runs on the event loop. @return NULL: it does not work */
proxy_t *proxy_new(struct event_base *base);
void proxy_free(proxy_t *p);

/** Where the source is to connect to, and where that leads. */
int proxy_port(const proxy_t *p);
void proxy_set_target(proxy_t *p, int port);

/** The bulk connection, and all that follow it, take @p bytes more to the target and then nothing any more. */
void proxy_stall_bulk(proxy_t *p, uint64_t bytes);

/** Has it taken them? */
bool proxy_is_stalled(const proxy_t *p);

/** No stall any more. */
void proxy_go_on(proxy_t *p);

/** All bytes that have gone to the target. */
uint64_t proxy_bytes(const proxy_t *p);

/** Drop all connections, as if the network had. @return how many there were */
int proxy_cut(proxy_t *p);

#endif /* PAGER_PROXY_H */
