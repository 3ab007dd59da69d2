/* The floors: a WebSocket, an HTTP request, a TCP stream, with nothing on it. */
#define _GNU_SOURCE
#include "generator.h"

static void start_websocket(client *it) {
  connection_open(&it->first);
  http_upgrade(&it->first, option.host_path, "");
}

static void send_websocket(client *it, const char *data, size_t length) {
  websocket_frame(&it->first, 1, data, length);
  connection_flush(&it->first);
}

const protocol bare = {
    .name = "websocket", .path = "/", .start = start_websocket, .text = delivered,
    .send = send_websocket};

/* One request a message; the first one only proves that the server is there. */
static void start_http(client *it) {
  connection_open(&it->first);
  http_request(&it->first, "POST", option.host_path, "", "first", 5);
}

static void http_response(client *it, connection *from, int status, const char *body, size_t length) {
  (void)from;
  if (status != 200) client_dead(it, "not 200");
  else delivered(it, body, length);
}

static void send_http(client *it, const char *data, size_t length) {
  http_request(&it->first, "POST", option.host_path, "", data, length);
}

const protocol http_echo = {
    .name = "http", .path = "/echo", .start = start_http, .response = http_response,
    .send = send_http};

static void start_tcp(client *it) {
  it->first.role = STREAM;
  connection_open(&it->first);
}

static void send_tcp(client *it, const char *data, size_t length) {
  append(&it->first.out, data, length);
  connection_flush(&it->first);
}

const protocol tcp_echo = {.name = "tcp", .path = "", .start = start_tcp, .send = send_tcp};
