/*
 * Mappings as /proc/PID/smaps tells of them, and which of them may follow later.
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

#include "vma.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB   ((uint64_t)1024)
#define LEAST (64 * KIB)
#define AREA  (1u << 20)

/* The lines that come with a mapping. */
#define DETAILS(rss, swap, flags)                                                                                      \
    "Size:               1024 kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\nRss:    " rss              \
    " kB\nPss:                 512 kB\nPss_Dirty:           512 kB\nShared_Clean:          0 kB\n"                     \
    "Shared_Dirty:          0 kB\nPrivate_Clean:         0 kB\nPrivate_Dirty:       512 kB\nReferenced:          512 " \
    "kB\nAnonymous:           512 kB\nKSM:                   0 kB\nLazyFree:              0 kB\nAnonHugePages:       " \
    " "                                                                                                                \
    " 0 kB\nShmemPmdMapped:        0 kB\nFilePmdMapped:         0 kB\nShared_Hugetlb:        0 kB\n"                   \
    "Private_Hugetlb:       0 kB\nSwap:   " swap " kB\nSwapPss:          9999999 kB\nLocked:                0 kB\n"    \
    "THPeligible:           0\nProtectionKey:         0\nVmFlags: " flags "\n"
#define COMMON "rd wr mr mw me ac"

static void parse(const char *text, size_t len, vma_list_t *list)
{
    FILE *f = 0 == len ? fopen("/dev/null", "re") : fmemopen((void *)(uintptr_t)text, len, "r");

    assert_non_null(f);
    assert_int_equal(0, vma_parse(f, list));
    fclose(f);
}

/* ---- one mapping at a time ---- */

typedef struct {
    const char *text, *name, *why; /* NULL: it may follow later */
    uint64_t filled;
} sample_t;

static const sample_t samples[] = {
    {"55d0c0000000-55d0c0100000 rw-p 00000000 00:00 0                          [heap]\n" DETAILS("512", "0",
                                                                                                 COMMON " "),
     "[heap]", NULL, 512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("512", "0", COMMON " sd "), "", NULL, 512 * KIB},
    {"7f1200000000-7f1200100000 ---p 00000000 00:00 0 \n" DETAILS("64", "0", "mr mw me ac sd "), "", NULL, 64 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("63", "0", COMMON " "), "", "small", 63 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("4", "500", COMMON " "), "", NULL, 504 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("0", "0", COMMON " nh "), "", "small", 0},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0                          [anon:my arena]\n" DETAILS("512", "0",
                                                                                                          COMMON " "),
     "[anon:my arena]", NULL, 512 * KIB},
    {"7f1200000000-7f1200100000 rw-s 00000000 00:01 1042                       /dev/zero (deleted)\n" DETAILS(
         "512", "0", COMMON " sh ms "),
     "/dev/zero (deleted)", "shared", 512 * KIB},
    {"7f1200000000-7f1200100000 rw-s 00000000 00:01 7                          [anon_shmem:x]\n" DETAILS(
         "512", "0", COMMON " sh ms "),
     "[anon_shmem:x]", "shared", 512 * KIB},
    {"7ffc10000000-7ffc10100000 rw-p 00000000 00:00 0                          [stack]\n" DETAILS("512", "0",
                                                                                                  COMMON " gd "),
     "[stack]", "a stack", 512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("512", "0", COMMON " gd "), "", "a stack", 512 * KIB},
    {"7f1200000000-7f1200100000 r-xp 00000000 00:00 0                          [vdso]\n" DETAILS("512", "0",
                                                                                                 "rd ex mr mw me de "),
     "[vdso]", "the kernel's", 512 * KIB},
    {"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n" DETAILS("0", "0", "ex "),
     "[vsyscall]", "the kernel's", 0},
    {"7f1200000000-7f1200100000 rw-p 00002000 fd:01 4711                       /usr/lib/libc.so.6\n" DETAILS(
         "512", "0", COMMON " "),
     "/usr/lib/libc.so.6", "of a file", 512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 103:02 18446744073709551615      /with blanks/and\\012newlines\n" DETAILS(
         "512", "0", COMMON " "),
     "/with blanks/and\\012newlines", "of a file", 512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:2a 0                          /an/overlay without numbers\n" DETAILS(
         "512", "0", COMMON " "),
     "/an/overlay without numbers", "of a file", 512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:01 9                          [heap]\n" DETAILS("512", "0",
                                                                                                 COMMON " "),
     "[heap]", "of a file", 512 * KIB},
    {"7f1200000000-7f1200200000 rw-p 00000000 00:0f 88                         /anon_hugepage (deleted)\n" DETAILS(
         "0", "0", COMMON " de ht "),
     "/anon_hugepage (deleted)", "of a file", 0},
    {"7f1200000000-7f1200200000 rw-p 00000000 00:00 0 \n" DETAILS("512", "0", COMMON " ht "), "",
     "huge pages of hugetlbfs", 512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("512", "0", "rd wr mr mw me lo ac "), "", "locked",
     512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("512", "0", COMMON " dc "), "",
     "not inherited (MADV_DONTFORK)", 512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("512", "0", COMMON " wf"), "",
     "not inherited (MADV_WIPEONFORK)", 512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("512", "0", "ss " COMMON), "", "a shadow stack",
     512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("512", "0", "io pf de"), "", "memory of a device",
     512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("512", "0", COMMON " um "), "",
     "its page faults are handled by the program", 512 * KIB},
    {"7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n" DETAILS("512", "0", COMMON " gu "), "",
     "it has guard pages of MADV_GUARD_INSTALL", 512 * KIB},
};

