/*
 * The page channel's frames: making, reading and checking them.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "pages_wire.h"

#include <endian.h>
#include <string.h>
#include <xxhash.h>

#include "pages_ranges.h"

#define AT_COUNT   4
#define AT_ADDRESS 8
#define AT_SUM     16

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return be32toh(v);
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}

static void put32(uint8_t *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof(v));
}

static int within_limits(const wire_head_t *h)
{
    switch (h->type) {
    case WIRE_GET: return 0 < h->count && WIRE_GET_MAX >= h->count && 0 == h->flags;
    case WIRE_LIST: return 0 == h->count && 0 == h->at && 0 == h->flags;
    case WIRE_DATA: return 0 < h->count && WIRE_PAGES_MAX >= h->count && 0 == h->flags;
    case WIRE_ZERO: return 0 < h->count && WIRE_GET_MAX >= h->count && 0 == h->flags;
    case WIRE_MAP: return WIRE_RUNS_MAX >= h->count && 0 == h->at && WIRE_LAST >= h->flags;
    default: return 0;
    }
}

int wire_parse(const uint8_t *p, int to_source, wire_head_t *head)
{
    const int is_question = WIRE_GET == p[0] || WIRE_LIST == p[0];

    *head = (wire_head_t){.type = p[0],
                          .flags = p[1],
                          .count = get32(p + AT_COUNT),
                          .at = get64(p + AT_ADDRESS),
                          .sum = get64(p + AT_SUM)};
    if (0 != p[2] || 0 != p[3] || is_question != !!to_source || 0 != head->at % PAGE_BYTES ||
        UINT64_MAX - head->at < (uint64_t)head->count * PAGE_BYTES) {
        return -1;
    }
    return within_limits(head) ? 0 : -1;
}

size_t wire_content_bytes(const wire_head_t *head)
{
    return WIRE_DATA == head->type  ? (size_t)head->count * PAGE_BYTES
           : WIRE_MAP == head->type ? (size_t)head->count * WIRE_RUN_BYTES
                                    : 0;
}

static uint64_t sum_of(const uint8_t *p, const wire_head_t *head, const void *content, uint64_t seed)
{
    /* the seed of the content's sum is the sum of the head */
    return XXH3_64bits_withSeed(content, wire_content_bytes(head), XXH3_64bits_withSeed(p, AT_SUM, seed));
}

void wire_build(uint8_t *p, const wire_head_t *head, const void *content, uint64_t seed)
{
    memset(p, 0, WIRE_HEAD_BYTES);
    p[0] = (uint8_t)head->type;
    p[1] = head->flags;
    put32(p + AT_COUNT, head->count);
    put64(p + AT_ADDRESS, head->at);
    put64(p + AT_SUM, sum_of(p, head, content, seed));
}

int wire_check(const uint8_t *p, const wire_head_t *head, const void *content, uint64_t seed)
{
    return head->sum == sum_of(p, head, content, seed);
}

void wire_build_run(uint8_t *p, const wire_run_t *run)
{
    put64(p, run->at);
    put32(p + 8, run->pages);
    put32(p + 12, run->flags);
}

int wire_parse_run(const uint8_t *p, wire_run_t *run)
{
    *run = (wire_run_t){.at = get64(p), .pages = get32(p + 8), .flags = get32(p + 12)};
    return 0 == run->at % PAGE_BYTES && 0 < run->pages && WIRE_HUGE >= run->flags &&
                   UINT64_MAX - run->at >= (uint64_t)run->pages * PAGE_BYTES
               ? 0
               : -1;
}
