/*
 * Unit test of helper/image_*.c: directories travel, and a peer that breaks the rules gets nowhere.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "image_net.h"
#include "image_stream.h"

#define STALL_MS 5000

typedef struct {
    image_stream_t *st;
    int opened, done, failed;
    image_summary_t sum;
    char why[512];
} side_t;

typedef struct {
    struct event_base *base;
    char top[64];
    int from, to; /* directories */
    uint8_t key[IMAGE_KEY_BYTES];
} fixture_t;

/* ---- callbacks ---- */

static void on_opened(image_stream_t *st, void *arg)
{
    (void)st;
    ((side_t *)arg)->opened++;
}

static void on_done(image_stream_t *st, const image_summary_t *sum, void *arg)
{
    side_t *s = arg;

    (void)st;
    s->done++;
    s->sum = *sum;
}

static void on_failed(image_stream_t *st, const char *why, void *arg)
{
    side_t *s = arg;

    assert_ptr_equal(st, s->st);
    s->failed++;
    snprintf(s->why, sizeof(s->why), "%s", why);
    image_stream_free(st); /* an owner may do so in the callback */
    s->st = NULL;
}

static const image_stream_cbs_t cbs = {on_opened, on_done, on_failed};

/* ---- directories ---- */

static int setup(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));
    char path[128];

    assert_non_null(f);
    strcpy(f->top, "/tmp/test_image_stream.XXXXXX");
    assert_non_null(mkdtemp(f->top));
    snprintf(path, sizeof(path), "%s/from", f->top);
    assert_int_equal(0, mkdir(path, 0700));
    f->from = open(path, O_RDONLY | O_DIRECTORY);
    snprintf(path, sizeof(path), "%s/to", f->top);
    assert_int_equal(0, mkdir(path, 0700));
    f->to = open(path, O_RDONLY | O_DIRECTORY);
    memset(f->key, 7, sizeof(f->key));
    f->base = event_base_new();
    *state = f;
    return 0;
}

static void empty(int dir)
{
    DIR *d = fdopendir(dir);
    struct dirent *e;

    while (NULL != (e = readdir(d))) {
        if ('.' != e->d_name[0]) {
            assert_int_equal(0, unlinkat(dirfd(d), e->d_name, 0));
        }
    }
    closedir(d);
}

static int teardown(void **state)
{
    fixture_t *f = *state;
    char path[128];

    empty(f->from);
    empty(f->to);
    snprintf(path, sizeof(path), "%s/from", f->top);
    assert_int_equal(0, rmdir(path));
    snprintf(path, sizeof(path), "%s/to", f->top);
    assert_int_equal(0, rmdir(path));
    assert_int_equal(0, rmdir(f->top));
    event_base_free(f->base);
    free(f);
    return 0;
}

static uint8_t pattern(size_t i, unsigned int seed)
{
    return (uint8_t)((i * 2654435761u + seed) >> 11);
}

static void make_file(int dir, const char *name, size_t size, unsigned int seed)
{
    uint8_t *p = malloc(size + 1);
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600);

    for (size_t i = 0; i < size; i++) {
        p[i] = pattern(i, seed);
    }
    assert_true(0 <= fd);
    assert_int_equal((ssize_t)size, write(fd, p, size));
    close(fd);
    free(p);
}

static void check_file(int dir, const char *name, size_t size, unsigned int seed)
{
    uint8_t *p = malloc(size + 1);
    int fd = openat(dir, name, O_RDONLY);
    struct stat st;

    assert_true(0 <= fd);
    assert_int_equal(0, fstat(fd, &st));
    assert_int_equal(0600, st.st_mode & 07777);
    assert_int_equal((ssize_t)size, read(fd, p, size + 1));
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(pattern(i, seed), p[i]);
    }
    close(fd);
    free(p);
}

static bool exists(int dir, const char *name)
{
    return 0 == faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW);
}

/* ---- two real sides ---- */

