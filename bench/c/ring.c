/* The limit: a ring in C that does the same job as lib/ring. Two processes, one memory each way, 8-byte record header,
 * records never straddle, position of the other side cached, lengths validated, payload copied in and out, the tail
 * published for every record, the head lazily.
 * ring rtt|throughput|each SIZE COUNT CPU_A CPU_B      each: three percentiles of a round trip */
#include "common.h"
#include <stdatomic.h>

#ifndef CAPACITY
#define CAPACITY (1u << 20)
#endif
#define PAD (4u << 16)
#define WHOLE (3u << 16)

struct ring {
  _Alignas(128) _Atomic uint32_t tail;
  _Alignas(128) _Atomic uint32_t head;
  _Alignas(128) char data[CAPACITY];
};

struct producer {
  struct ring *ring;
  uint32_t tail, head;
};

struct consumer {
  struct ring *ring;
  uint32_t head, published, tail;
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

static void put(struct producer *p, const void *data, uint32_t length) {
  uint32_t record = (length + 15) & ~7u, offset = p->tail & (CAPACITY - 1), contiguous = CAPACITY - offset;
  uint32_t need = record > contiguous ? record + contiguous : record;
  while (CAPACITY - (p->tail - p->head) < need) {
    p->head = atomic_load_explicit(&p->ring->head, memory_order_acquire);
    if (CAPACITY - (p->tail - p->head) < need) pause_cpu();
  }
  if (need != record) {
    uint32_t header[2] = {contiguous - 8, PAD};
    memcpy(p->ring->data + offset, header, 8);
    p->tail += contiguous;
    offset = 0;
  }
  uint32_t header[2] = {length, WHOLE};
  memcpy(p->ring->data + offset, header, 8);
  memcpy(p->ring->data + offset + 8, data, length);
  p->tail += record;
  atomic_store_explicit(&p->ring->tail, p->tail, memory_order_release);
}

static void publish_head(struct consumer *c) {
  c->published = c->head;
  atomic_store_explicit(&c->ring->head, c->head, memory_order_release);
}

static uint32_t take(struct consumer *c, void *into, uint32_t room) {
  for (;;) {
    while (c->head == c->tail) {
      uint32_t tail = atomic_load_explicit(&c->ring->tail, memory_order_acquire);
      if (tail == c->tail) {
        pause_cpu();
        continue;
      }
      if ((tail & 7) || tail - c->head > CAPACITY) die("tail");
      c->tail = tail;
    }
    uint32_t offset = c->head & (CAPACITY - 1), header[2];
    memcpy(header, c->ring->data + offset, 8);
    uint32_t length = header[0], available = c->tail - c->head;
    if (available > CAPACITY - offset) available = CAPACITY - offset;
    if (length > CAPACITY / 2 - 8 || length > available - 8) die("length");
    uint32_t record = (length + 15) & ~7u;
    if (header[1] == WHOLE) {
      if (length > room) die("room");
      memcpy(into, c->ring->data + offset + 8, length);
    }
    c->head += record;
    if (c->head == c->tail || c->head - c->published >= CAPACITY / 8) publish_head(c);
    if (header[1] == WHOLE) return length;
  }
}

static void echo(struct consumer *in, struct producer *out, char *buffer, uint32_t size, long count) {
  for (long i = 0; i < count; i++) put(out, buffer, take(in, buffer, size));
}

static void sink(struct consumer *in, struct producer *out, char *buffer, uint32_t size, long count) {
  for (long i = 0; i < count; i++) take(in, buffer, size);
  put(out, buffer, 8);
}

static void measure_rtt(struct producer *out, struct consumer *in, char *buffer, uint32_t size, long count) {
  double start = now_ns();
  for (long i = 0; i < count; i++) {
    put(out, buffer, size);
    take(in, buffer, size);
  }
  report(start, count);
}

static void measure_each(struct producer *out, struct consumer *in, char *buffer, uint32_t size, long count) {
  struct samples samples = samples_for(count);
  while (samples.count < count) {
    double start = now_ns();
    put(out, buffer, size);
    take(in, buffer, size);
    samples.ns[samples.count++] = now_ns() - start;
  }
  report_each(samples);
}

static void measure_throughput(struct producer *out, struct consumer *in, char *buffer, uint32_t size, long count) {
  double start = now_ns();
  for (long i = 0; i < count; i++) put(out, buffer, size);
  take(in, buffer, size);
  report(start, count);
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  int each = strcmp(argv[1], "each") == 0, rtt = each || strcmp(argv[1], "rtt") == 0;
  uint32_t size = atoi(argv[2]);
  long count = atol(argv[3]);
  struct ring *rings =
      mmap(NULL, 2 * sizeof *rings, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  char *buffer = calloc(1, size < 64 ? 64 : size);
  if (rings == MAP_FAILED || buffer == NULL) die("mmap");
  pid_t child = fork();
  if (child < 0) die("fork");
  struct producer out = {&rings[child == 0], 0, 0};
  struct consumer in = {&rings[child != 0], 0, 0, 0};
  pin(atoi(argv[child == 0 ? 5 : 4]));
  if (child == 0) {
    (rtt ? echo : sink)(&in, &out, buffer, size, count / 10);
    (rtt ? echo : sink)(&in, &out, buffer, size, count);
    return 0;
  }
  FILE *quiet = stdout;
  stdout = fopen("/dev/null", "w"); /* the first tenth warms up */
  (each ? measure_each : rtt ? measure_rtt : measure_throughput)(&out, &in, buffer, size, count / 10);
  stdout = quiet;
  (each ? measure_each : rtt ? measure_rtt : measure_throughput)(&out, &in, buffer, size, count);
  waitpid(child, NULL, 0);
  return 0;
}
