/*
 * Memory that crosses a TCP connection with nothing around it: as a stream, and page by page as it is touched.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * `serve` has the memory; it serves so many connections, one after the other. `stream` and `fault` each have
 * an untouched mapping of the same size, registered with userfaultfd, that is filled from there.
 */
#include <fcntl.h>
#include <getopt.h>
#include <linux/userfaultfd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "plain.h"

#define CHUNK      (1ul << 20)
#define FAULTS_MAX 100000

static struct {
    long mib, port, faults, times;
    bool huge;
    const char *host;
} o = {.mib = 16, .port = 7900, .faults = 4000, .times = 1};

static uint64_t *memory;
static size_t bytes;

static void usage(void)
{
    fprintf(stderr, "usage: pump serve|stream|fault [OPTION...]\n"
                    "  --mib N      memory\n"
                    "  --huge       of huge pages\n"
                    "  --host NAME  of the server\n"
                    "  --port N     of the server\n"
                    "  --faults N   so many pages are touched\n"
                    "  --times N    so many connections are served\n");
    exit(2);
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = {{"mib", required_argument, NULL, 'm'},
                                          {"huge", no_argument, NULL, 'h'},
                                          {"host", required_argument, NULL, 'n'},
                                          {"port", required_argument, NULL, 'p'},
                                          {"faults", required_argument, NULL, 'f'},
                                          {"times", required_argument, NULL, 't'},
                                          {0}};
    int c;

    while (-1 != (c = getopt_long(argc, argv, "", known, NULL))) {
        switch (c) {
        case 'm': o.mib = number(optarg, 1, 65536); break;
        case 'h': o.huge = true; break;
        case 'n': o.host = optarg; break;
        case 'p': o.port = number(optarg, 1, 65535); break;
        case 'f': o.faults = number(optarg, 1, FAULTS_MAX); break;
        case 't': o.times = number(optarg, 1, 1000000); break;
        default: usage();
        }
    }
    if (optind + 1 != argc) {
        usage();
    }
    bytes = (size_t)o.mib << 20;
}

/* ---- the connection ---- */

static void send_all(int fd, const void *data, size_t n)
{
    for (const char *p = data; 0 < n;) {
        const ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

        if (0 >= sent) {
            die("send: %s", strerror(errno));
        }
        p += sent;
        n -= (size_t)sent;
    }
}

/* @return false at the end of the connection */
static bool receive_all(int fd, void *data, size_t n)
{
    for (char *p = data; 0 < n;) {
        const ssize_t got = recv(fd, p, n, MSG_WAITALL);

        if (0 == got) {
            return false;
        }
        if (0 > got) {
            die("recv: %s", strerror(errno));
        }
        p += got;
        n -= (size_t)got;
    }
    return true;
}

static void without_delay(int fd)
{
    const int on = 1;

    if (0 != setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))) {
        die("TCP_NODELAY: %s", strerror(errno));
    }
}

static int connect_to_server(void)
{
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    char port[16];
    int fd;

    snprintf(port, sizeof(port), "%ld", o.port);
    if (NULL == o.host || 0 != getaddrinfo(o.host, port, &hints, &found)) {
        die("no such host");
    }
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (0 > fd || 0 != connect(fd, found->ai_addr, found->ai_addrlen)) {
        die("connect to %s: %s", o.host, strerror(errno));
    }
    freeaddrinfo(found);
    without_delay(fd);
    return fd;
}

/* ---- the source ---- */

static void serve_faults(int fd)
{
    uint64_t page;

    while (receive_all(fd, &page, sizeof(page))) {
        send_all(fd, &memory[page * WORDS], PAGE);
    }
}

static void serve_stream(int fd)
{
    for (size_t at = 0; at < bytes; at += CHUNK) {
        send_all(fd, (char *)memory + at, CHUNK);
    }
}

static void serve(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o.port)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    char what;

    memory = map_memory(bytes, o.huge);
    for (size_t page = 0; page < bytes / PAGE; page++) {
        write_page(memory, page);
    }
    if (0 > fd || 0 != setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
        0 != bind(fd, (struct sockaddr *)&any, sizeof(any)) || 0 != listen(fd, 1)) {
        die("listen: %s", strerror(errno));
    }
    printf("pump: ready\n");
    fflush(stdout);
    for (long i = 0; i < o.times; i++) {
        const int client = accept(fd, NULL, NULL);

        if (0 > client) {
            die("accept: %s", strerror(errno));
        }
        without_delay(client);
        if (receive_all(client, &what, 1)) {
            's' == what ? serve_stream(client) : serve_faults(client);
        }
        (void)close(client);
    }
}

/* ---- the target ---- */

