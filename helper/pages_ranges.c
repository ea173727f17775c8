/*
 * The memory that follows later: ranges of addresses.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "pages_ranges.h"

#include <stdlib.h>

/* the upper half belongs to the kernel */
#define ADDRESS_END ((uint64_t)1 << 56)

int pages_ranges_add(pages_ranges_t *list, uint64_t start, uint64_t end)
{
    const uint64_t before = 0 == list->n ? 0 : list->r[list->n - 1].end;
    pages_range_t *more;

    if (start < before || end <= start || ADDRESS_END < end || 0 != (start | end) % PAGE_BYTES ||
        RANGES_MAX == list->n) {
        return -1;
    }
    more = realloc(list->r, (list->n + 1) * sizeof(*more));
    if (NULL == more) {
        return -1;
    }
    list->r = more;
    list->r[list->n++] = (pages_range_t){.start = start, .end = end, .first = list->pages};
    list->pages += (end - start) >> PAGE_SHIFT;
    return 0;
}

void pages_ranges_free(pages_ranges_t *list)
{
    free(list->r);
    *list = (pages_ranges_t){NULL, 0, 0};
}

const pages_range_t *pages_ranges_find(const pages_ranges_t *list, uint64_t at)
{
    size_t low = 0, high = list->n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (at < list->r[mid].start) {
            high = mid;
        } else if (at >= list->r[mid].end) {
            low = mid + 1;
        } else {
            return &list->r[mid];
        }
    }
    return NULL;
}

const pages_range_t *pages_ranges_of(const pages_ranges_t *list, uint64_t n)
{
    size_t low = 0, high = list->n;

    while (low + 1 < high) {
        const size_t mid = low + (high - low) / 2;

        if (n < list->r[mid].first) {
            high = mid;
        } else {
            low = mid;
        }
    }
    return &list->r[low];
}

json_t *pages_ranges_json(const pages_ranges_t *list)
{
    json_t *all = json_array();

    for (size_t i = 0; i < list->n; i++) {
        json_array_append_new(all, json_pack("[I,I]", (json_int_t)list->r[i].start, (json_int_t)list->r[i].end));
    }
    return all;
}

int pages_ranges_parse(const json_t *json, pages_ranges_t *list)
{
    json_t *one;
    size_t i;

    *list = (pages_ranges_t){NULL, 0, 0};
    if (!json_is_array(json)) {
        return -1;
    }
    json_array_foreach(json, i, one) {
        const json_t *start = json_array_get(one, 0), *end = json_array_get(one, 1);

        if (2 != json_array_size(one) || !json_is_integer(start) || !json_is_integer(end) ||
            0 > json_integer_value(start) || 0 > json_integer_value(end) ||
            0 != pages_ranges_add(list, (uint64_t)json_integer_value(start), (uint64_t)json_integer_value(end))) {
            pages_ranges_free(list);
            return -1;
        }
    }
    return 0;
}
