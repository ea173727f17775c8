/*
 * Frames of the page channel: there and back, limits, damage; and parsers that are fed with whatever may come.
 *
 * LPM_FUZZ_SECONDS: how long each of the two random tests runs (5), LPM_FUZZ_SEED: another seed.
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

#include "pages_link.h"
#include "pages_ranges.h"
#include "pages_wire.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SEED_OF_LINK 0x1122334455667788ull
#define PAGE         ((uint64_t)PAGE_BYTES)
#define LAST_PAGE    (UINT64_MAX - PAGE + 1)
#define FRAME_MAX    (WIRE_HEAD_BYTES + LINK_CONTENT_BYTES)

static const wire_head_t frames[] = {
    {.type = WIRE_GET, .count = 1, .at = 0x7f1234567000},
    {.type = WIRE_GET, .count = WIRE_GET_MAX, .at = 0},
    {.type = WIRE_LIST},
    {.type = WIRE_DATA, .count = 1, .at = PAGE},
    {.type = WIRE_DATA, .count = WIRE_PAGES_MAX, .at = 0x7f1234567000},
    {.type = WIRE_ZERO, .count = 1, .at = 0x7f1234567000},
    {.type = WIRE_ZERO, .count = WIRE_GET_MAX, .at = UINT64_MAX - WIRE_GET_MAX * PAGE - PAGE + 1},
    {.type = WIRE_MAP, .count = 0, .flags = WIRE_LAST},
    {.type = WIRE_MAP, .count = 3},
    {.type = WIRE_MAP, .count = WIRE_RUNS_MAX, .flags = WIRE_LAST},
};
#define N_FRAMES (sizeof(frames) / sizeof(frames[0]))

static int is_question(const wire_head_t *head)
{
    return WIRE_GET == head->type || WIRE_LIST == head->type;
}

/* ---- random numbers ---- */

static uint64_t draw(uint64_t *seed, uint64_t below)
{
    *seed ^= *seed << 13; /* xorshift */
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return (*seed >> 11) % below;
}

static void fill_random(uint64_t *seed, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)draw(seed, 256);
    }
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return NULL == text ? otherwise : strtoull(text, NULL, 0);
}

static uint64_t first_seed(const char *test)
{
    const uint64_t seed = number_from("LPM_FUZZ_SEED", 20260101);

    print_message("%s: LPM_FUZZ_SEED=%llu\n", test, (unsigned long long)seed);
    return 0 == seed ? 1 : seed;
}

static double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- single frames ---- */

static void there_and_back(void **state)
{
    static uint8_t content[LINK_CONTENT_BYTES];
    uint64_t seed = 1;

    (void)state;
    fill_random(&seed, content, sizeof(content));
    for (size_t i = 0; i < N_FRAMES; i++) {
        uint8_t p[WIRE_HEAD_BYTES];
        wire_head_t head;

        wire_build(p, &frames[i], content, 7);
        assert_int_equal(0, wire_parse(p, is_question(&frames[i]), &head));
        assert_true(frames[i].type == head.type && frames[i].flags == head.flags && frames[i].count == head.count &&
                    frames[i].at == head.at);
        assert_true(wire_check(p, &head, content, 7));
        assert_false(wire_check(p, &head, content, 8));
        assert_int_equal(-1, wire_parse(p, !is_question(&frames[i]), &head));
    }
}

static void length_of_content(void **state)
{
    static const size_t expected[N_FRAMES] = {0, 0, 0, 4096, 64 * 4096, 0, 0, 0, 48, 65536};

    (void)state;
    for (size_t i = 0; i < N_FRAMES; i++) {
        assert_int_equal(expected[i], wire_content_bytes(&frames[i]));
        assert_in_range(wire_content_bytes(&frames[i]), 0, LINK_CONTENT_BYTES);
    }
}