static int register_memory(void)
{
    const int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register whole = {.range = {(uintptr_t)memory, bytes}, .mode = UFFDIO_REGISTER_MODE_MISSING};

    if (0 > fd || 0 != ioctl(fd, UFFDIO_API, &api) || 0 != ioctl(fd, UFFDIO_REGISTER, &whole)) {
        die("userfaultfd: %s", strerror(errno));
    }
    return fd;
}

static void place(int uffd, uint64_t at, const void *data, size_t n)
{
    struct uffdio_copy copy = {.dst = at, .src = (uintptr_t)data, .len = n};

    if (0 != ioctl(uffd, UFFDIO_COPY, &copy)) {
        die("UFFDIO_COPY: %s", strerror(errno));
    }
}

static void stream(void)
{
    const int fd = connect_to_server();
    char *buffer = malloc(CHUNK);
    double since;
    int uffd;

    memory = map_memory(bytes, o.huge);
    uffd = register_memory();
    if (NULL == buffer) {
        die("no memory");
    }
    since = wall_clock();
    send_all(fd, "s", 1);
    for (size_t at = 0; at < bytes; at += CHUNK) {
        if (!receive_all(fd, buffer, CHUNK)) {
            die("the stream ended too early");
        }
        place(uffd, (uintptr_t)memory + at, buffer, CHUNK);
    }
    printf("pump: stream bytes=%zu ms=%.3f\n", bytes, (wall_clock() - since) * 1e3);
    free(buffer);
}

static double served[FAULTS_MAX], touched[FAULTS_MAX];

/* The thread that gets pages; as LPM's it goes before whatever else wants to run, and counts from the fault's message
   on. */
static void *fetch(void *arg)
{
    const struct sched_param first = {.sched_priority = 1};
    static uint64_t content[WORDS];
    const int uffd = *(int *)arg, fd = connect_to_server();

    (void)pthread_setschedparam(pthread_self(), SCHED_RR, &first);
    send_all(fd, "f", 1);
    for (long i = 0; i < o.faults; i++) {
        struct pollfd polled = {.fd = uffd, .events = POLLIN};
        struct uffd_msg message;
        double since;
        uint64_t page;

        if (1 != poll(&polled, 1, -1) || (ssize_t)sizeof(message) != read(uffd, &message, sizeof(message))) {
            die("no message of a fault: %s", strerror(errno));
        }
        since = wall_clock();
        page = (message.arg.pagefault.address - (uintptr_t)memory) / PAGE;
        send_all(fd, &page, sizeof(page));
        if (!receive_all(fd, content, PAGE)) {
            die("the server has gone");
        }
        place(uffd, (uintptr_t)&memory[page * WORDS], content, PAGE);
        served[i] = (wall_clock() - since) * 1e6;
    }
    return NULL;
}

static void touch_all(const uint32_t *order)
{
    for (long i = 0; i < o.faults; i++) {
        volatile uint64_t *p = &memory[order[i] * WORDS];
        const double since = wall_clock();

        p[0]++;
        touched[i] = (wall_clock() - since) * 1e6;
        if (p[1] != word_of(order[i], 1)) {
            die("page %u is not what it was", order[i]);
        }
    }
}

/* No page twice: the second time it is there. */
static uint32_t *shuffled(size_t n)
{
    uint32_t *order = malloc(n * sizeof(*order));
    uint64_t state = 88172645463325252u;

    if (NULL == order) {
        die("no memory");
    }
    for (size_t i = 0; i < n; i++) {
        order[i] = (uint32_t)i;
    }
    for (size_t i = 0; i < n; i++) {
        const size_t other = i + chance(&state) % (n - i);
        const uint32_t saved = order[i];

        order[i] = order[other];
        order[other] = saved;
    }
    return order;
}

static void fault(void)
{
    pthread_t thread;
    uint32_t *order;
    int uffd;

    if ((size_t)o.faults > bytes / PAGE) {
        o.faults = (long)(bytes / PAGE);
    }
    order = shuffled(bytes / PAGE);
    memory = map_memory(bytes, o.huge);
    uffd = register_memory();
    if (0 != pthread_create(&thread, NULL, fetch, &uffd)) {
        die("no thread");
    }
    touch_all(order);
    pthread_join(thread, NULL);
    for (long i = 0; i < o.faults; i++) {
        printf("pump: fault served=%.2f touched=%.2f\n", served[i], touched[i]);
    }
    free(order);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    if (0 == strcmp(argv[optind], "serve")) {
        serve();
    } else if (0 == strcmp(argv[optind], "stream")) {
        stream();
    } else if (0 == strcmp(argv[optind], "fault")) {
        fault();
    } else {
        usage();
    }
    return 0;
}
