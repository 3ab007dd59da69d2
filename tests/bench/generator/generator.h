/* A load generator for message servers: one thread, one epoll set, no waiting.
 *
 * main.c       options, the measured modes, the result as one line of JSON
 * client.c     what every client does, whatever its protocol: send, count, compare, time
 * connection.c sockets, buffers, bytes counted
 * http.c       requests and responses        websocket.c   the client's side of RFC 6455
 * engineio.c   Engine.IO 4 with Socket.IO 5   fallback.c    fallback.v1
 * sockjs.c     SockJS 0.3                     bare.c        WebSocket, HTTP or TCP with nothing on it
 * process.c    CPU and memory of the server
 */
#ifndef GENERATOR_H
#define GENERATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_SEPARATOR 0x1e
/* Messages of one client on their way at the same time, at most; a power of two. */
#define MAX_WINDOW 256

typedef struct { char *data; size_t length, capacity; } buffer;

typedef struct client client;

typedef enum { WEBSOCKET, WAITING, SENDING, STREAM } role;

typedef struct {
  int fd;
  unsigned life; /* how often it was opened or closed: a descriptor's number comes again */
  role role;
  bool connecting, upgraded, busy, writable;
  client *owner;
  buffer in, out;
  size_t written;
} connection;

typedef enum { STARTING, OPENED, READY, DEAD } state;

struct client {
  int number;
  state state;
  bool websocket, controller;
  char id[72], key[72];
  connection first, second; /* a WebSocket, or the waiting and the sending requests */
  double began;             /* when TCP was connected */
  double sent[MAX_WINDOW];  /* when each message on its way was sent */
  unsigned head, tail;
  buffer queue;             /* messages that wait to be sent */
  unsigned queued, posted;
  bool unflushed;           /* whether it is among those that clients_flush serves */
  /* fallback.v1 */
  uint64_t seq, received, acked, request;
  double ack_due;
  buffer partial;
};

typedef struct {
  const char *name;
  bool json;                /* messages are Socket.IO events, not plain texts */
  const char *path;
  void (*start)(client *);
  void (*opened)(client *, connection *);                    /* a WebSocket is up */
  void (*text)(client *, const char *, size_t);              /* a WebSocket message */
  void (*response)(client *, connection *, int, const char *, size_t);
  void (*send)(client *, const char *, size_t);
  void (*flush)(client *);                                   /* after client_flush_later */
} protocol;

extern const protocol engineio, fallback, sockjs, bare, http_echo, tcp_echo;

typedef struct {
  const char *host_path, *origin;
  int port, clients, window, size, burst, ramp;
  double seconds, warm, interval;
  double lost_after; /* seconds without a message, or work, after which what has not come is lost */
  bool websocket, idle;
  const protocol *protocol;
} options;
extern options option;

/* What was counted; it is only ever added to. */
typedef struct {
  uint64_t delivered, sent, requests, errors, reopened, bytes_in, bytes_out, mismatched;
} counters;
extern counters counted;

/* connection.c */
double now(void);
void append(buffer *, const void *, size_t);
void appendf(buffer *, const char *, ...) __attribute__((format(printf, 2, 3)));
void consume(buffer *, size_t);
void network_init(void);
void connection_open(connection *);
void connection_close(connection *);
void connection_flush(connection *);
void network_turn(double until);

/* http.c */
void http_request(connection *, const char *method, const char *path, const char *more,
                  const void *body, size_t length);
void http_upgrade(connection *, const char *path, const char *more);
size_t http_read(connection *, const char *, size_t, bool ended);

/* websocket.c */
void websocket_frame(connection *, int opcode, const char *, size_t);
size_t websocket_read(connection *, const char *, size_t);

/* client.c */
void clients_init(void);
bool clients_start(int count, double deadline);
void client_start(client *);
void client_ready(client *);
void client_dead(client *, const char *why);
void client_send(client *);
void client_flush_later(client *);
void clients_flush(void);
void delivered(client *, const char *, size_t);
void connection_lost(connection *);
void client_read(connection *, const char *, size_t);
void acknowledge_due(void);
void acknowledge_later(client *);
void acknowledge(client *);
extern client *clients;
extern int started, ready, dead;
extern bool running, timing;

/* process.c */
typedef struct { double cpu; long uss, pss; } usage;
void process_add(int pid);
usage process_usage(bool memory);
double own_cpu(void);
double own_wait(void);

#endif
