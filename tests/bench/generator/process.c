/* What the server's processes have used, by /proc. */
#define _GNU_SOURCE
#include "generator.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int pids[16], count;

void process_add(int pid) {
  if (count < 16) pids[count++] = pid;
}

/* user + system, of all threads, those that have ended too; ticks of 10 ms. */
static double cpu_of(int pid) {
  char path[64], line[1024];
  unsigned long user = 0, system = 0;
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  if (fgets(line, sizeof line, file)) {
    char *at = strrchr(line, ')');
    if (at)
      sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
  }
  fclose(file);
  return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void memory_of(int pid, usage *total) {
  char path[64], line[256];
  long kilobytes;
  snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
  FILE *file = fopen(path, "r");
  if (!file) return;
  while (fgets(line, sizeof line, file)) {
    if (sscanf(line, "Pss: %ld", &kilobytes) == 1) total->pss += kilobytes;
    else if (sscanf(line, "Private_Clean: %ld", &kilobytes) == 1 ||
             sscanf(line, "Private_Dirty: %ld", &kilobytes) == 1)
      total->uss += kilobytes;
  }
  fclose(file);
}

usage process_usage(bool memory) {
  usage total = {0};
  for (int i = 0; i < count; i++) {
    total.cpu += cpu_of(pids[i]);
    if (memory) memory_of(pids[i], &total);
  }
  return total;
}

double own_cpu(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

/* Seconds for which we could have run, and others did; 0 where the kernel does not tell. */
double own_wait(void) {
  unsigned long long ran, waited = 0;
  FILE *file = fopen("/proc/self/schedstat", "r");
  if (!file) return 0;
  if (fscanf(file, "%llu %llu", &ran, &waited) != 2) waited = 0;
  fclose(file);
  return (double)waited * 1e-9;
}
