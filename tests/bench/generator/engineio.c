/* Engine.IO 4 with Socket.IO 5, on the one transport that was asked for: no upgrade. */
#define _GNU_SOURCE
#include "generator.h"

#include <stdio.h>
#include <string.h>

static void poll(client *it) {
  char path[192];
  snprintf(path, sizeof path, "%s?EIO=4&transport=polling%s%s", option.host_path,
           it->id[0] ? "&sid=" : "", it->id);
  http_request(&it->first, "GET", path, "", NULL, 0);
}

static void start(client *it) {
  char path[192];
  connection_open(&it->first);
  if (it->websocket) {
    snprintf(path, sizeof path, "%s?EIO=4&transport=websocket", option.host_path);
    http_upgrade(&it->first, path, "");
  } else {
    poll(it);
  }
}

static void post(client *it) {
  char path[192];
  if (it->second.busy || !it->queue.length) return;
  snprintf(path, sizeof path, "%s?EIO=4&transport=polling&sid=%s", option.host_path, it->id);
  http_request(&it->second, "POST", path, "", it->queue.data, it->queue.length);
  it->queue.length = 0;
}

static void packet(client *it, const char *data, size_t length) {
  if (it->websocket) {
    websocket_frame(&it->first, 1, data, length);
    connection_flush(&it->first);
    return;
  }
  if (it->queue.length) append(&it->queue, "\x1e", 1);
  append(&it->queue, data, length);
  post(it);
}

static void send_event(client *it, const char *data, size_t length) {
  static buffer text;
  text.length = 0;
  append(&text, "4", 1);
  append(&text, data, length);
  packet(it, text.data, text.length);
}

static void received(client *it, const char *data, size_t length) {
  if (!length) return;
  if (data[0] == '4' && length > 1) {
    if (data[1] == '2') delivered(it, data + 1, length - 1);
    else if (data[1] != '0') client_dead(it, "refused or disconnected");
  } else if (data[0] == '2') {
    packet(it, "3", 1);
  } else if (data[0] == '0') {
    const char *id = memmem(data, length, "\"sid\":\"", 7);
    if (id) sscanf(id + 7, "%71[^\"]", it->id);
    it->state = OPENED;
    packet(it, "40", 2);
  } else if (data[0] == '1') {
    client_dead(it, "closed by the server");
  }
}

static void response(client *it, connection *from, int status, const char *body, size_t length) {
  if (status != 200) {
    client_dead(it, "not 200");
    return;
  }
  if (from == &it->second) {
    post(it);
    return;
  }
  for (const char *end = body + length; body < end;) {
    const char *next = memchr(body, RECORD_SEPARATOR, (size_t)(end - body));
    received(it, body, (size_t)((next ? next : end) - body));
    body = next ? next + 1 : end;
    if (it->state == DEAD) return;
  }
  poll(it);
}

const protocol engineio = {
    .name = "socketio", .json = true, .path = "/socket.io/", .start = start, .text = received,
    .response = response, .send = send_event};