static image_stream_t *side(fixture_t *f, side_t *s, int fd, image_role_t role, const uint8_t *key)
{
    image_stream_conf_t conf = {.dir_fd = IMAGE_SOURCE == role ? f->from : f->to, .stall_ms = STALL_MS};

    memcpy(conf.key, key, sizeof(conf.key));
    memset(s, 0, sizeof(*s));
    s->st = image_stream_new(f->base, fd, role, &conf, &cbs, s);
    assert_non_null(s->st);
    return s->st;
}

/* Both sides connected; the loop has run until both are open or one has failed. */
static void open_pair(fixture_t *f, side_t *src, side_t *tgt, const uint8_t *src_key)
{
    int sv[2];

    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
    side(f, src, sv[0], IMAGE_SOURCE, src_key);
    side(f, tgt, sv[1], IMAGE_TARGET, f->key);
    while (!(src->opened && tgt->opened) && !src->failed && !tgt->failed) {
        assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    }
}

static void run_transfer(fixture_t *f, side_t *src, side_t *tgt)
{
    assert_int_equal(0, image_stream_send(src->st, 4711));
    while (!((src->done || src->failed) && (tgt->done || tgt->failed))) {
        assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    }
}

static void free_pair(side_t *src, side_t *tgt)
{
    image_stream_free(src->st);
    image_stream_free(tgt->st);
}

static void files_arrive(void **state)
{
    static const struct {
        const char *name;
        size_t size;
    } files[] = {{"a.img", 0}, {"b.img", 1}, {"pages-1.img", 5 * 1024 * 1024 + 3}, {"c.img", 1024 * 1024}};
    fixture_t *f = *state;
    side_t src, tgt;
    uint64_t sum = 0;

    for (unsigned int i = 0; i < 4; i++) {
        make_file(f->from, files[i].name, files[i].size, i);
        sum += files[i].size;
    }
    make_file(f->from, "dump.log", 100, 9);
    assert_int_equal(0, symlinkat("/etc/passwd", f->from, "link.img"));
    open_pair(f, &src, &tgt, f->key);
    run_transfer(f, &src, &tgt);
    assert_string_equal("", src.why);
    assert_string_equal("", tgt.why);
    assert_int_equal(4, tgt.sum.files);
    assert_true(sum == tgt.sum.bytes && sum == src.sum.bytes);
    assert_int_equal(4711, tgt.sum.pid);
    for (unsigned int i = 0; i < 4; i++) {
        check_file(f->to, files[i].name, files[i].size, i);
    }
    assert_false(exists(f->to, "dump.log"));
    assert_false(exists(f->to, "link.img"));
    free_pair(&src, &tgt);
}

static void many_and_none(void **state)
{
    fixture_t *f = *state;
    side_t src, tgt;
    char name[32];

    open_pair(f, &src, &tgt, f->key);
    run_transfer(f, &src, &tgt);
    assert_int_equal(1, tgt.done);
    assert_int_equal(0, tgt.sum.files);
    free_pair(&src, &tgt);
    for (unsigned int i = 0; i < 1500; i++) {
        snprintf(name, sizeof(name), "f%u.img", i);
        make_file(f->from, name, i % 7, i);
    }
    open_pair(f, &src, &tgt, f->key);
    run_transfer(f, &src, &tgt);
    assert_int_equal(1500, tgt.sum.files);
    check_file(f->to, "f1499.img", 1499 % 7, 1499);
    free_pair(&src, &tgt);
}

static void too_many_are_not_sent(void **state)
{
    fixture_t *f = *state;
    side_t src, tgt;
    char name[32];

    for (unsigned int i = 0; i <= IMAGE_FILES_MAX; i++) {
        snprintf(name, sizeof(name), "f%u.img", i);
        make_file(f->from, name, 0, i);
    }
    open_pair(f, &src, &tgt, f->key);
    assert_int_equal(-1, image_stream_send(src.st, 1));
    assert_int_equal(EMFILE, errno);
    free_pair(&src, &tgt);
}

static void other_secret(void **state)
{
    fixture_t *f = *state;
    uint8_t wrong[IMAGE_KEY_BYTES];
    side_t src, tgt;

    memset(wrong, 8, sizeof(wrong));
    open_pair(f, &src, &tgt, wrong);
    while (!src.failed || !tgt.failed) {
        assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    }
    assert_int_equal(0, src.opened + tgt.opened);
    assert_non_null(strstr(tgt.why, "secret"));
}

