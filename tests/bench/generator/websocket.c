/* The client's side of RFC 6455: frames that are masked, and those of the server. */
#define _GNU_SOURCE
#include "generator.h"

#include <stdio.h>
#include <string.h>

static const unsigned char MASK[4] = {0x37, 0xfa, 0x21, 0x3d};

void websocket_frame(connection *it, int opcode, const char *data, size_t length) {
  unsigned char head[14] = {(unsigned char)(0x80 | opcode)};
  size_t n = 2;
  if (length < 126) {
    head[1] = (unsigned char)(0x80 | length);
  } else if (length < 65536) {
    head[1] = 0x80 | 126;
    head[n++] = (unsigned char)(length >> 8);
    head[n++] = (unsigned char)length;
  } else {
    head[1] = 0x80 | 127;
    for (int shift = 56; shift >= 0; shift -= 8) head[n++] = (unsigned char)((uint64_t)length >> shift);
  }
  memcpy(head + n, MASK, 4);
  append(&it->out, head, n + 4);
  append(&it->out, data, length);
  unsigned char *masked = (unsigned char *)it->out.data + it->out.length - length;
  for (size_t i = 0; i < length; i++) masked[i] ^= MASK[i & 3];
}

/* Take one frame; 0 if it is not whole. Fragments are joined in the owner's `partial`. */
size_t websocket_read(connection *it, const char *data, size_t available) {
  const unsigned char *bytes = (const unsigned char *)data;
  size_t head = 2;
  if (available < head) return 0;
  int opcode = bytes[0] & 15;
  uint64_t length = bytes[1] & 127;
  if (length >= 126) {
    head = length == 126 ? 4 : 10;
    if (available < head) return 0;
    length = 0;
    for (size_t i = 2; i < head; i++) length = length << 8 | bytes[i];
  }
  if (available < head + length) return 0;
  if (opcode == 8) {
    char why[160] = "the WebSocket was closed";
    if (length >= 2)
      snprintf(why, sizeof why, "the WebSocket was closed: %d %.*s", bytes[head] << 8 | bytes[head + 1],
               (int)length - 2, data + head + 2);
    client_dead(it->owner, why);
  } else if (opcode == 9) {
    websocket_frame(it, 10, data + head, length);
    connection_flush(it);
  } else if (opcode <= 2) {
    if (opcode == 0 || !(bytes[0] & 0x80)) client_dead(it->owner, "a fragment");
    else option.protocol->text(it->owner, data + head, length);
  }
  return head + (size_t)length;
}
