/* fallback.v1 on the one transport that was asked for; fallback_transport/PROTOCOL.md has the bytes.
 * The session is sound here, so nothing is kept for a replay. */
#define _GNU_SOURCE
#include "generator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* The most in one envelope, on each transport, as the browser's half has it. */
#define WEBSOCKET_BYTES 64000
#define WEBSOCKET_MESSAGES 256
#define POLLING_BYTES 256000
#define POLLING_MESSAGES 1000
/* Milliseconds for which a poll may be held: 0.8 of the default keepalive. */
#define WAIT 20000

static void hello(buffer *to) {
  uint64_t nonce[2];
  if (getrandom(nonce, sizeof nonce, 0) != sizeof nonce) abort();
  appendf(to,
          "{\"hello\":1,\"attempt\":1,\"nonce\":\"%016llx%016llx\",\"ack\":0,\"received\":0,"
          "\"seq\":1}\x1em0", (unsigned long long)nonce[0], (unsigned long long)nonce[1]);
}

static void path_to(const char *door, char *path, size_t size) {
  snprintf(path, size, "%s/%s", option.host_path, door);
}

static void frame(client *it, const buffer *text) {
  websocket_frame(&it->first, 1, text->data, text->length);
  connection_flush(&it->first);
}

static void request(connection *on, buffer *body) {
  char path[128];
  append(body, "\x1e.", 2);
  path_to("poll", path, sizeof path);
  http_request(on, "POST", path, "", body->data, body->length);
}

static void start(client *it) {
  static buffer body;
  char path[128];
  it->seq = it->received = it->acked = it->request = 0;
  it->partial.length = 0;
  it->ack_due = 0;
  connection_open(&it->first);
  if (it->websocket) {
    path_to("ws", path, sizeof path);
    http_upgrade(&it->first, path, "Sec-WebSocket-Protocol: fallback.v1\r\n");
    return;
  }
  body.length = 0;
  hello(&body);
  request(&it->first, &body);
}

static void opened(client *it, connection *on) {
  static buffer text;
  (void)on;
  text.length = 0;
  hello(&text);
  frame(it, &text);
}

/* The head of a polling request, in the order in which pages write it: who asks, the marks, the
 * number of its first message if it has any, the commit. */
static void polling_head(client *it, buffer *to, const char *wish, unsigned long long first) {
  appendf(to, "i%s k%s t1 n%llu%s a%llu", it->id, it->key, (unsigned long long)++it->request, wish,
          (unsigned long long)it->received);
  if (it->partial.length) appendf(to, " g%zu", it->partial.length);
  if (first) appendf(to, " s%llu", first);
  appendf(to, " c1");
  it->acked = it->received;
}

static void poll(client *it) {
  static buffer body;
  body.length = 0;
  char wish[32];
  snprintf(wish, sizeof wish, " w%d b500000", WAIT);
  polling_head(it, &body, wish, 0);
  request(&it->first, &body);
}

/* Take from what waits, for one envelope: as many messages as fit, or a part of a large one.
 * `queue` has each with its length before it; `posted` is how much of the first has gone. */
static void take(client *it, buffer *to, size_t bytes, int messages) {
  size_t length, used = 0, size = 0;
  for (int count = 0; count < messages && used < it->queue.length; count++) {
    const char *item = it->queue.data + used;
    memcpy(&length, item, sizeof length);
    if (count && size + length > bytes) break;
    if (length > bytes) {
      size_t left = length - it->posted, part = left < bytes ? left : bytes;
      appendf(to, "\x1ep%u/%zu,m", it->posted, length);
      append(to, item + sizeof length + it->posted, part);
      it->posted += (unsigned)part;
      if (it->posted < length) break;
      it->posted = 0;
    } else {
      append(to, "\x1em", 2);
      append(to, item + sizeof length, length);
    }
    size += length;
    used += sizeof length + length;
    it->seq++;
  }
  consume(&it->queue, used);
}

static void post(client *it) {
  static buffer body;
  if (it->second.busy || !it->queue.length) return;
  body.length = 0;
  polling_head(it, &body, "", (unsigned long long)it->seq + 1);
  take(it, &body, POLLING_BYTES, POLLING_MESSAGES);
  request(&it->second, &body);
}

/* Nothing goes before the client has read all that came: as the browser's half sends, behind the
 * handlers of what one event brought, all that they emitted. */
static void send_message(client *it, const char *data, size_t length) {
  append(&it->queue, &length, sizeof length);
  append(&it->queue, data, length);
  client_flush_later(it);
}