#define FIRST_WORDS "what the owner of the connection says at once"

static void speak_at_once(image_stream_t *st, void *arg)
{
    uint8_t key[IMAGE_KEY_BYTES];
    int *fd = arg;

    *fd = image_stream_take(st, key);
    assert_true(0 <= *fd);
    assert_int_equal(sizeof(FIRST_WORDS), send(*fd, FIRST_WORDS, sizeof(FIRST_WORDS), 0));
}

/* A page channel is taken over as soon as it is open: what comes behind the handshake belongs to the new owner. */
static void taken_while_the_other_side_speaks(void **state)
{
    static const image_stream_cbs_t hasty = {.opened = speak_at_once, .failed = on_failed};
    fixture_t *f = *state;
    image_stream_conf_t conf = {.dir_fd = -1, .stall_ms = STALL_MS, .channel = IMAGE_CHANNEL_PAGES};
    side_t src = {0};
    uint8_t key[IMAGE_KEY_BYTES];
    char words[sizeof(FIRST_WORDS)] = "";
    int sv[2], fds[2] = {-1, -1};

    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
    memcpy(conf.key, f->key, sizeof(conf.key));
    assert_non_null(image_stream_new(f->base, sv[1], IMAGE_TARGET, &conf, &hasty, &fds[1]));
    conf.channel = IMAGE_CHANNEL_URGENT;
    src.st = image_stream_new(f->base, sv[0], IMAGE_SOURCE, &conf, &cbs, &src);
    assert_non_null(src.st);
    while (0 == src.opened + src.failed) {
        assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    }
    assert_int_equal(0, src.failed);
    fds[0] = image_stream_take(src.st, key);
    assert_true(0 <= fds[0]);
    assert_int_equal(sizeof(words), recv(fds[0], words, sizeof(words), MSG_WAITALL));
    assert_string_equal(FIRST_WORDS, words);
    close(fds[0]);
    close(fds[1]);
}

static void target_has_the_file_already(void **state)
{
    fixture_t *f = *state;
    side_t src, tgt;

    make_file(f->from, "a.img", 10, 0);
    assert_int_equal(0, symlinkat("elsewhere", f->to, "a.img"));
    open_pair(f, &src, &tgt, f->key);
    run_transfer(f, &src, &tgt);
    assert_int_equal(1, tgt.failed);
    assert_int_equal(1, src.failed);
    assert_false(exists(f->to, "elsewhere"));
}

static void source_goes_away(void **state)
{
    fixture_t *f = *state;
    side_t src, tgt;

    open_pair(f, &src, &tgt, f->key);
    image_stream_free(src.st);
    while (!tgt.failed) {
        assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    }
    assert_int_equal(0, tgt.done);
}

/* ---- a source that knows the secret and breaks the rules ---- */

typedef struct {
    int fd;
    gnutls_hmac_hd_t mac;
} rogue_t;

static void turn(fixture_t *f)
{
    assert_true(0 <= event_base_loop(f->base, EVLOOP_NONBLOCK));
}

static void rogue_open(fixture_t *f, rogue_t *r, side_t *tgt)
{
    uint8_t mine[IMAGE_HELLO_BYTES], theirs[IMAGE_HELLO_BYTES], proof[IMAGE_MAC_BYTES], session[IMAGE_KEY_BYTES];
    int sv[2];

    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
    r->fd = sv[0];
    side(f, tgt, sv[1], IMAGE_TARGET, f->key);
    assert_int_equal(0, image_auth_hello(IMAGE_SOURCE, IMAGE_CHANNEL_IMAGES, mine));
    turn(f);
    assert_int_equal(sizeof(theirs), recv(r->fd, theirs, sizeof(theirs), MSG_WAITALL));
    assert_int_equal(0, image_auth_proof(f->key, IMAGE_SOURCE, mine, theirs, proof));
    assert_int_equal(sizeof(mine), send(r->fd, mine, sizeof(mine), 0));
    assert_int_equal(sizeof(proof), send(r->fd, proof, sizeof(proof), 0));
    while (!tgt->opened) {
        assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    }
    turn(f);
    assert_int_equal(sizeof(proof), recv(r->fd, proof, sizeof(proof), MSG_WAITALL));
    assert_int_equal(0, image_auth_session_key(f->key, mine, theirs, session));
    assert_int_equal(0, gnutls_hmac_init(&r->mac, GNUTLS_MAC_SHA256, session, sizeof(session)));
}

