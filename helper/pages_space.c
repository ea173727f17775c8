/*
 * At the target: which pages an address space still lacks, and where in it they belong by now.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "pages_space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* more mappings than a process may have (vm.max_map_count is 65530) */
#define PIECES_MAX 65536
#define MAGIC      0x4c504d7370616365ull
#define WORD_BITS  64

/* Pages that lie in a row. */
typedef struct {
    uint64_t at, first, pages;
} piece_t;

/* The memory file. A change of the pieces is made in the other table, which then becomes the one that counts. */
typedef struct {
    uint64_t magic, pages, missing;
    uint32_t current, n[2];
    piece_t piece[2][PIECES_MAX]; /* by address */
    uint64_t bits[];              /* of pages that are missing */
} file_t;

struct pages_space {
    int fd;
    size_t bytes;
    file_t *f;
};

static size_t words_for(uint64_t pages)
{
    return (pages + WORD_BITS - 1) / WORD_BITS;
}

static size_t bytes_for(uint64_t pages)
{
    return sizeof(file_t) + words_for(pages) * sizeof(uint64_t);
}

/* The counter is only a sum of the bits: whoever takes over counts them anew. */
static uint64_t count_bits(const file_t *f)
{
    uint64_t n = 0;

    for (size_t i = 0; i < words_for(f->pages); i++) {
        n += (uint64_t)__builtin_popcountll(f->bits[i]);
    }
    return n;
}

/* Takes the descriptor. */
static pages_space_t *map(int fd, size_t bytes)
{
    pages_space_t *s = calloc(1, sizeof(*s));

    if (NULL == s) {
        (void)close(fd);
        errno = ENOMEM;
        return NULL;
    }
    *s = (pages_space_t){.fd = fd, .bytes = bytes};
    s->f = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (MAP_FAILED == (void *)s->f) {
        const int err = errno;

        s->f = NULL;
        pages_space_free(s);
        errno = err;
        return NULL;
    }
    return s;
}

static pages_space_t *create(uint64_t pages)
{
    const int fd = memfd_create("lpm-pages", MFD_CLOEXEC);

    if (0 > fd) {
        return NULL;
    }
    if (0 != ftruncate(fd, (off_t)bytes_for(pages))) {
        const int err = errno;

        (void)close(fd);
        errno = err;
        return NULL;
    }
    return map(fd, bytes_for(pages));
}

pages_space_t *pages_space_new(const pages_ranges_t *ranges)
{
    pages_space_t *s = create(ranges->pages);

    if (NULL == s) {
        return NULL;
    }
    s->f->pages = ranges->pages;
    for (size_t i = 0; i < ranges->n; i++) {
        const pages_range_t *r = &ranges->r[i];

        s->f->piece[0][i] = (piece_t){.at = r->start, .first = r->first, .pages = (r->end - r->start) >> PAGE_SHIFT};
    }
    s->f->n[0] = (uint32_t)ranges->n;
    s->f->magic = MAGIC;
    return s;
}

pages_space_t *pages_space_open(int fd)
{
    struct stat st;
    pages_space_t *s;
    int own = dup(fd);

    if (0 > own || 0 != fstat(own, &st) || (off_t)sizeof(file_t) > st.st_size) {
        if (0 <= own) {
            (void)close(own);
        }
        errno = EINVAL;
        return NULL;
    }
    s = map(own, (size_t)st.st_size);
    if (NULL == s) {
        return NULL;
    }
    if (MAGIC != s->f->magic || bytes_for(s->f->pages) != s->bytes || 1 < s->f->current) {
        pages_space_free(s);
        errno = EINVAL;
        return NULL;
    }
    s->f->missing = count_bits(s->f);
    return s;
}

pages_space_t *pages_space_copy(const pages_space_t *from)
{
    pages_space_t *s = create(from->f->pages);
    const uint32_t current = from->f->current;

    if (NULL == s) {
        return NULL;
    }
    /* what is not used is left as it is, or it would take memory */
    memcpy(s->f->piece[0], from->f->piece[current], from->f->n[current] * sizeof(piece_t));
    s->f->n[0] = from->f->n[current];
    memcpy(s->f->bits, from->f->bits, words_for(from->f->pages) * sizeof(uint64_t));
    s->f->pages = from->f->pages;
    s->f->missing = from->f->missing;
    s->f->magic = MAGIC;
    return s;
}

void pages_space_free(pages_space_t *s)
{
    if (NULL == s) {
        return;
    }
    if (NULL != s->f) {
        (void)munmap(s->f, s->bytes);
    }
    (void)close(s->fd);
    free(s);
}

int pages_space_fd(const pages_space_t *s)
{
    return s->fd;
}

