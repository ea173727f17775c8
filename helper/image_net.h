/*
 * Making the TCP connection of an image stream.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef IMAGE_NET_H
#define IMAGE_NET_H

#include <jansson.h>
#include <sys/socket.h>

#include "image_stream.h"

/** Both sides: exactly one of them is called, once, on the event loop's thread; it may free the object. */
typedef struct {
    /** An open, mutually authenticated stream; the callee's from now on (set its callbacks at once). */
    void (*connected)(image_stream_t *st, void *arg);
    /** No such connection came about. */
    void (*failed)(const char *why, void *arg);
} image_net_cbs_t;

typedef struct image_connector image_connector_t;
typedef struct image_listener image_listener_t;

/**
 * Source: try the addresses in their order until one leads to the target.
 *
 * @param addrs  array of numeric addresses, borrowed until the callback.
 * @param timeout_ms  for all of them together; each gets its share.
 * @return NULL with errno set.
 */
image_connector_t *image_connector_new(struct event_base *base, const json_t *addrs, int port, int timeout_ms,
                                       const image_stream_conf_t *conf, const image_net_cbs_t *cbs, void *arg);
void image_connector_free(image_connector_t *c);

/**
 * Target: listen on one port of each address (of any address when there is none) until the source has come.
 *
 * Whoever does not prove within two seconds to be the source is dropped, and so is the longest waiting one of more
 * than a few strangers at once.
 *
 * @param timeout_ms  for the source to come; 0: no limit, and connected() is called for everyone that comes
 * @param port  the port, or 0: any; set to the port.
 * @return NULL with errno set (EINVAL: not a numeric address).
 */
image_listener_t *image_listener_new(struct event_base *base, const json_t *addrs, int timeout_ms,
                                     const image_stream_conf_t *conf, const image_net_cbs_t *cbs, void *arg, int *port);
void image_listener_free(image_listener_t *l);

/** Numeric address and port to a socket address. @return 0, or -1 with errno EINVAL. */
int image_net_address(const char *text, int port, struct sockaddr_storage *ss, socklen_t *len);

/** Settings of every connection: small frames go out at once, a dead peer is noticed within @p stall_ms. */
void image_net_tune(int fd, int stall_ms);

#endif /* IMAGE_NET_H */