static void rogue_close(rogue_t *r, side_t *tgt)
{
    gnutls_hmac_deinit(r->mac, NULL);
    close(r->fd);
    image_stream_free(tgt->st);
}

static void rogue_send(rogue_t *r, const void *p, size_t n)
{
    gnutls_hmac(r->mac, p, n);
    assert_int_equal((ssize_t)n, send(r->fd, p, n, MSG_NOSIGNAL));
}

static void rogue_head(rogue_t *r, uint8_t type, uint32_t count, uint64_t number, uint64_t size, const char *name,
                       uint8_t name_len)
{
    uint8_t head[24] = {type, name_len};

    count = htobe32(count);
    number = htobe64(number);
    size = htobe64(size);
    memcpy(head + 4, &count, 4);
    memcpy(head + 8, &number, 8);
    memcpy(head + 16, &size, 8);
    rogue_send(r, head, sizeof(head));
    if (0 < name_len) {
        rogue_send(r, name, name_len);
    }
}

static void rogue_mac(rogue_t *r, uint8_t flip)
{
    uint8_t mac[IMAGE_MAC_BYTES];

    gnutls_hmac_output(r->mac, mac);
    mac[31] ^= flip;
    assert_int_equal(sizeof(mac), send(r->fd, mac, sizeof(mac), MSG_NOSIGNAL));
}

static void expect_failure(fixture_t *f, side_t *tgt)
{
    while (!tgt->failed && !tgt->done) {
        assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    }
    assert_int_equal(1, tgt->failed);
}

static void bad_names(void **state)
{
    static const struct {
        const char *name;
        uint8_t len;
    } names[] = {{"../evil", 7}, {"/tmp/evil", 9}, {".", 1}, {"..", 2}, {"", 0}, {"a\0b", 3}, {"d/evil", 6}};
    fixture_t *f = *state;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        rogue_t r;
        side_t tgt;

        rogue_open(f, &r, &tgt);
        rogue_head(&r, 1, 1, 42, 4, "", 0);
        rogue_mac(&r, 0);
        rogue_head(&r, 2, 0, 0, 4, names[i].name, names[i].len);
        rogue_send(&r, "evil", 4);
        rogue_mac(&r, 0);
        expect_failure(f, &tgt);
        rogue_close(&r, &tgt);
    }
}

static void no_room(void **state)
{
    fixture_t *f = *state;
    struct statvfs vfs;
    uint64_t size;
    rogue_t r;
    side_t tgt;

    assert_int_equal(0, fstatvfs(f->to, &vfs));
    size = (uint64_t)vfs.f_bavail * vfs.f_frsize + ((uint64_t)1 << 34);
    if (IMAGE_SIZE_MAX < size) {
        skip(); /* there is room for the largest size */
    }
    rogue_open(f, &r, &tgt);
    rogue_head(&r, 1, 1, 42, size, "", 0);
    rogue_mac(&r, 0);
    expect_failure(f, &tgt);
    assert_non_null(strstr(tgt.why, "room"));
    rogue_close(&r, &tgt);
}

typedef struct {
    uint8_t type;
    uint32_t count;
    uint64_t number, size;
    uint8_t flip;
} bound_t;

