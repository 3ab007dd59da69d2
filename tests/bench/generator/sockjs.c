/* SockJS 0.3: websocket, and xhr-polling with xhr_send. */
#define _GNU_SOURCE
#include "generator.h"

#include <stdio.h>
#include <string.h>

static void door(client *it, const char *name, char *path, size_t size) {
  snprintf(path, size, "%s/000/%s/%s", option.host_path, it->id, name);
}

static void poll(client *it) {
  char path[192];
  door(it, "xhr", path, sizeof path);
  http_request(&it->first, "POST", path, "", "", 0);
}

static void start(client *it) {
  static unsigned session;
  char path[192];
  snprintf(it->id, sizeof it->id, "b%u", ++session);
  connection_open(&it->first);
  if (!it->websocket) {
    poll(it);
    return;
  }
  door(it, "websocket", path, sizeof path);
  http_upgrade(&it->first, path, "");
}

static void post(client *it) {
  char path[192];
  if (it->second.busy || !it->queue.length) return;
  append(&it->queue, "]", 1);
  door(it, "xhr_send", path, sizeof path);
  http_request(&it->second, "POST", path, "", it->queue.data, it->queue.length);
  it->queue.length = 0;
}

static void send_text(client *it, const char *data, size_t length) {
  buffer *to = &it->queue;
  append(to, to->length ? ",\"" : "[\"", 2);
  append(to, data, length);
  append(to, "\"", 1);
  if (!it->websocket) {
    post(it);
    return;
  }
  append(to, "]", 1);
  websocket_frame(&it->first, 1, to->data, to->length);
  to->length = 0;
  connection_flush(&it->first);
}

/* The benchmark's own texts have nothing that JSON escapes. */
static void received(client *it, const char *data, size_t length) {
  if (!length) return;
  if (data[0] == 'c') client_dead(it, "closed by the server");
  if (data[0] != 'a') return;
  const char *at = data + 1, *end = data + length;
  while ((at = memchr(at, '"', (size_t)(end - at)))) {
    at++;
    const char *close = memchr(at, '"', (size_t)(end - at));
    if (!close) return;
    delivered(it, at, (size_t)(close - at));
    at = close + 1;
  }
}

static void response(client *it, connection *from, int status, const char *body, size_t length) {
  if (status != 200 && status != 204) {
    client_dead(it, "neither 200 nor 204");
    return;
  }
  if (from == &it->second) {
    post(it);
    return;
  }
  received(it, body, length && body[length - 1] == '\n' ? length - 1 : length);
  if (it->state != DEAD) poll(it);
}

const protocol sockjs = {
    .name = "sockjs", .path = "/sockjs", .start = start, .text = received, .response = response,
    .send = send_text};
