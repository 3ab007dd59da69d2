/* Requests as Chromium makes them, and the responses. */
#define _GNU_SOURCE
#include "generator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What Chromium 140 sends with a same-origin XMLHttpRequest, less Accept-Encoding: a
 * compressed response is another measurement. */
static const char HEADERS[] =
    "Connection: keep-alive\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36\r\n"
    "Accept: */*\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: cors\r\n"
    "Sec-Fetch-Dest: empty\r\n"
    "Accept-Language: en-US,en;q=0.9\r\n";

void http_request(connection *it, const char *method, const char *path, const char *more,
                  const void *body, size_t length) {
  if (it->fd < 0) {
    connection_open(it);
    counted.reopened++;
  }
  appendf(&it->out, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n", method, path, option.port);
  append(&it->out, HEADERS, sizeof HEADERS - 1);
  appendf(&it->out, "Referer: http://127.0.0.1:%d/page\r\n", option.port);
  if (body) {
    appendf(&it->out,
            "Origin: http://127.0.0.1:%d\r\nContent-Type: text/plain;charset=UTF-8\r\n"
            "Content-Length: %zu\r\n", option.port, length);
  }
  appendf(&it->out, "%s\r\n", more);
  if (body) append(&it->out, body, length);
  it->busy = true;
  counted.requests++;
  connection_flush(it);
}

void http_upgrade(connection *it, const char *path, const char *more) {
  appendf(&it->out,
          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          "Origin: http://127.0.0.1:%d\r\nSec-WebSocket-Version: 13\r\n"
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
          path, option.port, option.port, more);
  connection_flush(it);
}

static bool header(const char *line, size_t length, const char *name, const char **value) {
  size_t n = strlen(name);
  if (length < n || strncasecmp(line, name, n)) return false;
  *value = line + n;
  return true;
}

static bool contains(const char *line, const char *end, const char *word) {
  for (size_t n = strlen(word); line + n <= end; line++)
    if (!strncasecmp(line, word, n)) return true;
  return false;
}

/* Join the chunks in `body`; the bytes that they took, 0 if the last one is missing. */
static size_t unchunk(const char *from, const char *end, buffer *body) {
  const char *at = from;
  for (;;) {
    const char *line = memmem(at, (size_t)(end - at), "\r\n", 2);
    if (!line) return 0;
    size_t length = strtoul(at, NULL, 16);
    if ((size_t)(end - line) < length + 4) return 0;
    append(body, line + 2, length);
    at = line + 2 + length + 2;
    if (!length) return (size_t)(at - from);
  }
}

static void respond(connection *it, int status, bool closing, const char *body, size_t length) {
  it->busy = false;
  /* Who is idle sends nothing: some servers end such connections, so that here all are without. */
  if (closing || (option.idle && it->role == SENDING)) connection_close(it);
  option.protocol->response(it->owner, it, status, body, length);
}

/* Take one response; 0 if it is not whole. `ended`: no more will come. */
size_t http_read(connection *it, const char *data, size_t available, bool ended) {
  const char *end = memmem(data, available, "\r\n\r\n", 4), *value;
  if (!end || available < 12) return 0;
  size_t head = (size_t)(end - data) + 4;
  int status = atoi(data + 9);
  if (it->role == WEBSOCKET) {
    if (status != 101) {
      client_dead(it->owner, "the WebSocket was refused");
      return head;
    }
    it->upgraded = true;
    if (option.protocol->opened) option.protocol->opened(it->owner, it);
    return head;
  }
  bool chunked = false, closing = !strncmp(data, "HTTP/1.0", 8);
  long length = status == 204 || status == 304 ? 0 : -1;
  for (const char *line = data; line < end;) {
    const char *next = memmem(line, head, "\r\n", 2);
    size_t n = (size_t)(next - line);
    if (header(line, n, "content-length:", &value)) length = atol(value);
    else if (header(line, n, "transfer-encoding:", &value)) chunked = contains(value, next, "chunked");
    else if (header(line, n, "connection:", &value))
      closing = contains(value, next, "close") || (closing && !contains(value, next, "keep-alive"));
    line = next + 2;
  }
  if (chunked) {
    buffer body = {0};
    size_t used = unchunk(data + head, data + available, &body);
    if (used) respond(it, status, closing, body.data, body.length);
    free(body.data);
    return used ? head + used : 0;
  }
  if (length < 0) {
    if (!ended) return 0;
    length = (long)(available - head);
    closing = true;
  }
  if (available - head < (size_t)length) return 0;
  respond(it, status, closing, data + head, (size_t)length);
  return head + (size_t)length;
}
