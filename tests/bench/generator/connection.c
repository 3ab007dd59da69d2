/* Sockets, buffers, and the bytes that go through them. */
#define _GNU_SOURCE
#include "generator.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* One address has some 28,000 ports, and servers count connections by address. */
#define ADDRESSES 100
#define EVENTS 512

static int set;
static char scratch[1 << 18];

static void fail(const char *what) {
  perror(what);
  exit(2);
}

double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void reserve(buffer *to, size_t more) {
  if (to->length + more <= to->capacity) return;
  to->capacity = (to->length + more) * 2;
  to->data = realloc(to->data, to->capacity);
  if (!to->data) fail("realloc");
}

void append(buffer *to, const void *data, size_t length) {
  reserve(to, length);
  memcpy(to->data + to->length, data, length);
  to->length += length;
}

void appendf(buffer *to, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  reserve(to, 1024);
  to->length += (size_t)vsnprintf(to->data + to->length, 1024, format, arguments);
  va_end(arguments);
}

void consume(buffer *from, size_t length) {
  from->length -= length;
  if (from->length) memmove(from->data, from->data + length, from->length);
  /* Of a large message nothing is kept: ten thousand clients have one of these each. */
  else if (from->capacity > 65536) {
    free(from->data);
    *from = (buffer){0};
  }
}

void network_init(void) {
  struct rlimit limit;
  signal(SIGPIPE, SIG_IGN);
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  set = epoll_create1(0);
  if (set < 0) fail("epoll_create1");
}

void connection_open(connection *it) {
  int one = 1;
  struct sockaddr_in from = {.sin_family = AF_INET}, to = from;
  it->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (it->fd < 0) fail("socket");
  setsockopt(it->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(it->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(it->owner->number % ADDRESSES));
  if (bind(it->fd, (void *)&from, sizeof from) < 0) fail("bind");
  to.sin_port = htons((uint16_t)option.port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(it->fd, (void *)&to, sizeof to) < 0 && errno != EINPROGRESS) fail("connect");
  it->life++;
  it->connecting = it->writable = true;
  it->upgraded = it->busy = false;
  it->in.length = it->out.length = it->written = 0;
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = it};
  if (epoll_ctl(set, EPOLL_CTL_ADD, it->fd, &event) < 0) fail("epoll_ctl");
}

void connection_close(connection *it) {
  if (it->fd >= 0) close(it->fd);
  it->fd = -1;
  it->life++;
  it->busy = it->connecting = false;
  it->in.length = it->out.length = it->written = 0;
}

static void want_write(connection *it, bool wanted) {
  if (it->writable == wanted) return;
  it->writable = wanted;
  struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = it};
  epoll_ctl(set, EPOLL_CTL_MOD, it->fd, &event);
}

void connection_flush(connection *it) {
  if (it->fd < 0 || it->connecting) return;
  while (it->written < it->out.length) {
    ssize_t n = send(it->fd, it->out.data + it->written, it->out.length - it->written, 0);
    if (n < 0) {
      if (errno == EAGAIN) want_write(it, true);
      return; /* an error comes again when it is read from */
    }
    it->written += (size_t)n;
    counted.bytes_out += (uint64_t)n;
  }
  it->written = 0;
  consume(&it->out, it->out.length);
  want_write(it, false);
}

/* Take from `data` what is whole; the connection may be closed, or another, afterwards. */
static size_t take(connection *it, const char *data, size_t length, bool ended) {
  size_t used = 0;
  while (used < length && it->fd >= 0) {
    unsigned life = it->life;
    size_t n = it->role == STREAM      ? (client_read(it, data + used, length - used), length - used)
               : it->upgraded          ? websocket_read(it, data + used, length - used)
                                       : http_read(it, data + used, length - used, ended);
    if (it->life != life) return length;
    if (!n) break;
    used += n;
  }
  return used;
}

static void readable(connection *it) {
  for (;;) {
    unsigned life = it->life;
    ssize_t n = recv(it->fd, scratch, sizeof scratch, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      if (it->in.length) take(it, it->in.data, it->in.length, true);
      if (it->life == life) connection_lost(it);
      return;
    }
    counted.bytes_in += (uint64_t)n;
    if (it->in.length) {
      append(&it->in, scratch, (size_t)n);
      size_t used = take(it, it->in.data, it->in.length, false);
      if (it->life == life) consume(&it->in, used);
    } else {
      size_t used = take(it, scratch, (size_t)n, false);
      if (it->life == life && used < (size_t)n) append(&it->in, scratch + used, (size_t)n - used);
    }
    if (it->life != life || (size_t)n < sizeof scratch) return;
  }
}

void network_turn(double until) {
  struct epoll_event events[EVENTS];
  double left = until - now();
  int wait = left <= 0 ? 0 : left > 0.02 ? 20 : (int)(left * 1000) + 1;
  int n = epoll_wait(set, events, EVENTS, wait);
  for (int i = 0; i < n; i++) {
    connection *it = events[i].data.ptr;
    uint32_t what = events[i].events;
    if (it->fd < 0) continue;
    if (it->connecting && what & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
      int error = 0;
      socklen_t length = sizeof error;
      getsockopt(it->fd, SOL_SOCKET, SO_ERROR, &error, &length);
      if (error) {
        connection_lost(it);
        continue;
      }
      it->connecting = false;
      if (!it->owner->began) it->owner->began = now();
      connection_flush(it);
    } else if (what & EPOLLOUT) {
      connection_flush(it);
    }
    if (it->fd >= 0 && what & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(it);
    clients_flush();
  }
}
