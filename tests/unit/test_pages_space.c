/*
 * Which pages are missing and where they belong: compared with a simple model through many random steps.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>

#include "pages_space.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Addresses of the model are few, so that what moves meets what is there: slots of a page each. */
#define SLOTS  700
#define BASE   0x7f0000000000ull
#define PAGES  420 /* several words of bits, the last one not full */
#define ROUNDS 12
#define STEPS  25000

static uint64_t at_slot(uint64_t slot)
{
    return BASE + slot * PAGE_BYTES;
}

/* ---- the model ---- */

typedef struct {
    bool missing[PAGES];
    uint64_t at[PAGES]; /* 0: nowhere */
    uint64_t number_of[SLOTS];
    bool mapped[SLOTS]; /* also where none of our pages is: the mapping has grown */
} model_t;

static void model_init(model_t *m, const pages_ranges_t *ranges)
{
    uint64_t number = 0;

    memset(m, 0, sizeof(*m));
    for (size_t i = 0; i < SLOTS; i++) {
        m->number_of[i] = NO_PAGE;
    }
    for (size_t i = 0; i < ranges->n; i++) {
        for (uint64_t at = ranges->r[i].start; at < ranges->r[i].end; at += PAGE_BYTES) {
            m->number_of[(at - BASE) / PAGE_BYTES] = number;
            m->mapped[(at - BASE) / PAGE_BYTES] = true;
            m->at[number++] = at;
        }
    }
    assert_int_equal(PAGES, number);
}

static uint64_t model_set(model_t *m, uint64_t first, uint64_t count, bool missing)
{
    uint64_t changed = 0;

    for (uint64_t i = first; i < first + count; i++) {
        changed += missing != m->missing[i];
        m->missing[i] = missing;
    }
    return changed;
}

static uint64_t model_missing(const model_t *m)
{
    uint64_t n = 0;

    for (size_t i = 0; i < PAGES; i++) {
        n += m->missing[i];
    }
    return n;
}

static void model_discarded(model_t *m, uint64_t slot, uint64_t count)
{
    for (uint64_t i = slot; i < slot + count; i++) {
        if (NO_PAGE != m->number_of[i]) {
            m->missing[m->number_of[i]] = false;
        }
    }
}

static void model_unmapped(model_t *m, uint64_t slot, uint64_t count)
{
    model_discarded(m, slot, count);
    for (uint64_t i = slot; i < slot + count; i++) {
        m->mapped[i] = false;
        if (NO_PAGE != m->number_of[i]) {
            m->at[m->number_of[i]] = 0;
            m->number_of[i] = NO_PAGE;
        }
    }
}

/* mremap(): what was at the new place is unmapped, and nothing is left at the old one. */
static void model_moved(model_t *m, uint64_t from, uint64_t to, uint64_t count)
{
    model_discarded(m, to, count);
    for (uint64_t i = 0; i < count; i++) {
        if (NO_PAGE != m->number_of[to + i]) {
            m->at[m->number_of[to + i]] = 0;
        }
        m->mapped[to + i] = m->mapped[from + i];
        m->mapped[from + i] = false;
        m->number_of[to + i] = m->number_of[from + i];
        m->number_of[from + i] = NO_PAGE;
        if (NO_PAGE != m->number_of[to + i]) {
            m->at[m->number_of[to + i]] = at_slot(to + i);
        }
    }
}

static uint64_t model_next(const model_t *m, uint64_t from, uint64_t max, uint64_t *first)
{
    uint64_t n = 0;

    for (uint64_t i = 0; i < PAGES; i++) {
        *first = (i + (from < PAGES ? from : 0)) % PAGES;
        if (m->missing[*first]) {
            while (n < max && *first + n < PAGES && m->missing[*first + n]) {
                n++;
            }
            return n;
        }
    }
    return 0;
}

static uint64_t model_run(const model_t *m, uint64_t number)
{
    uint64_t run = 1;

    while (number + run < PAGES && m->at[number + run] == m->at[number] + run * PAGE_BYTES) {
        run++;
    }
    return run;
}

/* ---- the comparison ---- */

