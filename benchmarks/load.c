/* HTTP load on one server of this machine: GETs over keep-alive connections, each with its own number in its query.
 *
 * RATE 0 is a closed loop: each connection sends its next request as soon as it is answered. Otherwise the loop is
 * open: request i is due at i / RATE, and its latency counts from then, whether or not a connection was free, so that
 * a server's pause delays every request due during it. Every request sent is waited for, DRAIN_SECONDS at most, so the
 * numbers answered 200 are exact. ANSWERED gets a pair for each: its number, and the microseconds from `start` to its
 * answer (32 bits each, native byte order). Latencies and `in_window` are of the requests due after the warm-up. MOST
 * ends the load after so many requests; 0: time alone ends it. The report is one JSON object, latencies in microseconds,
 * `start` in nanoseconds of CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define DRAIN_SECONDS 12 /* a little more than the gateway's ten */
#define MAX_CONNECTIONS 1024
#define MAX_TARGETS 65536
#define MAX_LATENCIES 20000000

typedef struct {
    int is_waiting;
    uint32_t number;
    int64_t due_at;
    size_t have;
    char buffer[16384];
} Connection;

static Connection connections[MAX_CONNECTIONS];
static struct pollfd sockets[MAX_CONNECTIONS];
static int connection_count;
static struct sockaddr_in server;
static char *targets[MAX_TARGETS];
static uint32_t target_count, first, sent, most;
static FILE *answered;

static int64_t started_at, window_from, window_to;
static uint32_t statuses[600], cut, in_window;
static uint32_t *latencies;
static size_t latency_count;

static void die(const char *what) {
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * SECOND + at.tv_nsec;
}

static void open_connection(int index) {
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server) < 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    sockets[index] = (struct pollfd){.fd = fd, .events = POLLIN};
    connections[index].is_waiting = 0;
    connections[index].have = 0;
}

static void reopen(int index) {
    if (connections[index].is_waiting) cut++;
    close(sockets[index].fd);
    open_connection(index);
}

static void send_request(int index, int64_t due_at) {
    Connection *connection = &connections[index];
    char request[16384];
    connection->number = first + sent;
    connection->due_at = due_at;
    connection->is_waiting = 1;
    connection->have = 0;
    int length = snprintf(request, sizeof request, "GET %s%u HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n",
                          targets[sent % target_count], connection->number, ntohs(server.sin_port));
    sent++;
    if (length >= (int)sizeof request) errno = 0, die("a target is too long");
    if (send(sockets[index].fd, request, (size_t)length, MSG_NOSIGNAL) != length) reopen(index);
}

/* The length of the complete answer in the buffer; 0 while it is incomplete. */
static size_t answer_length(Connection *connection) {
    connection->buffer[connection->have] = 0;
    char *body = strstr(connection->buffer, "\r\n\r\n");
    if (!body) return 0;
    char *header = strcasestr(connection->buffer, "\r\ncontent-length:");
    if (!header || header > body) errno = 0, die("an answer without Content-Length");
    size_t length = (size_t)(body + 4 - connection->buffer) + strtoul(header + 17, NULL, 10);
    return length <= connection->have ? length : 0;
}

static void record(Connection *connection, int status) {
    int64_t at = now();
    connection->is_waiting = 0;
    statuses[status]++;
    if (status == 200) {
        uint32_t pair[2] = {connection->number, (uint32_t)((at - started_at) / 1000)};
        fwrite(pair, sizeof pair, 1, answered);
        if (at >= window_from && at < window_to) in_window++;
    }
    if (connection->due_at >= window_from && connection->due_at < window_to && latency_count < MAX_LATENCIES) {
        int64_t microseconds = (at - connection->due_at) / 1000;
        latencies[latency_count++] = microseconds > UINT32_MAX ? UINT32_MAX : (uint32_t)microseconds;
    }
}

static void receive(int index) {
    Connection *connection = &connections[index];
    ssize_t got = recv(sockets[index].fd, connection->buffer + connection->have,
                       sizeof connection->buffer - 1 - connection->have, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        reopen(index);
        return;
    }
    connection->have += (size_t)got;
    if (!answer_length(connection)) {
        if (connection->have == sizeof connection->buffer - 1) errno = 0, die("an answer is too long");
        return;
    }
    int status = 0;
    if (!connection->is_waiting || sscanf(connection->buffer, "HTTP/1.%*d %3d", &status) != 1 || status < 100
        || status > 599)
        errno = 0, die("what came is no answer");
    char *closing = strcasestr(connection->buffer, "\r\nconnection: close");
    record(connection, status);
    if (closing && closing < strstr(connection->buffer, "\r\n\r\n")) reopen(index);
}

