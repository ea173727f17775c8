/*
 * The page channel's frames: making, reading and checking them.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef PAGES_WIRE_H
#define PAGES_WIRE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Version 1 (that of the handshake, image_auth.h). Numbers are big-endian.
 *
 *   type (1)  flags (1)  zero (2)  count (4)  address (8)  checksum (8)  content
 *
 *   GET   to the source   count pages from address on are wanted. They come, in DATA and ZERO, in order and without
 *                         gaps, before what is asked for next
 *   LIST  to the source   which pages are there? Answered by MAPs; the last one has the flag LAST
 *   DATA  to the target   count pages from address on; content: the pages
 *   ZERO  to the target   count pages from address on hold nothing but zeros
 *   MAP   to the target   count runs of pages; content: for each address (8), pages (4), flags (4; HUGE)
 *
 * The checksum is XXH3 (64 bits) of the content, its seed that of what stands before the checksum, whose seed in turn
 * is the first 8 bytes of the connection's key, which only its two ends know.
 */

#define WIRE_HEAD_BYTES 24
#define WIRE_RUN_BYTES  16
/** What a frame may carry at most. */
#define WIRE_PAGES_MAX 64
#define WIRE_RUNS_MAX  4096
/** What may be asked for at once. */
#define WIRE_GET_MAX 1024

typedef enum { WIRE_GET = 1, WIRE_LIST = 2, WIRE_DATA = 3, WIRE_ZERO = 4, WIRE_MAP = 5 } wire_type_t;

#define WIRE_LAST 1 /* flag of MAP */
#define WIRE_HUGE 1 /* flag of a run */

typedef struct {
    wire_type_t type;
    uint8_t flags;
    uint32_t count;
    uint64_t at;
    uint64_t sum;
} wire_head_t;

typedef struct {
    uint64_t at;
    uint32_t pages, flags;
} wire_run_t;

/**
 * Read a head.
 * @param to_source  which way the frame has come
 * @return 0, or -1 when it is none that may come that way, or exceeds a limit
 */
int wire_parse(const uint8_t *p, int to_source, wire_head_t *head);

/** Length of the content that follows a head. */
size_t wire_content_bytes(const wire_head_t *head);

/** Write a head and its checksum, which covers the content too. */
void wire_build(uint8_t *p, const wire_head_t *head, const void *content, uint64_t seed);

/** Does the checksum match? @param p  the head as it has come */
int wire_check(const uint8_t *p, const wire_head_t *head, const void *content, uint64_t seed);

void wire_build_run(uint8_t *p, const wire_run_t *run);

/** @return 0, or -1 when it is not a run of pages */
int wire_parse_run(const uint8_t *p, wire_run_t *run);

#endif /* PAGES_WIRE_H */
