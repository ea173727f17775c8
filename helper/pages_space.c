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
/* mappings that are moved at the same time, each by a thread of its own */
#define MOVES_MAX 4096
#define MAGIC     0x4c504d7370616365ull
#define WORD_BITS 64

/* Pages that lie in a row. */
typedef struct {
    uint64_t at, first, pages;
} piece_t;

/* Of a mapping; one that is put off, or one whose unmapping is still to be told (then only where it was counts). */
typedef struct {
    uint64_t from, to, bytes;
    bool echoed; /* that has been told */
} move_t;

/* The memory file. A change of the pieces is made in the other table, which then becomes the one that counts. */
typedef struct {
    uint64_t magic, pages, missing;
    uint32_t current, n[2];
    uint32_t n_put_off, n_echoes, n_fresh;
    move_t put_off[MOVES_MAX], echo[MOVES_MAX], fresh[MOVES_MAX];
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
    memcpy(s->f->put_off, from->f->put_off, from->f->n_put_off * sizeof(move_t));
    s->f->n_put_off = from->f->n_put_off;
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

void pages_space_discarded(pages_space_t *s, uint64_t start, uint64_t end)
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

/* The new table counts from now on. */
static int change(pages_space_t *s, table_t *t)
{
    const uint32_t other = 1 - s->f->current;

    if (PIECES_MAX < t->n) {
        return -1;
    }
    qsort(t->p, t->n, sizeof(*t->p), by_address);
    s->f->n[other] = t->n;
    __atomic_store_n(&s->f->current, other, __ATOMIC_RELEASE);
    return 0;
}

static bool is_free(const pages_space_t *s, uint64_t start, uint64_t bytes)
{
    const uint32_t i = piece_from(s->f, start);

    return i == s->f->n[s->f->current] || s->f->piece[s->f->current][i].at >= start + bytes;
}

/* @param moves  the part of a piece that is cut out goes to @p to; else it goes away */
static int cut_out(pages_space_t *s, uint64_t start, uint64_t end, bool moves, uint64_t to)
{
    const uint32_t now = s->f->current;
    const piece_t *p = s->f->piece[now];
    table_t t = {s->f->piece[1 - now], 0};

    for (uint32_t i = 0; i < s->f->n[now]; i++) {
        put_part(&t, &p[i], 0, start, 0);
        put_part(&t, &p[i], end, UINT64_MAX, 0);
    }
    for (uint32_t i = 0; moves && i < s->f->n[now]; i++) {
        put_part(&t, &p[i], start, end, to - start);
    }
    return change(s, &t);
}

static bool remember(move_t *list, uint32_t *n, uint64_t from, uint64_t to, uint64_t bytes)
{
    if (MOVES_MAX == *n) {
        return false;
    }
    list[*n] = (move_t){from, to, bytes, false};
    ++*n;
    return true;
}

static void forget(move_t *list, uint32_t *n, uint32_t i)
{
    --*n;
    memmove(&list[i], &list[i + 1], (*n - i) * sizeof(*list));
}

static int move_now(pages_space_t *s, const move_t *m)
{
    if (0 != cut_out(s, m->from, m->from + m->bytes, true, m->to)) {
        return -1;
    }
    if (!remember(s->f->fresh, &s->f->n_fresh, m->from, m->to, m->bytes)) {
        return -1;
    }
    return m->echoed || remember(s->f->echo, &s->f->n_echoes, m->from, m->to, m->bytes) ? 0 : -1;
}

/* Those whose place has become free. */
static int do_what_was_put_off(pages_space_t *s)
{
    for (uint32_t i = 0; i < s->f->n_put_off;) {
        const move_t m = s->f->put_off[i];

        if (!is_free(s, m.to, m.bytes)) {
            i++;
            continue;
        }
        forget(s->f->put_off, &s->f->n_put_off, i);
        if (0 != move_now(s, &m)) {
            return -1;
        }
        i = 0; /* its own place is free now */
    }
    return 0;
}

/* Is it only said of what has moved away, or is to when its place is free? */
static bool is_echo(pages_space_t *s, uint64_t start, uint64_t bytes)
{
    for (uint32_t i = 0; i < s->f->n_echoes; i++) {
        if (s->f->echo[i].from == start && s->f->echo[i].bytes == bytes) {
            forget(s->f->echo, &s->f->n_echoes, i);
            return true;
        }
    }
    for (uint32_t i = 0; i < s->f->n_put_off; i++) {
        move_t *m = &s->f->put_off[i];

        if (m->from == start && m->bytes == bytes && !m->echoed) {
            m->echoed = true;
            return true;
        }
    }
    return false;
}

/* The first fresh place that ends behind @p at, or NULL; they are few. */
static const move_t *fresh_from(const pages_space_t *s, uint64_t at)
{
    const move_t *first = NULL;

    for (uint32_t i = 0; i < s->f->n_fresh; i++) {
        const move_t *m = &s->f->fresh[i];

        if (at < m->to + m->bytes && (NULL == first || m->to < first->to)) {
            first = m;
        }
    }
    return first;
}

bool pages_space_is_fresh(const pages_space_t *s, uint64_t start, uint64_t end)
{
    const move_t *m = fresh_from(s, start);

    return NULL != m && m->to < end;
}

void pages_space_settled(pages_space_t *s)
{
    s->f->n_fresh = 0;
}

int pages_space_unmapped(pages_space_t *s, uint64_t start, uint64_t end, bool stays)
{
    if (is_echo(s, start, end - start)) {
        return 0;
    }
    while (start < end) {
        const move_t *m = stays ? fresh_from(s, start) : NULL;
        const uint64_t until = NULL == m || m->to > end ? end : m->to;

        if (start < until) {
            pages_space_discarded(s, start, until);
            if (0 != cut_out(s, start, until, false, 0)) {
                return -1;
            }
        }
        start = NULL == m ? end : m->to + m->bytes;
    }
    return do_what_was_put_off(s);
}

int pages_space_moved(pages_space_t *s, uint64_t from, uint64_t to, uint64_t bytes, bool stays)
{
    const move_t m = {from, to, bytes, false};

    if (stays && pages_space_is_fresh(s, from, from + bytes)) { /* none of our pages was in what has left */
        return remember(s->f->echo, &s->f->n_echoes, from, to, bytes) ? 0 : -1;
    }
    if (!is_free(s, to, bytes)) {
        return remember(s->f->put_off, &s->f->n_put_off, from, to, bytes) ? 0 : -1;
    }
    return 0 == move_now(s, &m) ? do_what_was_put_off(s) : -1;
}