static void check_why(const char *expected, const char *why, const char *text)
{
    if ((NULL == expected) != (NULL == why) || (NULL != why && 0 != strcmp(expected, why))) {
        fail_msg("%s, not %s: %s", NULL == why ? "later" : why, NULL == expected ? "later" : expected, text);
    }
}

static void every_kind(void **state)
{
    vma_list_t list;

    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        const sample_t *s = &samples[i];

        parse(s->text, strlen(s->text), &list);
        assert_int_equal(1, list.n);
        assert_string_equal(s->name, list.v[0].name);
        assert_int_equal(s->filled, list.v[0].filled);
        check_why(s->why, vma_why_not_later(&list.v[0], LEAST), s->text);
        vma_free(&list);
    }
}

/* ---- all of them in one text ---- */

static char *all_samples(void)
{
    size_t room = 1;
    char *text;

    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        room += strlen(samples[i].text);
    }
    text = calloc(1, room);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        strcat(text, samples[i].text);
    }
    return text;
}

static void details_belong_to_their_mapping(void **state)
{
    char *text = all_samples();
    vma_list_t list;

    (void)state;
    parse(text, strlen(text), &list);
    assert_int_equal(sizeof(samples) / sizeof(samples[0]), list.n);
    for (size_t i = 0; i < list.n; i++) {
        assert_string_equal(samples[i].name, list.v[i].name);
        assert_int_equal(samples[i].filled, list.v[i].filled);
        check_why(samples[i].why, vma_why_not_later(&list.v[i], LEAST), samples[i].text);
    }
    assert_true(0x55d0c0000000 == list.v[0].start && 0x55d0c0100000 == list.v[0].end);
    assert_string_equal("rw-p", list.v[0].perms);
    vma_free(&list);
    assert_true(NULL == list.v && 0 == list.n);
    vma_free(&list);
    free(text);
}

/* Cut anywhere: no more mappings than there were, and none may follow later that may not. */
static void cut_anywhere(void **state)
{
    char *text = all_samples();
    vma_list_t list;

    (void)state;
    for (size_t len = 0; len <= strlen(text); len += 0 == len % 1000 ? 7 : 1) {
        parse(text, len, &list);
        assert_in_range(list.n, 0, sizeof(samples) / sizeof(samples[0]));
        for (size_t i = 0; i < list.n; i++) {
            const char *why = vma_why_not_later(&list.v[i], LEAST);

            if (NULL == why && NULL != samples[i].why) {
                fail_msg("number %zu follows later when cut at %zu", i, len);
            }
        }
        vma_free(&list);
    }
    free(text);
}

static void lines_are_missing(void **state)
{
    static const char head[] = "7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n";
    static const char no_flags[] = "7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \nRss: 512 kB\nSwap: 0 kB\n";
    static const char no_rss[] = "7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \nSwap: 80 kB\nVmFlags: rd wr \n";
    static const char no_end[] = "7f1200000000-7f1200100000 rw-p 00000000 00:00 0";
    vma_list_t list;

    (void)state;
    parse(head, strlen(head), &list);
    assert_int_equal(1, list.n);
    assert_non_null(vma_why_not_later(&list.v[0], 0)); /* nothing is known of it */
    vma_free(&list);
    parse(no_flags, strlen(no_flags), &list);
    assert_int_equal(512 * KIB, list.v[0].filled);
    assert_non_null(vma_why_not_later(&list.v[0], LEAST)); /* it may be locked */
    vma_free(&list);
    parse(no_rss, strlen(no_rss), &list);
    assert_int_equal(80 * KIB, list.v[0].filled);
    assert_null(vma_why_not_later(&list.v[0], LEAST));
    vma_free(&list);
    parse(no_end, strlen(no_end), &list);
    assert_int_equal(1, list.n);
    assert_string_equal("", list.v[0].name);
    vma_free(&list);
}