uint64_t pages_space_pages(const pages_space_t *s)
{
    return s->f->pages;
}

/* ---- bits ---- */

/* Those of one word that belong to the pages from first to end. */
static uint64_t mask_of(uint64_t word, uint64_t first, uint64_t end)
{
    const uint64_t low = word * WORD_BITS, high = low + WORD_BITS;
    uint64_t mask = ~(uint64_t)0;

    if (first > low) {
        mask &= ~(uint64_t)0 << (first - low);
    }
    if (end < high) {
        mask &= ~(uint64_t)0 >> (high - end);
    }
    return mask;
}

uint64_t pages_space_missing(const pages_space_t *s)
{
    return __atomic_load_n(&s->f->missing, __ATOMIC_RELAXED);
}

void pages_space_lack(pages_space_t *s, uint64_t first, uint64_t count)
{
    for (uint64_t i = first / WORD_BITS; 0 < count && i <= (first + count - 1) / WORD_BITS; i++) {
        const uint64_t more = mask_of(i, first, first + count) & ~s->f->bits[i];

        s->f->bits[i] |= more;
        s->f->missing += (uint64_t)__builtin_popcountll(more);
    }
}

uint64_t pages_space_done(pages_space_t *s, uint64_t first, uint64_t count)
{
    uint64_t were = 0;

    for (uint64_t i = first / WORD_BITS; 0 < count && i <= (first + count - 1) / WORD_BITS; i++) {
        const uint64_t mask = mask_of(i, first, first + count);

        were += (uint64_t)__builtin_popcountll(mask & __atomic_fetch_and(&s->f->bits[i], ~mask, __ATOMIC_RELAXED));
    }
    (void)__atomic_fetch_sub(&s->f->missing, were, __ATOMIC_RELAXED);
    return were;
}

bool pages_space_lacks(const pages_space_t *s, uint64_t number)
{
    return 0 != (__atomic_load_n(&s->f->bits[number / WORD_BITS], __ATOMIC_RELAXED) >> number % WORD_BITS & 1);
}

/* The first missing page from a number on, before end. */
static uint64_t find_missing(const file_t *f, uint64_t from, uint64_t end)
{
    for (uint64_t i = from / WORD_BITS; from < end && i <= (end - 1) / WORD_BITS; i++) {
        const uint64_t bits = __atomic_load_n(&f->bits[i], __ATOMIC_RELAXED) & mask_of(i, from, end);

        if (0 != bits) {
            return i * WORD_BITS + (uint64_t)__builtin_ctzll(bits);
        }
    }
    return NO_PAGE;
}

uint64_t pages_space_next(const pages_space_t *s, uint64_t from, uint64_t max, uint64_t *first)
{
    uint64_t at = from < s->f->pages ? find_missing(s->f, from, s->f->pages) : NO_PAGE, n = 1;

    if (NO_PAGE == at) {
        at = find_missing(s->f, 0, from < s->f->pages ? from : s->f->pages);
    }
    if (NO_PAGE == at) {
        return 0;
    }
    *first = at;
    while (n < max && at + n < s->f->pages && pages_space_lacks(s, at + n)) {
        n++;
    }
    return n;
}

/* ---- places ---- */

static uint64_t end_of(const piece_t *p)
{
    return p->at + p->pages * PAGE_BYTES;
}

