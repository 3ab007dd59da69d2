/* What every client does, whatever its protocol. */
#define _GNU_SOURCE
#include "generator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As the browser's half: a lone acknowledgement waits for so long. */
#define ACK_DELAY 0.2

client *clients;
int started, ready, dead;
bool running, timing;
counters counted;

/* Latencies in seconds, of the measured time. */
float *latencies;
size_t latency_count, latency_capacity = 1 << 22;
/* One text that all send, and the one that comes back. */
buffer message, expected;
/* Clients that owe an acknowledgement, in the order in which it is due. */
static client **owing;
static size_t owing_first, owing_count, owing_size;
static int complaints;
/* Clients that have something to send, once what they read now is read. */
static client **unflushed;
static int unflushed_count;

static void compose(buffer *to, const char *event) {
  bool json = option.protocol->json;
  if (json) appendf(to, "2[\"%s\",\"", event);
  else append(to, event, 1);
  for (int i = 0; i < option.size; i++) append(to, &"abcdefghijklmnopqrstuvwxyz"[i % 26], 1);
  if (json) append(to, "\"]", 2);
}

void clients_compose(const char *event) {
  compose(&message, event);
  if (!strcmp(event, "burst")) compose(&expected, "fan");
  else if (strcmp(event, "sink")) compose(&expected, event);
}

void clients_init(void) {
  int count = option.clients;
  clients = calloc((size_t)count, sizeof *clients);
  latencies = malloc(latency_capacity * sizeof *latencies);
  owing_size = (size_t)count;
  owing = calloc(owing_size, sizeof *owing);
  unflushed = calloc(owing_size, sizeof *unflushed);
  for (int i = 0; i < count; i++) {
    client *it = &clients[i];
    it->number = i;
    it->websocket = option.websocket;
    it->first = (connection){.fd = -1, .owner = it};
    it->second = (connection){.fd = -1, .owner = it, .role = SENDING};
  }
}

void client_start(client *it) {
  it->state = STARTING;
  it->id[0] = it->key[0] = 0;
  it->head = it->tail = 0;
  it->queue.length = it->posted = 0;
  it->first.role = it->websocket ? WEBSOCKET : WAITING;
  option.protocol->start(it);
}

/* Let there be `count` clients, some at a time. */
bool clients_start(int count, double deadline) {
  for (;;) {
    while (started < count && started - ready - dead < option.ramp)
      client_start(&clients[started++]);
    if (ready + dead >= count || now() >= deadline) break;
    network_turn(deadline);
    acknowledge_due();
  }
  return ready == count;
}

static void record(double seconds) {
  if (timing && latency_count < latency_capacity) latencies[latency_count++] = (float)seconds;
}

void client_ready(client *it) {
  it->state = READY;
  ready++;
  record(now() - it->began);
}

void client_dead(client *it, const char *why) {
  if (it->state == DEAD) return;
  if (complaints++ < 5) fprintf(stderr, "client %d: %s\n", it->number, why);
  if (it->state == READY) ready--;
  it->state = DEAD;
  dead++;
  counted.errors++;
  connection_close(&it->first);
  connection_close(&it->second);
}

/* An idle keep-alive connection may end; a WebSocket, or a request on its way, may not. */
void connection_lost(connection *it) {
  bool needed = it->role == WEBSOCKET || it->role == STREAM || it->busy || it->connecting;
  connection_close(it);
  if (needed) client_dead(it->owner, "a connection was lost");
}

void client_send(client *it) {
  it->sent[it->head++ % MAX_WINDOW] = now();
  counted.sent++;
  option.protocol->send(it, message.data, message.length);
}

void client_flush_later(client *it) {
  if (it->unflushed) return;
  it->unflushed = true;
  unflushed[unflushed_count++] = it;
}

void clients_flush(void) {
  while (unflushed_count) {
    client *it = unflushed[--unflushed_count];
    it->unflushed = false;
    if (it->state != DEAD) option.protocol->flush(it);
  }
}

/* A message of the application has come: the first one says that all is up. */
void delivered(client *it, const char *data, size_t length) {
  if (it->state < READY) {
    client_ready(it);
    return;
  }
  if (expected.length && (length != expected.length || memcmp(data, expected.data, length)))
    counted.mismatched++;
  counted.delivered++;
  if (it->tail != it->head) {
    /* Of a burst the last one counts. */
    if (option.burst > 1 && ++it->queued < (unsigned)option.burst) return;
    it->queued = 0;
    record(now() - it->sent[it->tail++ % MAX_WINDOW]);
    if (running && option.window && !it->controller) client_send(it);
  }
}

/* A stream has no messages: whatever is as long as one, is one. */
void client_read(connection *from, const char *data, size_t length) {
  client *it = from->owner;
  (void)data;
  if (it->state < READY) {
    client_ready(it);
    return;
  }
  size_t whole = it->received + length;
  for (; whole >= message.length; whole -= message.length) {
    counted.delivered++;
    if (it->tail != it->head) record(now() - it->sent[it->tail++ % MAX_WINDOW]);
    if (running && option.window) client_send(it);
  }
  it->received = whole;
}

void acknowledge_later(client *it) {
  if (it->ack_due || owing_count == owing_size) return;
  it->ack_due = now() + ACK_DELAY;
  owing[(owing_first + owing_count++) % owing_size] = it;
}

void acknowledge_due(void) {
  double time = owing_count ? now() : 0;
  while (owing_count && owing[owing_first]->ack_due <= time) {
    client *it = owing[owing_first];
    owing_first = (owing_first + 1) % owing_size;
    owing_count--;
    if (!it->ack_due) continue;
    it->ack_due = 0;
    if (it->state == READY && it->received > it->acked) acknowledge(it);
  }
}