static void compare_place(const model_t *m, const pages_space_t *s, uint64_t number)
{
    uint64_t run = 77, at = pages_space_where(s, number, &run), longest = model_run(m, number);

    assert_true(m->at[number] == at);
    if (0 == at) {
        assert_int_equal(0, run);
        return;
    }
    /* a run may end early, where a piece does, but not at the border of one that only has not been joined */
    assert_true(0 < run && run <= longest);
    assert_int_equal(number, pages_space_number(s, at));
    assert_int_equal(number, pages_space_number(s, at + PAGE_BYTES - 1));
}

static void compare_next(const model_t *m, const pages_space_t *s, uint64_t from, uint64_t max)
{
    uint64_t first = 0, expected = 0;
    const uint64_t n = model_next(m, from, max, &expected);

    assert_int_equal(n, pages_space_next(s, from, max, &first));
    if (0 < n) {
        assert_int_equal(expected, first);
    }
}

static void compare_all(const model_t *m, const pages_space_t *s)
{
    assert_int_equal(PAGES, pages_space_pages(s));
    assert_int_equal(model_missing(m), pages_space_missing(s));
    for (uint64_t i = 0; i < PAGES; i++) {
        assert_int_equal(m->missing[i], pages_space_lacks(s, i));
        compare_place(m, s, i);
    }
    for (uint64_t i = 0; i < SLOTS; i++) {
        assert_true(m->number_of[i] == pages_space_number(s, at_slot(i) + i));
    }
    assert_true(NO_PAGE == pages_space_number(s, BASE - 1));
    assert_true(NO_PAGE == pages_space_number(s, at_slot(SLOTS)));
}

/* ---- steps ---- */

typedef struct {
    uint64_t seed;
    model_t m;
    pages_space_t *s;
} fixture_t;

static uint64_t draw(fixture_t *f, uint64_t below)
{
    f->seed ^= f->seed << 13; /* xorshift */
    f->seed ^= f->seed >> 7;
    f->seed ^= f->seed << 17;
    return (f->seed >> 11) % below;
}

/* Mostly short, sometimes long. */
static uint64_t draw_count(fixture_t *f, uint64_t most)
{
    return 1 + draw(f, 0 == draw(f, 8) ? most : (most < 20 ? most : 20));
}

static void step_lack(fixture_t *f)
{
    const uint64_t first = draw(f, PAGES), count = draw_count(f, PAGES - first);

    pages_space_lack(f->s, first, count);
    (void)model_set(&f->m, first, count, true);
}

static void step_done(fixture_t *f)
{
    const uint64_t first = draw(f, PAGES), count = draw_count(f, PAGES - first);

    assert_int_equal(model_set(&f->m, first, count, false), pages_space_done(f->s, first, count));
}

static pages_change_t change_of(int what, uint64_t from, uint64_t to, uint64_t count)
{
    return (pages_change_t){.what = what,
                            .start = at_slot(from),
                            .end = at_slot(from + count),
                            .to = PAGES_MOVED == what ? at_slot(to) : 0};
}

static void step_discarded(fixture_t *f)
{
    const uint64_t slot = draw(f, SLOTS), count = draw_count(f, SLOTS - slot);
    const pages_change_t c = change_of(PAGES_DISCARDED, slot, 0, count);

    assert_int_equal(0, pages_space_change(f->s, &c, 1));
    model_discarded(&f->m, slot, count);
}

static void step_unmapped(fixture_t *f)
{
    const uint64_t slot = draw(f, SLOTS), count = draw_count(f, 8 < SLOTS - slot ? 8 : SLOTS - slot);
    const pages_change_t c = change_of(PAGES_UNMAPPED, slot, 0, count);

    assert_int_equal(0, pages_space_change(f->s, &c, 1));
    model_unmapped(&f->m, slot, count);
}