/* Index of the first piece that ends behind an address. */
static uint32_t piece_from(const file_t *f, uint64_t at)
{
    const piece_t *p = f->piece[f->current];
    uint32_t low = 0, high = f->n[f->current];

    while (low < high) {
        const uint32_t mid = low + (high - low) / 2;

        if (end_of(&p[mid]) <= at) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

uint64_t pages_space_number(const pages_space_t *s, uint64_t at)
{
    const uint32_t i = piece_from(s->f, at);
    const piece_t *p = &s->f->piece[s->f->current][i];

    return i < s->f->n[s->f->current] && p->at <= at ? p->first + ((at - p->at) >> PAGE_SHIFT) : NO_PAGE;
}

uint64_t pages_space_where(const pages_space_t *s, uint64_t number, uint64_t *run)
{
    const piece_t *p = s->f->piece[s->f->current];

    for (uint32_t i = 0; i < s->f->n[s->f->current]; i++) {
        if (p[i].first <= number && number < p[i].first + p[i].pages) {
            *run = p[i].first + p[i].pages - number;
            return p[i].at + (number - p[i].first) * PAGE_BYTES;
        }
    }
    *run = 0;
    return 0;
}

/* Nobody needs what is missing there. */
static void discard(pages_space_t *s, uint64_t start, uint64_t end)
{
    const piece_t *p = s->f->piece[s->f->current];

    for (uint32_t i = piece_from(s->f, start); i < s->f->n[s->f->current] && p[i].at < end; i++) {
        const uint64_t from = start > p[i].at ? start : p[i].at, to = end < end_of(&p[i]) ? end : end_of(&p[i]);

        (void)pages_space_done(s, p[i].first + ((from - p[i].at) >> PAGE_SHIFT), (to - from) >> PAGE_SHIFT);
    }
}

typedef struct {
    piece_t *p;
    uint32_t n;
} table_t;

static void put(table_t *t, uint64_t at, uint64_t first, uint64_t pages)
{
    piece_t *last = 0 < t->n && PIECES_MAX >= t->n ? &t->p[t->n - 1] : NULL;

    if (0 == pages) {
        return;
    }
    if (NULL != last && end_of(last) == at && last->first + last->pages == first) {
        last->pages += pages;
        return;
    }
    if (PIECES_MAX > t->n) {
        t->p[t->n] = (piece_t){.at = at, .first = first, .pages = pages};
    }
    t->n++;
}

/* What of a piece lies between two addresses, moved. */
static void put_part(table_t *t, const piece_t *p, uint64_t start, uint64_t end, uint64_t shift)
{
    const uint64_t from = start > p->at ? start : p->at, to = end < end_of(p) ? end : end_of(p);

    if (from < to) {
        put(t, from + shift, p->first + ((from - p->at) >> PAGE_SHIFT), (to - from) >> PAGE_SHIFT);
    }
}

static int by_address(const void *a, const void *b)
{
    const piece_t *p = a, *q = b;

    return p->at < q->at ? -1 : p->at > q->at;
}

/* What moves out of a piece. */
static void put_moved(table_t *t, const piece_t *p, const pages_change_t *changes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (PAGES_MOVED == changes[i].what) {
            put_part(t, p, changes[i].start, changes[i].end, changes[i].to - changes[i].start);
        }
    }
}

/* What is left of a piece where it is: the parts between all places that something has left. */
static void put_rest(table_t *t, const piece_t *p, const pages_change_t *changes, size_t n)
{
    uint64_t at = p->at;

    while (at < end_of(p)) {
        uint64_t left = at, next = end_of(p);

        for (size_t i = 0; i < n; i++) {
            if (PAGES_DISCARDED == changes[i].what || changes[i].end <= at) {
                continue;
            }
            if (changes[i].start <= at) {
                left = changes[i].end > left ? changes[i].end : left;
            } else {
                next = changes[i].start < next ? changes[i].start : next;
            }
        }
        if (left == at) {
            put_part(t, p, at, next, 0);
            left = next;
        }
        at = left;
    }
}

/* Does this page move? Then it is needed, though where it was is told to be unmapped. */
static bool moves(uint64_t at, const pages_change_t *changes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (PAGES_MOVED == changes[i].what && changes[i].start <= at && at < changes[i].end) {
            return true;
        }
    }
    return false;
}

static void discard_unless_moved(pages_space_t *s, const pages_change_t *c, const pages_change_t *changes, size_t n)
{
    uint64_t at = c->start;

    while (at < c->end) {
        uint64_t until = at;

        while (until < c->end && !moves(until, changes, n)) {
            until += PAGE_BYTES;
        }
        discard(s, at, until);
        while (until < c->end && moves(until, changes, n)) {
            until += PAGE_BYTES;
        }
        at = until;
    }
}

/* Pieces that have come together again. */
static void join(table_t *t)
{
    const table_t all = *t;

    t->n = 0;
    for (uint32_t i = 0; i < all.n; i++) {
        const piece_t p = all.p[i];

        put(t, p.at, p.first, p.pages);
    }
}

int pages_space_change(pages_space_t *s, const pages_change_t *changes, size_t n)
{
    const uint32_t now = s->f->current;
    const piece_t *p = s->f->piece[now];
    table_t t = {s->f->piece[1 - now], 0};
    bool same = true;

    for (size_t i = 0; i < n; i++) {
        same = same && PAGES_DISCARDED == changes[i].what;
        if (PAGES_MOVED != changes[i].what) {
            discard_unless_moved(s, &changes[i], changes, n);
        }
    }
    if (same) {
        return 0;
    }
    for (uint32_t i = 0; i < s->f->n[now]; i++) {
        put_rest(&t, &p[i], changes, n);
        put_moved(&t, &p[i], changes, n);
    }
    if (PIECES_MAX < t.n) {
        return -1;
    }
    qsort(t.p, t.n, sizeof(*t.p), by_address);
    join(&t);
    s->f->n[1 - now] = t.n;
    __atomic_store_n(&s->f->current, 1 - now, __ATOMIC_RELEASE);
    return 0;
}