static void bad_announcements(void **state)
{
    static const bound_t bad[] = {
        {1, IMAGE_FILES_MAX + 1, 42, 0, 0}, /* too many files */
        {1, 1, 42, IMAGE_SIZE_MAX + 1, 0},  /* too large */
        {1, 1, 0, 4, 0},                    /* no process */
        {1, 1, (uint64_t)1 << 32, 4, 0},    /* no process id */
        {1, 1, 42, 4, 1},                   /* HMAC does not match */
        {2, 0, 0, 4, 0},                    /* a file before the announcement */
        {3, 0, 0, 0, 0},                    /* the end before the announcement */
        {4, 0, 0, 0, 0},                    /* an acknowledgement from the source */
        {0, 0, 0, 0, 0},
        {5, 0, 0, 0, 0}, /* no such frames */
    };
    fixture_t *f = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        rogue_t r;
        side_t tgt;

        rogue_open(f, &r, &tgt);
        rogue_head(&r, bad[i].type, bad[i].count, bad[i].number, bad[i].size, "", 0);
        rogue_mac(&r, bad[i].flip);
        expect_failure(f, &tgt);
        rogue_close(&r, &tgt);
    }
}

static void bad_files(void **state)
{
    static const struct {
        uint64_t number, size;
        uint8_t flip;
        bound_t end;
    } bad[] = {
        {1, 4, 0, {3, 1, 0, 4, 0}},                              /* not the first number */
        {0, 5, 0, {3, 1, 0, 4, 0}},                              /* more than announced */
        {0, 4, 1, {3, 1, 0, 4, 0}},                              /* content's HMAC */
        {0, 3, 0, {3, 1, 0, 4, 0}},                              /* less than announced */
        {0, 4, 0, {3, 1, 0, 3, 0}},                              /* other sums at the end */
        {0, 4, 0, {3, 2, 0, 4, 0}},  {0, 4, 0, {3, 1, 0, 4, 1}}, /* the end's HMAC */
        {0, 4, 0, {1, 1, 42, 4, 0}},                             /* announced twice */
        {0, 4, 0, {2, 0, 1, 0, 0}},                              /* a file too many */
    };
    fixture_t *f = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        rogue_t r;
        side_t tgt;

        rogue_open(f, &r, &tgt);
        rogue_head(&r, 1, 1, 42, 4, "", 0);
        rogue_mac(&r, 0);
        rogue_head(&r, 2, 0, bad[i].number, bad[i].size, "x", 1);
        rogue_send(&r, "12345", (size_t)bad[i].size);
        rogue_mac(&r, bad[i].flip);
        rogue_head(&r, bad[i].end.type, bad[i].end.count, bad[i].end.number, bad[i].end.size, "", 0);
        rogue_mac(&r, bad[i].end.flip);
        expect_failure(f, &tgt);
        assert_int_equal(0, exists(f->to, "x") ? unlinkat(f->to, "x", 0) : 0);
        rogue_close(&r, &tgt);
    }
}

/* What the rogue does wrong above is right here, so those tests do not pass for another reason. */
static void a_rogue_that_keeps_the_rules(void **state)
{
    fixture_t *f = *state;
    rogue_t r;
    side_t tgt;
    uint8_t ack[24 + IMAGE_MAC_BYTES];

    rogue_open(f, &r, &tgt);
    rogue_head(&r, 1, 1, 42, 4, "", 0);
    rogue_mac(&r, 0);
    rogue_head(&r, 2, 0, 0, 4, "x", 1);
    rogue_send(&r, "1234", 4);
    rogue_mac(&r, 0);
    rogue_head(&r, 3, 1, 0, 4, "", 0);
    rogue_mac(&r, 0);
    while (!tgt.failed && !tgt.done) {
        assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    }
    assert_string_equal("", tgt.why);
    turn(f);
    assert_int_equal(sizeof(ack), recv(r.fd, ack, sizeof(ack), MSG_WAITALL));
    assert_int_equal(4, ack[0]);
    rogue_close(&r, &tgt);
}