/* As the kernel tells it: what is in the way is unmapped, then the move, then that the old place is unmapped. */
static void step_moved(fixture_t *f)
{
    const uint64_t from = draw(f, SLOTS), to = draw(f, SLOTS), behind = SLOTS - (from < to ? to : from);
    const uint64_t apart = from < to ? to - from : from - to;

    if (0 < apart) {
        const uint64_t count = draw_count(f, apart < behind ? apart : behind);
        const pages_change_t c[3] = {change_of(PAGES_UNMAPPED, to, 0, count), change_of(PAGES_MOVED, from, to, count),
                                     change_of(PAGES_UNMAPPED, from, 0, count)};

        if (0 == draw(f, 2)) {
            assert_int_equal(0, pages_space_change(f->s, c, 3));
        } else {
            for (int i = 0; i < 3; i++) {
                assert_int_equal(0, pages_space_change(f->s, &c[i], 1));
            }
        }
        model_moved(&f->m, from, to, count);
    }
}

/* The process that had it has been killed, another one goes on. */
static void step_taken_over(fixture_t *f)
{
    pages_space_t *next = pages_space_open(pages_space_fd(f->s));

    assert_non_null(next);
    compare_all(&f->m, next);
    pages_space_free(f->s);
    f->s = next;
}

/* What is done to one of a fork's two sides is not done to the other. */
static void step_copied(fixture_t *f)
{
    const pages_change_t all = change_of(PAGES_UNMAPPED, 0, 0, SLOTS);
    pages_space_t *copy = pages_space_copy(f->s), *stays = 0 == draw(f, 2) ? f->s : copy;

    assert_non_null(copy);
    compare_all(&f->m, copy);
    pages_space_lack(stays == copy ? f->s : copy, 0, PAGES);
    assert_int_equal(0, pages_space_change(stays == copy ? f->s : copy, &all, 1));
    compare_all(&f->m, stays);
    pages_space_free(stays == copy ? f->s : copy);
    f->s = stays;
}

static void one_step(fixture_t *f)
{
    const uint64_t kind = draw(f, 1000);

    if (kind < 350) {
        step_lack(f);
    } else if (kind < 600) {
        step_done(f);
    } else if (kind < 700) {
        step_discarded(f);
    } else if (kind < 702) {
        step_unmapped(f);
    } else if (kind < 990) {
        step_moved(f);
    } else if (kind < 996) {
        step_taken_over(f);
    } else {
        step_copied(f);
    }
    assert_int_equal(model_missing(&f->m), pages_space_missing(f->s));
    compare_place(&f->m, f->s, draw(f, PAGES));
    compare_next(&f->m, f->s, draw(f, PAGES + 10), 1 + draw(f, PAGES));
}

/* Ranges with gaps, and some that touch. */
static void draw_ranges(fixture_t *f, pages_ranges_t *ranges)
{
    uint64_t slot = draw(f, 20), left = PAGES;

    while (0 < left) {
        const uint64_t n = 1 + draw(f, left < 60 ? left : 60);

        assert_int_equal(0, pages_ranges_add(ranges, at_slot(slot), at_slot(slot + n)));
        left -= n;
        slot += n + draw(f, 3) * draw(f, 4);
        slot = SLOTS - left > slot ? slot : SLOTS - left;
    }
}

static void random_steps(void **state)
{
    static fixture_t f;

    (void)state;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        pages_ranges_t ranges = {NULL, 0, 0};

        f = (fixture_t){.seed = 88172645463325252ull + round};
        draw_ranges(&f, &ranges);
        f.s = pages_space_new(&ranges);
        assert_non_null(f.s);
        model_init(&f.m, &ranges);
        pages_ranges_free(&ranges);
        compare_all(&f.m, f.s);
        for (int i = 0; i < STEPS; i++) {
            one_step(&f);
            if (0 == i % 128) {
                compare_all(&f.m, f.s);
            }
        }
        pages_space_free(f.s);
    }
}

/* Every step can be the last one of the process that makes it. */
static void taken_over_after_every_step(void **state)
{
    static fixture_t f;
    pages_ranges_t ranges = {NULL, 0, 0};

    (void)state;
    f = (fixture_t){.seed = 4711};
    draw_ranges(&f, &ranges);
    f.s = pages_space_new(&ranges);
    assert_non_null(f.s);
    model_init(&f.m, &ranges);
    pages_ranges_free(&ranges);
    for (int i = 0; i < 2000; i++) {
        one_step(&f);
        step_taken_over(&f);
    }
    pages_space_free(f.s);
}