static void garbage(void **state)
{
    static const char *const texts[] = {"\n\n\n",
                                        "Rss: 512 kB\nVmFlags: rd\n",
                                        "hello\n",
                                        "7f12-7f13\n",
                                        "-\n",
                                        "7f1200000000-7f1200100000 rw-p\n",
                                        "7f1200000000-7f1200100000 rw-p 00000000 0000 0\n",
                                        "7f1200000000 7f1200100000 rw-p 00000000 00:00 0\n",
                                        "\x01\xff\xfe\n",
                                        "Z\n"};
    static const char bad_details[] = "7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \nRss: many kB\nRss:\nSwap\n"
                                      "VmFlags\nVmFlags:\n";
    vma_list_t list;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        parse(texts[i], strlen(texts[i]), &list);
        assert_int_equal(0, list.n);
        vma_free(&list);
    }
    parse(bad_details, strlen(bad_details), &list);
    assert_int_equal(1, list.n);
    assert_int_equal(0, list.v[0].filled);
    vma_free(&list);
}

/* Longer than there is room for: the beginning of a name, and no writing behind it. */
static void long_lines(void **state)
{
    vma_list_t list;
    char *text = NULL, name[4096], flags[4096];
    int len;

    (void)state;
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    for (size_t i = 0; i < sizeof(flags); i++) {
        flags[i] = " xy"[i % 3];
    }
    flags[sizeof(flags) - 1] = '\0';
    len = asprintf(&text, "7f1200000000-7f1200100000 rw-pqrs 0 00:00 0 %s\n", name);
    parse(text, (size_t)len, &list);
    assert_int_equal(0, list.n); /* permissions have four letters */
    vma_free(&list);
    free(text);
    len = asprintf(&text, "7f1200000000-7f1200100000 rw-p 0 00:00 0 %s\nRss: 512 kB\nVmFlags: lo%s\n", name, flags);
    parse(text, (size_t)len, &list);
    assert_int_equal(1, list.n);
    assert_int_equal(sizeof(list.v[0].name) - 1, strlen(list.v[0].name));
    assert_int_equal(sizeof(list.v[0].flags) - 1, strlen(list.v[0].flags));
    assert_string_equal("locked", vma_why_not_later(&list.v[0], LEAST));
    vma_free(&list);
    free(text);
}

static void found_by_address(void **state)
{
    static const char text[] = "1000-3000 rw-p 0 00:00 0 \n3000-4000 rw-p 0 00:00 0 \n8000-9000 rw-p 0 00:00 0 \n";
    vma_list_t list;

    (void)state;
    parse(text, strlen(text), &list);
    assert_int_equal(3, list.n);
    assert_null(vma_find(&list, 0xfff));
    assert_ptr_equal(&list.v[0], vma_find(&list, 0x1000));
    assert_ptr_equal(&list.v[0], vma_find(&list, 0x2fff));
    assert_ptr_equal(&list.v[1], vma_find(&list, 0x3000));
    assert_null(vma_find(&list, 0x4000));
    assert_ptr_equal(&list.v[2], vma_find(&list, 0x8fff));
    assert_null(vma_find(&list, UINT64_MAX));
    vma_free(&list);
    assert_null(vma_find(&list, 0x1000));
}

/* ---- a real process: this one ---- */

