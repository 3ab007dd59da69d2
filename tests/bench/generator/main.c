/* generator --protocol P --transport T --mode M …: one line of JSON says what was measured. */
#define _GNU_SOURCE
#include "generator.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seconds for all clients to be there. */
#define START_WAIT 120
/* A server that says nothing is at work if it uses so much of a core; those that wait use less,
 * also on a machine where others have their share of it. */
#define WORKING 0.1
#define LOOK_EVERY 0.25
/* But it has no more than so many seconds: it may be going round in circles. */
#define LONGEST_SILENCE 60

options option = {.port = 0, .clients = 1, .window = 1, .size = 32, .burst = 1, .ramp = 50,
                  .seconds = 3, .warm = 1, .lost_after = 5, .websocket = true, .protocol = &engineio};

extern float *latencies;
extern size_t latency_count;
void clients_compose(const char *event);

static const protocol *const PROTOCOLS[] = {&engineio, &fallback, &sockjs, &bare, &http_echo,
                                            &tcp_echo};

static uint64_t fans; /* fan-outs that were asked for, in this phase */
static long long missing;
static uint64_t lost; /* deliveries that were given up */
/* What was last seen of the server: a message, or work that may become one. */
static struct { double message, work, looked, cpu; uint64_t delivered; } seen;

static void expect(void) { seen.message = seen.work = now(); }

/* Whether what has not come is lost. A handler that fans out by the hundred thousand lets nothing
 * out for seconds, and then all of it: as long as the server works, it is late and not lost. */
static bool silent(void) {
  double time = now();
  if (counted.delivered != seen.delivered) {
    seen.delivered = counted.delivered;
    expect();
  } else if (time - seen.looked > LOOK_EVERY) {
    double cpu = process_usage(false).cpu;
    if (cpu - seen.cpu > WORKING * (time - seen.looked)) seen.work = time;
    seen.cpu = cpu;
    seen.looked = time;
  }
  return time - seen.work > option.lost_after || time - seen.message > LONGEST_SILENCE;
}

/* One at a time: the next when everybody has had the last, or will not get it any more. */
static void fan_out(uint64_t base) {
  uint64_t each = (uint64_t)option.clients * (uint64_t)option.burst;
  if (fans && silent()) {
    uint64_t due = fans * each, come = counted.delivered - base + lost;
    if (come < due) lost += due - come;
    clients[0].tail = clients[0].head;
  }
  while (running && fans < (counted.delivered - base + lost) / each + (uint64_t)option.window) {
    fans++;
    expect();
    client_send(&clients[0]);
  }
  clients_flush();
}

/* Each client once in an interval, one after the other. */
static void pace(double begun, uint64_t *sent) {
  uint64_t due = (uint64_t)((now() - begun) / option.interval * option.clients);
  for (; *sent < due; ++*sent) {
    client *it = &clients[*sent % (uint64_t)option.clients];
    if (it->state == READY && it->head - it->tail < MAX_WINDOW) client_send(it);
  }
  clients_flush();
}

/* Load for so long, and then until all has come back: what was sent is what is counted. */
static void phase(double seconds, bool echoing, bool fanning) {
  counters base = counted;
  uint64_t paced = 0;
  double begun = now(), until = begun + seconds, time;
  running = echoing || fanning;
  fans = lost = 0;
  if (echoing)
    for (int i = 0; i < option.clients; i++)
      for (int j = 0; j < option.window; j++)
        if (clients[i].state == READY) client_send(&clients[i]);
  clients_flush();
  while ((time = now()) < until) {
    if (fanning) fan_out(base.delivered);
    if (option.interval > 0 && running) pace(begun, &paced);
    double next = option.interval > 0 ? time + option.interval / option.clients : until;
    network_turn(next < until ? next : until);
    acknowledge_due();
  }
  if (!running) return;
  running = false;
  uint64_t each = (uint64_t)option.clients * (uint64_t)option.burst, come;
  /* A fan-out's clock goes on: it runs from when it was asked for. */
  if (echoing) expect();
  for (;;) {
    uint64_t due = fanning ? fans * each : counted.sent - base.sent;
    come = counted.delivered - base.delivered;
    if (come >= due || ready == 0 || silent()) break;
    network_turn(now() + 0.02);
    acknowledge_due();
  }
  uint64_t due = fanning ? fans * each : counted.sent - base.sent;
  missing += (long long)(due - (counted.delivered - base.delivered));
  for (int i = 0; i < option.clients; i++) clients[i].tail = clients[i].head;
}