/* ---- single cases ---- */

static pages_space_t *space_of(uint64_t start, uint64_t pages)
{
    pages_ranges_t ranges = {NULL, 0, 0};
    pages_space_t *s;

    assert_int_equal(0, pages_ranges_add(&ranges, start, start + pages * PAGE_BYTES));
    s = pages_space_new(&ranges);
    pages_ranges_free(&ranges);
    assert_non_null(s);
    return s;
}

static void borders_of_words(void **state)
{
    pages_space_t *s = space_of(BASE, 192);
    uint64_t first;

    (void)state;
    assert_int_equal(0, pages_space_next(s, 0, 1000, &first));
    pages_space_lack(s, 63, 66); /* the end of one word, another one, and the beginning of the third */
    assert_int_equal(66, pages_space_missing(s));
    assert_false(pages_space_lacks(s, 62) || pages_space_lacks(s, 129));
    assert_int_equal(66, pages_space_next(s, 0, 1000, &first));
    assert_int_equal(63, first);
    assert_int_equal(64, pages_space_done(s, 64, 64));
    assert_int_equal(0, pages_space_done(s, 64, 64));
    assert_int_equal(0, pages_space_done(s, 63, 0));
    assert_int_equal(1, pages_space_next(s, 64, 1000, &first));
    assert_int_equal(128, first);
    assert_int_equal(1, pages_space_next(s, 129, 1000, &first)); /* from the beginning again */
    assert_int_equal(63, first);
    pages_space_lack(s, 191, 1);
    pages_space_lack(s, 0, 1);
    assert_int_equal(1, pages_space_next(s, 191, 1000, &first)); /* a row ends at the last page */
    assert_int_equal(191, first);
    pages_space_free(s);
    pages_space_free(NULL);
}

static void assert_not_opened(int fd)
{
    errno = 0;
    assert_null(pages_space_open(fd));
    assert_int_not_equal(0, errno);
}

static void other_files_are_refused(void **state)
{
    pages_space_t *s = space_of(BASE, 10);
    const int fd = memfd_create("test", MFD_CLOEXEC), same = dup(pages_space_fd(s));
    uint64_t one = 1;

    (void)state;
    assert_not_opened(-1);
    assert_not_opened(fd);
    assert_int_equal(0, ftruncate(fd, 1 << 22));
    assert_not_opened(fd);
    assert_int_equal(0, close(fd));
    assert_int_equal(0, ftruncate(same, lseek(same, 0, SEEK_END) + 8)); /* not as long as its pages need */
    assert_not_opened(same);
    assert_int_equal(0, ftruncate(same, lseek(same, 0, SEEK_END) - 8));
    assert_int_equal(8, pwrite(same, &one, sizeof(one), 0)); /* it was not made to its end */
    assert_not_opened(same);
    assert_int_equal(0, close(same));
    pages_space_free(s);
}

/* As many ranges as there may be, of which single pages are moved away. */
static void thousands_of_pieces(void **state)
{
    pages_ranges_t ranges = {NULL, 0, 0};
    pages_space_t *s;
    uint64_t run;

    (void)state;
    for (uint64_t i = 0; i < RANGES_MAX; i++) { /* of 32 pages each, with gaps */
        assert_int_equal(0, pages_ranges_add(&ranges, at_slot(64 * i), at_slot(64 * i + 32)));
    }
    s = pages_space_new(&ranges);
    assert_non_null(s);
    pages_ranges_free(&ranges);
    pages_space_lack(s, 0, 32 * RANGES_MAX);
    for (uint64_t i = 0; i < 500; i++) {
        const pages_change_t c = change_of(PAGES_MOVED, 64 * 8 * i + 5, 64 * RANGES_MAX + 2 * i, 1);

        assert_int_equal(0, pages_space_change(s, &c, 1));
    }
    assert_int_equal(32 * RANGES_MAX, pages_space_missing(s));
    for (uint64_t i = 0; i < 500; i++) {
        assert_true(at_slot(64 * RANGES_MAX + 2 * i) == pages_space_where(s, 32 * 8 * i + 5, &run));
        assert_int_equal(1, run);
        assert_true(at_slot(64 * 8 * i + 6) == pages_space_where(s, 32 * 8 * i + 6, &run));
        assert_int_equal(26, run);
        assert_true(NO_PAGE == pages_space_number(s, at_slot(64 * 8 * i + 5)));
    }
    pages_space_free(s);
}