/* The order of the bytes is part of the format. */
static void bytes_of_a_head(void **state)
{
    static const uint8_t expected[16] = {1, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0x7f, 0x12, 0x34, 0x56, 0x70, 0};
    const wire_head_t get = {.type = WIRE_GET, .count = 258, .at = 0x7f1234567000};
    const wire_run_t run = {0x7f1234567000, 0x010203, WIRE_HUGE};
    static const uint8_t run_bytes[16] = {0, 0, 0x7f, 0x12, 0x34, 0x56, 0x70, 0, 0, 1, 2, 3, 0, 0, 0, 1};
    uint8_t p[WIRE_HEAD_BYTES];

    (void)state;
    wire_build(p, &get, NULL, 0);
    assert_memory_equal(expected, p, sizeof(expected));
    wire_build_run(p, &run);
    assert_memory_equal(run_bytes, p, sizeof(run_bytes));
}

static bool is_taken(const uint8_t *p, int to_source, const uint8_t *content)
{
    wire_head_t head;

    return 0 == wire_parse(p, to_source, &head) && wire_check(p, &head, content, SEED_OF_LINK);
}

static void every_flipped_bit_is_noticed(void **state)
{
    static uint8_t content[LINK_CONTENT_BYTES];
    uint8_t p[WIRE_HEAD_BYTES];
    uint64_t seed = 2;

    (void)state;
    fill_random(&seed, content, sizeof(content));
    for (size_t i = 0; i < N_FRAMES; i++) {
        const int to_source = is_question(&frames[i]);
        /* all bits of a short content, some of each page of a long one */
        const size_t bits = 8 * wire_content_bytes(&frames[i]), step = 40000 < bits ? 1009 : 1;

        wire_build(p, &frames[i], content, SEED_OF_LINK);
        assert_true(is_taken(p, to_source, content));
        for (size_t bit = 0; bit < 8 * sizeof(p); bit++) {
            p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_false(is_taken(p, to_source, content));
            assert_false(is_taken(p, !to_source, content));
            p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t bit = 0; bit < bits; bit += step) {
            content[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_false(is_taken(p, to_source, content));
            content[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_true(is_taken(p, to_source, content));
    }
}

static void limits(void **state)
{
    static const wire_head_t bad[] = {
        {.type = WIRE_GET, .count = 0, .at = PAGE},
        {.type = WIRE_GET, .count = WIRE_GET_MAX + 1, .at = PAGE},
        {.type = WIRE_GET, .count = UINT32_MAX, .at = PAGE},
        {.type = WIRE_GET, .count = 1, .at = PAGE, .flags = 1},
        {.type = WIRE_GET, .count = 1, .at = PAGE + 1},
        {.type = WIRE_GET, .count = 1, .at = PAGE / 2},
        {.type = WIRE_GET, .count = 1, .at = LAST_PAGE},
        {.type = WIRE_GET, .count = 2, .at = LAST_PAGE},
        {.type = WIRE_GET, .count = WIRE_GET_MAX, .at = LAST_PAGE - (WIRE_GET_MAX - 1) * PAGE},
        {.type = WIRE_LIST, .count = 1},
        {.type = WIRE_LIST, .at = PAGE},
        {.type = WIRE_LIST, .flags = 1},
        {.type = WIRE_DATA, .count = 0, .at = PAGE},
        {.type = WIRE_DATA, .count = WIRE_PAGES_MAX + 1, .at = PAGE},
        {.type = WIRE_DATA, .count = UINT32_MAX, .at = 0},
        {.type = WIRE_DATA, .count = 1, .at = PAGE, .flags = 1},
        {.type = WIRE_DATA, .count = 1, .at = UINT64_MAX},
        {.type = WIRE_DATA, .count = 2, .at = LAST_PAGE},
        {.type = WIRE_ZERO, .count = 0, .at = PAGE},
        {.type = WIRE_ZERO, .count = WIRE_GET_MAX + 1, .at = PAGE},
        {.type = WIRE_ZERO, .count = 1, .at = PAGE, .flags = 0x80},
        {.type = WIRE_MAP, .count = WIRE_RUNS_MAX + 1},
        {.type = WIRE_MAP, .count = UINT32_MAX},
        {.type = WIRE_MAP, .count = 1, .flags = 2},
        {.type = WIRE_MAP, .count = 1, .at = PAGE},
        {.type = 0, .count = 1},
        {.type = 6, .count = 1},
        {.type = 255, .count = 1},
    };
    uint8_t p[WIRE_HEAD_BYTES];
    wire_head_t head;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const wire_head_t *b = &bad[i];

        /* as a type without content: there is not as much as they say */
        wire_build(p, &(wire_head_t){.type = WIRE_LIST, .flags = b->flags, .count = b->count, .at = b->at}, NULL, 0);
        p[0] = (uint8_t)b->type;
        if (0 == wire_parse(p, 0, &head) || 0 == wire_parse(p, 1, &head)) {
            fail_msg("type %d count %u is taken (number %zu)", (int)b->type, b->count, i);
        }
    }
}

static void runs(void **state)
{
    static const wire_run_t good[] = {{PAGE, 1, 0}, {0, UINT32_MAX, WIRE_HUGE}, {LAST_PAGE - PAGE, 1, 0}};
    static const wire_run_t bad[] = {{PAGE, 0, 0},
                                     {PAGE, 1, 2},
                                     {PAGE, 1, UINT32_MAX},
                                     {PAGE + 1, 1, 0},
                                     {LAST_PAGE, 1, 0},
                                     {LAST_PAGE, UINT32_MAX, 0},
                                     {LAST_PAGE - PAGE, 2, 0}};
    uint8_t p[WIRE_RUN_BYTES];
    wire_run_t run;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        wire_build_run(p, &good[i]);
        assert_int_equal(0, wire_parse_run(p, &run));
        assert_true(good[i].at == run.at && good[i].pages == run.pages && good[i].flags == run.flags);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        wire_build_run(p, &bad[i]);
        assert_int_equal(-1, wire_parse_run(p, &run));
    }
}

/* ---- whatever may come: the parsers ---- */

static void check_parsed(const uint8_t *p, int to_source)
{
    wire_head_t head;
    uint8_t again[WIRE_HEAD_BYTES];

    if (0 != wire_parse(p, to_source, &head)) {
        return;
    }
    assert_int_equal(!!to_source, is_question(&head));
    assert_in_range(wire_content_bytes(&head), 0, LINK_CONTENT_BYTES);
    assert_true(0 == head.at % PAGE && head.at + head.count * PAGE >= head.at);
    if (0 == wire_content_bytes(&head)) { /* all that it says has been read */
        wire_build(again, &head, NULL, 0);
        assert_memory_equal(p, again, WIRE_HEAD_BYTES - sizeof(uint64_t));
    }
}

static void check_parsed_run(const uint8_t *p)
{
    wire_run_t run;
    uint8_t again[WIRE_RUN_BYTES];

    if (0 == wire_parse_run(p, &run)) {
        assert_true(0 < run.pages && 0 == run.at % PAGE && run.at + run.pages * PAGE > run.at);
        wire_build_run(again, &run);
        assert_memory_equal(p, again, sizeof(again));
    }
}

/* A few bytes are changed, or bits, or a number takes one of the values at which something ends. */
static void mutate(uint64_t *seed, uint8_t *p, size_t n)
{
    static const uint64_t edges[] = {0,    1,    63,   64,         65,         1023,      1024,       1025,
                                     4095, 4096, 4097, UINT32_MAX, UINT64_MAX, LAST_PAGE, 1ull << 63, 1ull << 32};

    for (uint64_t i = 0; i <= draw(seed, 3); i++) {
        const uint64_t at = draw(seed, n), kind = draw(seed, 3), edge = edges[draw(seed, 16)];

        if (0 == kind) {
            p[at] = (uint8_t)draw(seed, 256);
        } else if (1 == kind) {
            p[at] ^= (uint8_t)(1u << draw(seed, 8));
        } else {
            for (size_t k = at & ~(size_t)3; k < (at & ~(size_t)3) + 4 && k < n; k++) {
                p[k] = (uint8_t)(edge >> 8 * (3 - k % 4));
            }
        }
    }
}

static void fuzzed_parsers(void **state)
{
    static uint8_t content[LINK_CONTENT_BYTES];
    const double until = now_s() + (double)number_from("LPM_FUZZ_SECONDS", 5);
    uint64_t seed = first_seed("parsers"), n = 0;
    uint8_t p[WIRE_HEAD_BYTES];

    (void)state;
    do {
        if (0 == draw(&seed, 4)) {
            fill_random(&seed, p, sizeof(p));
            p[0] = (uint8_t)draw(&seed, 8);
        } else {
            wire_head_t head = frames[draw(&seed, N_FRAMES)];

            head.count = WIRE_PAGES_MAX < head.count ? WIRE_PAGES_MAX : head.count; /* a sum of less */
            wire_build(p, &head, content, SEED_OF_LINK);
            mutate(&seed, p, sizeof(p));
        }
        check_parsed(p, 0);
        check_parsed(p, 1);
        check_parsed_run(p);
        check_parsed_run(p + WIRE_HEAD_BYTES - WIRE_RUN_BYTES);
    } while (0 != ++n % 1024 || now_s() < until);
    print_message("parsers: %llu heads\n", (unsigned long long)n);
}

/* ---- whatever may come: a connection ---- */

typedef struct {
    uint8_t *text;
    size_t room, n;
    int fd;
} writer_t;

static void *write_and_close(void *arg)
{
    writer_t *w = arg;

    for (size_t done = 0; done < w->n;) {
        const ssize_t put = send(w->fd, w->text + done, w->n - done, MSG_NOSIGNAL);

        if (0 >= put) {
            break; /* nobody reads any more */
        }
        done += (size_t)put;
    }
    close(w->fd);
    return NULL;
}

static void append_frame(writer_t *w, const wire_head_t *head, const uint8_t *content)
{
    wire_build(w->text + w->n, head, content, SEED_OF_LINK);
    memcpy(w->text + w->n + WIRE_HEAD_BYTES, content, wire_content_bytes(head));
    w->n += WIRE_HEAD_BYTES + wire_content_bytes(head);
}

/* The content with room behind and before it that nobody may touch. */
static uint8_t *guarded(void)
{
    uint8_t *room = mmap(NULL, LINK_CONTENT_BYTES + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(MAP_FAILED, room);
    assert_int_equal(0, mprotect(room + PAGE, LINK_CONTENT_BYTES, PROT_READ | PROT_WRITE));
    return room + PAGE;
}

static void free_guarded(uint8_t *content)
{
    assert_int_equal(0, munmap(content - PAGE, LINK_CONTENT_BYTES + 2 * PAGE));
}

/* Several frames that go one way. */
static void draw_stream(uint64_t *seed, writer_t *w, const uint8_t *content, int *to_source)
{
    w->n = 0;
    *to_source = (int)draw(seed, 2);
    for (uint64_t i = 0; i <= draw(seed, 4); i++) {
        const wire_head_t *head = &frames[draw(seed, N_FRAMES)];

        if (is_question(head) == *to_source) {
            append_frame(w, head, content);
        }
    }
}

/* @return the number of frames that are received before the stream ends */
static size_t receive_stream(writer_t *w, uint8_t *content, int to_source)
{
    pages_link_t link = {.seed = SEED_OF_LINK, .content = content};
    wire_head_t head;
    pthread_t thread;
    size_t n = 0;
    int ends[2];

    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    link.fd = ends[0];
    w->fd = ends[1];
    assert_int_equal(0, pthread_create(&thread, NULL, write_and_close, w));
    while (0 == pages_link_receive(&link, to_source, &head)) {
        assert_int_equal(to_source, is_question(&head));
        assert_in_range(wire_content_bytes(&head), 0, LINK_CONTENT_BYTES);
        assert_true(wire_check(link.head, &head, content, SEED_OF_LINK));
        n++;
    }
    assert_int_equal(0, close(ends[0]));
    assert_int_equal(0, pthread_join(thread, NULL));
    assert_ptr_equal(content, link.content);
    return n;
}

static void damage(uint64_t *seed, writer_t *w)
{
    const uint64_t kind = draw(seed, 4);

    if (0 == w->n || 0 == kind) { /* garbage, which may look like the beginning of a frame */
        w->n = 1 + draw(seed, 4096);
        fill_random(seed, w->text, w->n);
        w->text[0] = (uint8_t)draw(seed, 7);
    } else if (1 == kind) {
        w->n = draw(seed, w->n);
    } else if (2 == kind) {
        mutate(seed, w->text, w->n < WIRE_HEAD_BYTES ? w->n : WIRE_HEAD_BYTES);
    } else {
        mutate(seed, w->text, w->n);
    }
}

static void fuzzed_connections(void **state)
{
    const double until = now_s() + (double)number_from("LPM_FUZZ_SECONDS", 5);
    writer_t w = {.text = malloc(8 * FRAME_MAX), .room = 8 * FRAME_MAX};
    uint64_t seed = first_seed("connections"), n = 0, received = 0;
    static uint8_t pages[LINK_CONTENT_BYTES];
    uint8_t *content = guarded();
    int to_source;

    (void)state;
    assert_non_null(w.text);
    fill_random(&seed, pages, sizeof(pages));
    for (; now_s() < until; n++) {
        draw_stream(&seed, &w, pages, &to_source);
        damage(&seed, &w);
        received += receive_stream(&w, content, to_source);
    }
    print_message("connections: %llu, with %llu frames\n", (unsigned long long)n, (unsigned long long)received);
    assert_true(0 < received);
    free_guarded(content);
    free(w.text);
}

/* So that the test above does not pass for another reason. */
static void undamaged_connections(void **state)
{
    writer_t w = {.text = malloc(N_FRAMES * FRAME_MAX), .room = N_FRAMES * FRAME_MAX};
    static uint8_t pages[LINK_CONTENT_BYTES];
    uint8_t *content = guarded();
    uint64_t seed = 3;

    (void)state;
    assert_non_null(w.text);
    fill_random(&seed, pages, sizeof(pages));
    for (int to_source = 0; to_source < 2; to_source++) {
        size_t n = 0;

        w.n = 0;
        for (size_t i = 0; i < N_FRAMES; i++) {
            if (to_source == is_question(&frames[i])) {
                append_frame(&w, &frames[i], pages);
                n++;
            }
        }
        assert_int_equal(n, receive_stream(&w, content, to_source));
        assert_int_equal(0, receive_stream(&w, content, !to_source));
    }
    free_guarded(content);
    free(w.text);
}

/* What one end sends the other one receives, over sockets with little room. */
static void sent_and_received(void **state)
{
    pages_link_t from = {.seed = SEED_OF_LINK, .content = guarded()}, to = {.seed = SEED_OF_LINK, .content = guarded()};
    int ends[2];

    (void)state;
    for (size_t i = 0; i < N_FRAMES; i++) {
        wire_head_t head = frames[i];
        uint64_t seed = i + 1;

        assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
        from.fd = ends[0];
        to.fd = ends[1];
        assert_int_equal(0, setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &(int){1 << 20}, sizeof(int)));
        fill_random(&seed, from.content, wire_content_bytes(&head));
        assert_int_equal(0, pages_link_send(&from, &head));
        assert_int_equal(0, pages_link_receive(&to, is_question(&frames[i]), &head));
        assert_memory_equal(from.content, to.content, wire_content_bytes(&head));
        pages_link_shut(&to);
        assert_int_equal(-1, pages_link_send(&from, &frames[i]));
        assert_int_equal(-1, pages_link_receive(&to, is_question(&frames[i]), &head));
        assert_int_equal(0, close(ends[0]) + close(ends[1]));
    }
    free_guarded(from.content);
    free_guarded(to.content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(length_of_content),
        cmocka_unit_test(bytes_of_a_head),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(limits),
        cmocka_unit_test(runs),
        cmocka_unit_test(fuzzed_parsers),
        cmocka_unit_test(undamaged_connections),
        cmocka_unit_test(sent_and_received),
        cmocka_unit_test(fuzzed_connections),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