/* Between two pages that nobody may use, so that it is a mapping of its own. */
static char *area_of(int flags, int fd, size_t filled)
{
    char *room = mmap(NULL, AREA + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *area;

    assert_ptr_not_equal(MAP_FAILED, room);
    area = mmap(room + 4096, AREA, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
    assert_ptr_not_equal(MAP_FAILED, area);
    (void)madvise(area, AREA, MADV_NOHUGEPAGE);
    memset(area, 1, filled);
    return area;
}

static void check_area(char *area, const char *expected, uint64_t filled)
{
    vma_list_t list;
    const vma_t *v;

    assert_int_equal(0, vma_read(getpid(), &list));
    v = vma_find(&list, (uintptr_t)area);
    assert_non_null(v);
    assert_true((uintptr_t)area == v->start && (uintptr_t)area + AREA == v->end);
    assert_int_equal(filled, v->filled);
    check_why(expected, vma_why_not_later(v, LEAST), v->name);
    vma_free(&list);
    assert_int_equal(0, munmap(area - 4096, AREA + 8192));
}

static void own_anonymous_areas(void **state)
{
    char *area;

    (void)state;
    check_area(area_of(MAP_PRIVATE | MAP_ANONYMOUS, -1, AREA), NULL, AREA);
    check_area(area_of(MAP_PRIVATE | MAP_ANONYMOUS, -1, LEAST), NULL, LEAST);
    check_area(area_of(MAP_PRIVATE | MAP_ANONYMOUS, -1, LEAST / 2), "small", LEAST / 2);
    check_area(area_of(MAP_SHARED | MAP_ANONYMOUS, -1, AREA), "shared", AREA);
    area = area_of(MAP_PRIVATE | MAP_ANONYMOUS, -1, AREA);
    assert_int_equal(0, madvise(area, AREA, MADV_DONTFORK));
    check_area(area, "not inherited (MADV_DONTFORK)", AREA);
    area = area_of(MAP_PRIVATE | MAP_ANONYMOUS, -1, AREA);
    assert_int_equal(0, madvise(area, AREA, MADV_WIPEONFORK));
    check_area(area, "not inherited (MADV_WIPEONFORK)", AREA);
    area = area_of(MAP_PRIVATE | MAP_ANONYMOUS, -1, AREA);
    if (0 == mlock(area, AREA)) {
        check_area(area, "locked", AREA);
    }
}

static void own_file(void **state)
{
    char path[] = "/tmp/test_vma with\nnewline.XXXXXX";
    const int fd = mkstemp(path);
    vma_list_t list;
    char *area;

    (void)state;
    assert_true(0 <= fd);
    assert_int_equal(0, ftruncate(fd, AREA));
    area = area_of(MAP_PRIVATE, fd, AREA);
    assert_int_equal(0, vma_read(getpid(), &list));
    assert_non_null(strstr(vma_find(&list, (uintptr_t)area)->name, "test_vma with\\012newline."));
    vma_free(&list);
    check_area(area, "of a file", AREA);
    assert_int_equal(0, close(fd));
    assert_int_equal(0, unlink(path));
}

static void own_heap_and_stack(void **state)
{
    vma_list_t list;
    const vma_t *v;
    size_t later = 0;

    (void)state;
    assert_int_equal(0, vma_read(getpid(), &list));
    v = vma_find(&list, (uintptr_t)&list);
    assert_string_equal("[stack]", v->name);
    assert_string_equal("a stack", vma_why_not_later(v, 0));
    v = vma_find(&list, (uintptr_t)sbrk(0) - 1);
    assert_string_equal("[heap]", v->name);
    assert_null(vma_why_not_later(v, 4096));
    for (size_t i = 0; i < list.n; i++) {
        assert_true(list.v[i].start < list.v[i].end && (0 == i || list.v[i - 1].end <= list.v[i].start));
        later += NULL == vma_why_not_later(&list.v[i], 0);
    }
    assert_in_range(later, 1, list.n - 1);
    vma_free(&list);
}

/* One that has ended and is not yet reaped has no memory; one that is reaped does not exist. */
static void gone_process(void **state)
{
    const pid_t pid = fork();
    siginfo_t end;
    vma_list_t list;
    int status;

    (void)state;
    if (0 == pid) {
        _exit(0);
    }
    assert_int_equal(0, waitid(P_PID, (id_t)pid, &end, WEXITED | WNOWAIT));
    (void)vma_read(pid, &list);
    assert_int_equal(0, list.n);
    vma_free(&list);
    assert_int_equal(pid, waitpid(pid, &status, 0));
    assert_int_equal(-1, vma_read(pid, &list));
    assert_int_equal(ENOENT, errno);
    vma_free(&list);
}

static ssize_t break_off(void *cookie, char *to, size_t room)
{
    static const char text[] = "7f1200000000-7f1200100000 rw-p 00000000 00:00 0 \n";

    if (0 == (*(int *)cookie)++ && sizeof(text) <= room) {
        memcpy(to, text, sizeof(text) - 1);
        return sizeof(text) - 1;
    }
    errno = EIO;
    return -1;
}

/* What cannot be read to its end is not a shorter list. */
static void a_read_error_is_told(void **state)
{
    const cookie_io_functions_t io = {.read = break_off};
    vma_list_t list;
    int calls = 0;
    FILE *f = fopencookie(&calls, "r", io);

    (void)state;
    assert_non_null(f);
    assert_int_equal(-1, vma_parse(f, &list));
    assert_int_equal(EIO, errno);
    vma_free(&list);
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind),       cmocka_unit_test(details_belong_to_their_mapping),
        cmocka_unit_test(cut_anywhere),     cmocka_unit_test(lines_are_missing),
        cmocka_unit_test(garbage),          cmocka_unit_test(long_lines),
        cmocka_unit_test(found_by_address), cmocka_unit_test(own_anonymous_areas),
        cmocka_unit_test(own_file),         cmocka_unit_test(own_heap_and_stack),
        cmocka_unit_test(gone_process),     cmocka_unit_test(a_read_error_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
