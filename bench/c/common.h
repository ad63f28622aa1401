/* What the baselines share: a clock, a processor to run on, and a way to stop with a sentence. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline void die(const char *what) {
  perror(what);
  exit(1);
}

static inline double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

/* -1 leaves the process where it is. */
static inline void pin(int cpu) {
  cpu_set_t set;
  if (cpu < 0) return;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) < 0) die("sched_setaffinity");
}

/* What single operations took; see report_each(). */
struct samples {
  double *ns;
  long count;
};

static inline struct samples samples_for(long count) {
  struct samples s = {calloc(count > 0 ? count : 1, sizeof(double)), 0};
  if (s.ns == NULL) die("calloc");
  return s;
}

static inline int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Nanoseconds of an operation that half, 99 and 99.9 in a hundred do not exceed, on standard output. */
static inline void report_each(struct samples s) {
  qsort(s.ns, s.count, sizeof *s.ns, by_value);
  printf("%.0f %.0f %.0f\n", s.ns[s.count / 2], s.ns[s.count * 99 / 100], s.ns[s.count * 999 / 1000]);
}

/* Nanoseconds for each of `count` operations, on standard output. */
static inline void report(double start, long count) { printf("%.3f\n", (now_ns() - start) / count); }