static void flush(client *it) {
  static buffer text;
  if (!it->websocket) {
    post(it);
    return;
  }
  while (it->queue.length) {
    text.length = 0;
    appendf(&text, "a%llu s%llu", (unsigned long long)it->received, (unsigned long long)it->seq + 1);
    take(it, &text, WEBSOCKET_BYTES, WEBSOCKET_MESSAGES);
    websocket_frame(&it->first, 1, text.data, text.length);
  }
  it->acked = it->received;
  connection_flush(&it->first);
}

static void message(client *it, const char *data, size_t length) {
  if (!length) return;
  if (data[0] == '2') delivered(it, data, length);
  else if (data[0] != '0') client_dead(it, "refused or disconnected");
}

/* One segment; whether its message is whole. */
static bool segment(client *it, const char *data, size_t length) {
  if (data[0] == 'm') {
    it->received++;
    message(it, data + 1, length - 1);
    return true;
  }
  char *at;
  size_t offset = strtoul(data + 1, &at, 10), total = strtoul(at + 1, &at, 10);
  if (data[0] != 'p' || at[0] != ',' || at[1] != 'm' || offset != it->partial.length) {
    client_dead(it, "a segment of another kind, or a gap");
    return false;
  }
  append(&it->partial, at + 2, length - (size_t)(at + 2 - data));
  if (it->partial.length < total) return false;
  buffer whole = it->partial;
  it->partial = (buffer){0};
  it->received++;
  message(it, whole.data, whole.length);
  free(whole.data);
  return true;
}

static uint64_t field(const char *head, size_t length, const char *name) {
  const char *at = memmem(head, length, name, strlen(name));
  return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void welcome(client *it, const char *head, size_t length) {
  const char *id = memmem(head, length, "\"id\":\"", 6), *key = memmem(head, length, "\"key\":\"", 7);
  if (!id || !key) {
    client_dead(it, "no welcome");
    return;
  }
  sscanf(id + 6, "%71[^\"]", it->id);
  sscanf(key + 7, "%71[^\"]", it->key);
  it->state = OPENED;
  it->seq = 1;
  if (it->websocket) {
    static buffer text;
    text.length = 0;
    appendf(&text, "a%llu c1", (unsigned long long)it->received);
    frame(it, &text);
  }
}

/* An envelope; false if the client is not what it was. */
static bool envelope(client *it, const char *data, size_t length) {
  const char *end = data + length, *head = data;
  const char *at = memchr(data, RECORD_SEPARATOR, length);
  size_t head_length = (size_t)((at ? at : end) - head);
  uint64_t number = 0, question = 0;
  connection *first = &it->first;
  unsigned life = first->life;
  if (head_length && head[0] == '{') {
    if (memmem(head, head_length, "\"end\":", 6)) {
      client_dead(it, "ended by the server");
      return false;
    }
    welcome(it, head, head_length);
    number = field(head, head_length, "\"seq\":");
  } else {
    for (const char *token = head; token < head + head_length;) {
      char *next;
      uint64_t value = strtoull(token + 1, &next, 10);
      if (*token == 's') number = value;
      else if (*token == 'q') question = value;
      token = next + 1;
    }
  }
  while (at && at + 1 < end && it->state != DEAD && first->life == life) {
    const char *from = at + 1;
    at = memchr(from, RECORD_SEPARATOR, (size_t)(end - from));
    size_t n = (size_t)((at ? at : end) - from);
    if (*from == '.') break;
    if (number != it->received + 1) {
      client_dead(it, "a gap");
      return false;
    }
    if (segment(it, from, n)) number++;
  }
  if (it->state == DEAD || first->life != life) return false;
  if (question) {
    /* Behind the messages beside it: an answer that does not state them says that they are lost. */
    static buffer text;
    text.length = 0;
    appendf(&text, "a%llu", (unsigned long long)it->received);
    if (it->partial.length) appendf(&text, " g%zu", it->partial.length);
    appendf(&text, " p%llu", (unsigned long long)question);
    it->acked = it->received;
    frame(it, &text);
  }
  if (it->websocket && it->received > it->acked) acknowledge_later(it);
  return true;
}

static void text(client *it, const char *data, size_t length) { envelope(it, data, length); }

static void response(client *it, connection *from, int status, const char *body, size_t length) {
  if (status != 200 || length < 2 || body[length - 1] != '.') {
    client_dead(it, "not 200, or cut");
    return;
  }
  if (from == &it->second) {
    if (body[0] == '{') client_dead(it, "ended by the server");
    else post(it);
    return;
  }
  if (!envelope(it, body, length)) return;
  flush(it);
  poll(it);
}

void acknowledge(client *it) {
  static buffer text;
  text.length = 0;
  appendf(&text, "a%llu", (unsigned long long)it->received);
  it->acked = it->received;
  frame(it, &text);
}

const protocol fallback = {
    .name = "fallback", .json = true, .path = "/fallback", .start = start, .opened = opened,
    .text = text, .response = response, .send = send_message, .flush = flush};