/* ---- threads that change mappings at the same time ---- */

#define CROWD      6
#define CHANGES    (3 * CROWD)
#define PIECE_MOST 8

/* Where something has come to in one batch: it may not be touched once more. */
typedef struct {
    pages_change_t c[CHANGES];
    size_t n;
    bool taken[SLOTS];
} batch_t;

static unsigned count_of(const bool *flags, uint64_t slot, uint64_t count)
{
    unsigned n = 0;

    for (uint64_t i = slot; i < slot + count; i++) {
        n += flags[i];
    }
    return n;
}

static void act_move(fixture_t *f, batch_t *b, uint64_t from, uint64_t to, uint64_t count)
{
    if ((to < from + count && from < to + count) || 0 < count_of(b->taken, to, count)) {
        return;
    }
    if (0 < count_of(f->m.mapped, to, count)) {
        b->c[b->n++] = change_of(PAGES_UNMAPPED, to, 0, count);
    }
    model_moved(&f->m, from, to, count);
    b->c[b->n++] = change_of(PAGES_MOVED, from, to, count);
    b->c[b->n++] = change_of(PAGES_UNMAPPED, from, 0, count);
    memset(&b->taken[to], true, count);
}

/*
 * One call of one thread: the kernel does it now, and tells of it later. It may be of memory that none of our pages is
 * in.
 */
static void act(fixture_t *f, batch_t *b)
{
    const uint64_t from = draw(f, SLOTS - PIECE_MOST), count = 1 + draw(f, PIECE_MOST - 1), kind = draw(f, 100);
    const uint64_t to = draw(f, SLOTS - PIECE_MOST);

    if (count != count_of(f->m.mapped, from, count) || 0 < count_of(b->taken, from, count)) {
        return;
    }
    if (kind < 4) {
        model_unmapped(&f->m, from, count);
        b->c[b->n++] = change_of(PAGES_UNMAPPED, from, 0, count);
    } else if (kind < 10) {
        model_discarded(&f->m, from, count);
        b->c[b->n++] = change_of(PAGES_DISCARDED, from, 0, count);
        memset(&b->taken[from], true, count);
    } else if (kind < 20) {
        f->m.mapped[from + count] = true; /* it grows where it is, if there is room: nothing is told */
    } else {
        act_move(f, b, from, to, count);
    }
}

static void shuffle(fixture_t *f, batch_t *b)
{
    for (size_t i = b->n; 1 < i; i--) {
        const size_t k = draw(f, i);
        const pages_change_t c = b->c[k];

        b->c[k] = b->c[i - 1];
        b->c[i - 1] = c;
    }
}

/* Several threads each do something; what they tell comes in any order. */
static void news_in_any_order(void **state)
{
    static fixture_t f;
    static batch_t b;

    (void)state;
    for (uint64_t round = 0; round < 40; round++) {
        pages_ranges_t ranges = {NULL, 0, 0};

        f.seed = 4711 + round;
        draw_ranges(&f, &ranges);
        model_init(&f.m, &ranges);
        f.s = pages_space_new(&ranges);
        assert_non_null(f.s);
        pages_space_lack(f.s, 0, PAGES);
        (void)model_set(&f.m, 0, PAGES, true);
        for (int step = 0; step < 500; step++) {
            memset(&b, 0, sizeof(b));
            for (int i = 0; i < CROWD; i++) {
                act(&f, &b);
            }
            shuffle(&f, &b);
            assert_int_equal(0, pages_space_change(f.s, b.c, b.n));
            compare_all(&f.m, f.s);
        }
        pages_space_free(f.s);
        pages_ranges_free(&ranges);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_steps),      cmocka_unit_test(taken_over_after_every_step),
        cmocka_unit_test(borders_of_words),  cmocka_unit_test(thousands_of_pieces),
        cmocka_unit_test(news_in_any_order), cmocka_unit_test(other_files_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