static void read_targets(const char *path) {
    char *line = NULL;
    size_t size = 0;
    ssize_t length;
    FILE *file = fopen(path, "r");
    if (!file) die(path);
    while ((length = getline(&line, &size, file)) > 0 && target_count < MAX_TARGETS) {
        line[strcspn(line, "\r\n")] = 0;
        targets[target_count++] = strdup(line);
    }
    fclose(file);
    free(line);
    if (!target_count) errno = 0, die("there are no targets");
}

static int by_value(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static uint32_t percentile(double share) {
    if (!latency_count) return 0;
    size_t rank = (size_t)(share * (double)latency_count);
    return latencies[rank < latency_count ? rank : latency_count - 1];
}

static void report(uint32_t unsent) {
    uint32_t unanswered = 0;
    for (int index = 0; index < connection_count; index++) unanswered += (uint32_t)connections[index].is_waiting;
    qsort(latencies, latency_count, sizeof *latencies, by_value);
    printf("{\"start\": %lld, \"sent\": %u, \"ok\": %u, \"in_window\": %u, \"cut\": %u, \"unanswered\": %u, \"unsent\": %u, "
           "\"p50\": %u, \"p90\": %u, \"p99\": %u, \"p999\": %u, \"longest\": %u, \"others\": {",
           (long long)started_at, sent, statuses[200], in_window, cut, unanswered, unsent, percentile(.5), percentile(.9), percentile(.99),
           percentile(.999), percentile(1));
    const char *comma = "";
    for (int status = 0; status < 600; status++) {
        if (status == 200 || !statuses[status]) continue;
        printf("%s\"%d\": %u", comma, status, statuses[status]);
        comma = ", ";
    }
    printf("}}\n");
}

/* Send the requests that are due on free connections, in turns. Returns when the next one is due, or `end`. */
static int64_t send_due(int64_t start, int64_t end, double rate, uint32_t total) {
    uint32_t turn = sent;
    for (int offset = 0; offset < connection_count; offset++) {
        int index = (int)((turn + (uint32_t)offset) % (uint32_t)connection_count);
        if (connections[index].is_waiting) continue;
        int64_t at = now(), due_at = rate > 0 ? start + (int64_t)((double)sent * (double)SECOND / rate) : at;
        if ((rate > 0 ? sent >= total : at >= end) || (most && sent >= most)) return end;
        if (due_at > at) return due_at;
        send_request(index, due_at);
    }
    return end;
}

int main(int count, char **arguments) {
    if (count != 10) {
        fprintf(stderr, "use: load PORT CONNECTIONS RATE WARM_SECONDS SECONDS FIRST_NUMBER MOST TARGETS ANSWERED\n");
        return 2;
    }
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1]))};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection_count = atoi(arguments[2]);
    if (connection_count < 1 || connection_count > MAX_CONNECTIONS) die("CONNECTIONS must be from 1 to 1024");
    double rate = atof(arguments[3]), warm_seconds = atof(arguments[4]), seconds = atof(arguments[5]);
    first = (uint32_t)strtoul(arguments[6], NULL, 10);
    most = (uint32_t)strtoul(arguments[7], NULL, 10);
    read_targets(arguments[8]);
    answered = fopen(arguments[9], "wb");
    latencies = malloc(MAX_LATENCIES * sizeof *latencies); /* its pages are committed only as far as they are used */
    if (!answered || !latencies) die(arguments[9]);
    prctl(PR_SET_TIMERSLACK, 1UL); /* otherwise each wait may end 50 us late */
    for (int index = 0; index < connection_count; index++) open_connection(index);

    int64_t start = now(), at;
    started_at = start;
    window_from = start + (int64_t)(warm_seconds * (double)SECOND);
    window_to = window_from + (int64_t)(seconds * (double)SECOND);
    uint32_t total = (uint32_t)(rate * (warm_seconds + seconds));
    for (;;) {
        int64_t next_at = send_due(start, window_to, rate, total);
        int busy = 0;
        for (int index = 0; index < connection_count; index++) busy += connections[index].is_waiting;
        at = now();
        if (most && sent >= most && !busy) break;
        if (at > window_to + DRAIN_SECONDS * SECOND || (at >= window_to && !busy && (rate == 0 || sent >= total))) break;
        if (at >= window_to) next_at = at + SECOND;
        int64_t wait = next_at > at ? next_at - at : 0;
        struct timespec patience = {.tv_sec = wait / SECOND, .tv_nsec = wait % SECOND};
        if (ppoll(sockets, (nfds_t)connection_count, &patience, NULL) < 0 && errno != EINTR) die("ppoll");
        for (int index = 0; index < connection_count; index++)
            if (sockets[index].revents) receive(index);
    }
    if (fclose(answered)) die(arguments[9]);
    report(rate > 0 ? total - sent : 0);
    return 0;
}