static void reflected_hello_and_garbage(void **state)
{
    fixture_t *f = *state;
    uint8_t hello[IMAGE_HELLO_BYTES], junk[4096];

    for (int i = 0; i < 3; i++) {
        int sv[2];
        side_t tgt;

        assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
        side(f, &tgt, sv[1], IMAGE_TARGET, f->key);
        turn(f);
        assert_int_equal(sizeof(hello), recv(sv[0], hello, sizeof(hello), MSG_WAITALL));
        memset(junk, 0xa5, sizeof(junk));
        if (0 == i) { /* its own words back */
            memcpy(junk, hello, sizeof(hello));
        } else if (1 == i) { /* another version */
            assert_int_equal(0, image_auth_hello(IMAGE_SOURCE, IMAGE_CHANNEL_IMAGES, junk));
            junk[8]++;
        }
        assert_int_equal(sizeof(junk), send(sv[0], junk, sizeof(junk), MSG_NOSIGNAL));
        expect_failure(f, &tgt);
        assert_int_equal(0, tgt.opened);
        close(sv[0]);
    }
}

/* ---- over TCP ---- */

typedef struct {
    image_stream_t *st;
    char why[512];
    bool failed;
} net_t;

static void on_connected(image_stream_t *st, void *arg)
{
    ((net_t *)arg)->st = st;
}

static void on_not_connected(const char *why, void *arg)
{
    net_t *n = arg;

    n->failed = true;
    snprintf(n->why, sizeof(n->why), "%s", why);
}

static const image_net_cbs_t net_cbs = {on_connected, on_not_connected};

static void second_address_and_strangers(void **state)
{
    fixture_t *f = *state;
    image_stream_conf_t conf = {.dir_fd = f->to, .stall_ms = STALL_MS};
    net_t src = {0}, tgt = {0};
    json_t *here = json_pack("[s]", "127.0.0.1"), *addrs = json_pack("[s,s,s]", "nonsense", "127.0.0.2", "127.0.0.1");
    struct sockaddr_storage ss;
    socklen_t len;
    int port, strangers[40];

    memcpy(conf.key, f->key, sizeof(conf.key));
    image_listener_t *l = image_listener_new(f->base, here, STALL_MS, &conf, &net_cbs, &tgt, &port);
    assert_non_null(l);
    assert_int_equal(0, image_net_address("127.0.0.1", port, &ss, &len));
    for (size_t i = 0; i < 40; i++) {
        strangers[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(0, connect(strangers[i], (struct sockaddr *)&ss, len));
        turn(f);
    }
    image_connector_t *c = image_connector_new(f->base, addrs, port, STALL_MS, &conf, &net_cbs, &src);
    assert_non_null(c);
    while ((NULL == src.st || NULL == tgt.st) && !src.failed && !tgt.failed) {
        assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    }
    assert_string_equal("", src.why);
    assert_string_equal("", tgt.why);
    image_stream_free(src.st);
    image_stream_free(tgt.st);
    image_connector_free(c);
    image_listener_free(l);
    for (size_t i = 0; i < 40; i++) {
        close(strangers[i]);
    }
    json_decref(addrs);
    json_decref(here);
}

static void nobody_comes(void **state)
{
    fixture_t *f = *state;
    image_stream_conf_t conf = {.dir_fd = f->to, .stall_ms = STALL_MS};
    net_t src = {0}, tgt = {0};
    json_t *addrs = json_pack("[s]", "127.0.0.1");
    int port;
    image_listener_t *l = image_listener_new(f->base, NULL, 50, &conf, &net_cbs, &tgt, &port);

    assert_non_null(l);
    while (!tgt.failed) {
        assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    }
    image_listener_free(l);
    image_connector_t *c = image_connector_new(f->base, addrs, port, STALL_MS, &conf, &net_cbs, &src);
    assert_non_null(c);
    while (!src.failed) {
        assert_int_equal(0, event_base_loop(f->base, EVLOOP_ONCE));
    }
    assert_non_null(strstr(src.why, "127.0.0.1"));
    image_connector_free(c);
    json_decref(addrs);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(files_arrive),
        T(many_and_none),
        T(too_many_are_not_sent),
        T(other_secret),
        T(taken_while_the_other_side_speaks),
        T(target_has_the_file_already),
        T(source_goes_away),
        T(bad_names),
        T(no_room),
        T(bad_announcements),
        T(bad_files),
        T(a_rogue_that_keeps_the_rules),
        T(reflected_hello_and_garbage),
        T(second_address_and_strangers),
        T(nobody_comes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