static int compare(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static double quantile(double at) {
  return latency_count ? latencies[(size_t)((double)(latency_count - 1) * at)] * 1e3 : 0;
}

static void usage_exit(const char *name) {
  fprintf(stderr, "%s: see tests/bench/generator.py\n", name);
  exit(1);
}

static void parse(int count, char **arguments, const char **mode, const char **event) {
  static const struct option NAMES[] = {
      {"port", 1, 0, 'p'},    {"protocol", 1, 0, 'P'}, {"transport", 1, 0, 't'},
      {"mode", 1, 0, 'm'},    {"clients", 1, 0, 'c'},  {"window", 1, 0, 'w'},
      {"size", 1, 0, 's'},    {"seconds", 1, 0, 'S'},  {"warm", 1, 0, 'W'},
      {"burst", 1, 0, 'b'},   {"interval", 1, 0, 'i'}, {"event", 1, 0, 'e'},
      {"pid", 1, 0, 'k'},     {"path", 1, 0, 'a'},     {"ramp", 1, 0, 'r'},
      {"lost-after", 1, 0, 'l'},
      {0}};
  for (int letter; (letter = getopt_long(count, arguments, "", NAMES, NULL)) != -1;) {
    switch (letter) {
      case 'p': option.port = atoi(optarg); break;
      case 't': option.websocket = !strcmp(optarg, "websocket"); break;
      case 'm': *mode = optarg; break;
      case 'c': option.clients = atoi(optarg); break;
      case 'w': option.window = atoi(optarg); break;
      case 's': option.size = atoi(optarg); break;
      case 'S': option.seconds = atof(optarg); break;
      case 'W': option.warm = atof(optarg); break;
      case 'b': option.burst = atoi(optarg); break;
      case 'i': option.interval = atof(optarg); break;
      case 'e': *event = optarg; break;
      case 'k': process_add(atoi(optarg)); break;
      case 'a': option.host_path = optarg; break;
      case 'r': option.ramp = atoi(optarg); break;
      case 'l': option.lost_after = atof(optarg); break;
      case 'P':
        option.protocol = NULL;
        for (size_t i = 0; i < sizeof PROTOCOLS / sizeof *PROTOCOLS; i++)
          if (!strcmp(PROTOCOLS[i]->name, optarg)) option.protocol = PROTOCOLS[i];
        if (option.protocol) break;
        /* fall through */
      default: usage_exit(arguments[0]);
    }
  }
  if (option.window > MAX_WINDOW || option.clients < 1 || !option.port) usage_exit(arguments[0]);
}

int main(int count, char **arguments) {
  const char *mode = "echo", *event = NULL;
  parse(count, arguments, &mode, &event);
  bool fanning = !strcmp(mode, "fanout");
  option.idle = !strcmp(mode, "idle");
  bool connects = !strcmp(mode, "connect");
  if (!event) event = !fanning ? "echo" : option.burst > 1 ? "burst" : "fan";
  if (!option.host_path) option.host_path = option.protocol->path;
  if (option.interval > 0) option.window = 0;

  network_init();
  clients_init();
  clients_compose(event);
  /* Who asks for a fan-out does it by WebSocket, so that asking costs the same for both. */
  if (fanning) clients[0].controller = clients[0].websocket = true;
  /* A server's first connections cost more than the later ones do. */
  if (connects) clients_start(option.clients / 5, now() + START_WAIT);
  int early = started;
  usage before = process_usage(true);
  double begun = now(), own = own_cpu(), waited = own_wait(), measured = begun;
  counters from = counted;
  timing = connects;
  if (!clients_start(option.clients, begun + START_WAIT))
    fprintf(stderr, "only %d of %d clients came up\n", ready, option.clients);
  timing = false;
  double starting = now() - begun;
  /* What follows a client's first message, a poll that waits, belongs to its connect. */
  if (connects) phase(0.3, false, false);
  usage up = process_usage(false);

  bool echoing = !strcmp(mode, "echo");
  usage first = up, last;
  if (!connects) {
    if (option.warm > 0) phase(option.warm, echoing, fanning);
    first = process_usage(false);
    from = counted;
    own = own_cpu(), waited = own_wait(), measured = now();
    timing = true;
    latency_count = 0;
    phase(option.seconds, echoing, fanning);
    timing = false;
  }
  double seconds = now() - measured;
  own = own_cpu() - own;
  waited = own_wait() - waited;
  counters to = counted;
  last = process_usage(option.idle);

  qsort(latencies, latency_count, sizeof *latencies, compare);
  printf("{\"mode\":\"%s\",\"protocol\":\"%s\",\"transport\":\"%s\",\"clients\":%d,\"ready\":%d,"
         "\"seconds\":%.4f,\"messages\":%llu,\"connects\":%d,\"requests\":%llu,"
         "\"bytes_in\":%llu,\"bytes_out\":%llu,\"server_cpu\":%.3f,\"generator_cpu\":%.4f,\"generator_waited\":%.4f,"
         "\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"max\":%.4f,\"samples\":%zu,",
         mode, option.protocol->name, option.websocket ? "websocket" : "polling", option.clients,
         ready, seconds, (unsigned long long)(to.delivered - from.delivered),
         started - early,
         (unsigned long long)(to.requests - from.requests),
         (unsigned long long)(to.bytes_in - from.bytes_in),
         (unsigned long long)(to.bytes_out - from.bytes_out), last.cpu - first.cpu, own, waited,
         quantile(0.5), quantile(0.9), quantile(0.99), quantile(1), latency_count);
  printf("\"errors\":%llu,\"mismatched\":%llu,\"missing\":%lld,\"starting\":%.3f,"
         "\"starting_cpu\":%.3f,\"uss_before\":%ld,\"pss_before\":%ld,\"uss\":%ld,\"pss\":%ld}\n",
         (unsigned long long)counted.errors, (unsigned long long)counted.mismatched,
         missing, starting,
         up.cpu - before.cpu, before.uss, before.pss, last.uss, last.pss);
  return 0;
}
