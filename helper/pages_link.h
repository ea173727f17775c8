/*
 * One connection of the page channel, as its thread uses it.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef PAGES_LINK_H
#define PAGES_LINK_H

#include <stdint.h>

#include "image_stream.h"
#include "pages_wire.h"

/** The content that a frame may have at most. */
#define LINK_CONTENT_BYTES (256u * 1024)

typedef struct {
    int fd; /* -1: none */
    uint64_t seed;
    uint8_t head[WIRE_HEAD_BYTES];
    uint8_t *content; /* of LINK_CONTENT_BYTES, page-aligned */
} pages_link_t;

/** Take an open stream, which is freed. @return 0, or -1: it has broken, or there is no memory */
int pages_link_open(pages_link_t *link, image_stream_t *st);

/** Whoever waits for it, on any thread, is told that it has ended. */
void pages_link_shut(const pages_link_t *link);

void pages_link_close(pages_link_t *link);

/**
 * Wait for the next frame; its content is in .content.
 * @param to_source  which way it comes
 * @return 0, or -1 when the connection has ended, or something else than a frame has come
 */
int pages_link_receive(pages_link_t *link, int to_source, wire_head_t *head);

/** Send a frame with what is in .content. @return 0 or -1 */
int pages_link_send(pages_link_t *link, const wire_head_t *head);

#endif /* PAGES_LINK_H */
