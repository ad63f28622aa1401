/* The common case of a ring in machine code: a whole message that fits, while nobody has to be woken. The same steps in
 * the same order as lib/ring/producer.ts and lib/ring/consumer.ts, on the same state; a call from Bun costs 3 ns and what
 * its compiler makes of the TypeScript 20 ns. Whatever is unusual is refused before anything has changed, and TypeScript
 * does it. compile.ts makes machine code of this file, which is committed: no compiler is there at run time. For x86-64
 * alone: nobody has measured it on another processor, and there TypeScript does it all.
 *
 * Invariant: what the peer can write (its control words, its records) is read once into a local, checked, then used. */
#include <stdint.h>

enum { DATA_OFFSET = 8192, RECORD_HEADER = 8 };
enum { TAIL = 1024, HEAD = 1056, DATA_WAKE = 1088, SPACE_WAKE = 1120, COLD_BYTES = 1216, COLD_MESSAGES = 1218 }; /* words */
enum { WHOLE = 3 };
enum { SENT = 0, REFUSED = -1, WAKE = 1 };              /* of ring_send() */
enum { EMPTY = -1, UNUSUAL = -4, PUBLISH = 1 << 30 };   /* of ring_receive() */

/* One end of one ring. Whoever lends a pointer sees to it that it stays valid while a call may use it. */
struct path {
  char *own, *peer; /* both rings, from the start of their files */
  char *buffer;     /* the caller's buffer that came last */
  char *packed;     /* the one with several messages */
  union {           /* what lib/ring/state.ts knows as well, word by word */
    struct {
      int32_t tail, published, limit, blocked, rung, capacity, max_payload;
      uint32_t bytes, messages; /* low halves of the totals */
    } out;
    struct {
      int32_t head, published, tail, state, rung, capacity, max_payload, publish_every, type;
    } in;
    int32_t words[24];
  };
};
_Static_assert(sizeof(struct path) == 128, "ffi/record-path.ts");

/* What the other side can see or change. A test puts itself between the two. */
#ifndef LOAD
#define LOAD(p, word, order) __atomic_load_n(word, order)
/* Seen before whatever is loaded next. Not one exchange, which would wait for the stores before it and only then ask for the
 * line that the peer looks at: a plain store is on its way meanwhile, and who waits after it is us. */
#define STORE(p, word, value) (__atomic_store_n(word, value, __ATOMIC_RELEASE), __atomic_thread_fence(__ATOMIC_SEQ_CST))
#define PATHS 1
#endif

__attribute__((visibility("hidden"))) struct path paths[PATHS]; /* of many: machine/assemble.ts has them follow the code */

typedef volatile int32_t word;
typedef int32_t vector __attribute__((vector_size(16), aligned(1), may_alias));

static inline int32_t subtract(int32_t a, int32_t b) { return (int32_t)((uint32_t)a - (uint32_t)b); }

static inline int32_t after(int32_t position, int32_t length) {
  return (int32_t)((uint32_t)position + (((uint32_t)length + 15) & ~7u));
}

typedef int32_t wide_vector __attribute__((vector_size(32), aligned(1), may_alias));

/* Of paths[0], which no channel has: whether the processor and the system know AVX2. */
enum { WIDE = 23 };

static int32_t has_wide(void) {
  uint32_t a = 1, b, c = 0, d;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  if ((c & 1u << 27) == 0) return 0; /* OSXSAVE: xgetbv is there */
  __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  if ((a & 6) != 6) return 0; /* the system keeps the wide registers */
  a = 7, c = 0;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return b >> 5 & 1;
}

/* From 32 bytes on. A record's payload begins 8 bytes into a cache line: once the stores are aligned none lies in two, which
 * saves 3 % of 64 KiB and 7 % of 4 KiB. @returns how much of it was copied */
__attribute__((target("avx2"), noinline)) static uint32_t copy_wide(char *to, const char *from, uint32_t length) {
  uint32_t at = -(uint32_t)(uintptr_t)to & 31;
  *(wide_vector *)to = *(wide_vector *)from;
  for (; at + 128 <= length; at += 128) {
    wide_vector a = *(wide_vector *)(from + at), b = *(wide_vector *)(from + at + 32);
    wide_vector c = *(wide_vector *)(from + at + 64), d = *(wide_vector *)(from + at + 96);
    *(wide_vector *)(to + at) = a;
    *(wide_vector *)(to + at + 32) = b;
    *(wide_vector *)(to + at + 64) = c;
    *(wide_vector *)(to + at + 96) = d;
  }
  return at;
}

/* Looks at the processor. To be called once, before everything else. */
int32_t ring_probe(void) {
  paths[0].words[WIDE] = has_wide();
  return 0;
}

static inline void copy(char *to, const char *from, uint32_t length) {
  uint32_t at = 0;
  if (length >= 256 && paths[0].words[WIDE]) at = copy_wide(to, from, length);
  for (; at + 64 <= length; at += 64) {
    vector a = *(vector *)(from + at), b = *(vector *)(from + at + 16);
    vector c = *(vector *)(from + at + 32), d = *(vector *)(from + at + 48);
    *(vector *)(to + at) = a;
    *(vector *)(to + at + 16) = b;
    *(vector *)(to + at + 32) = c;
    *(vector *)(to + at + 48) = d;
  }
  for (; at + 16 <= length; at += 16) *(vector *)(to + at) = *(vector *)(from + at);
  for (; at + 4 <= length; at += 4) __builtin_memcpy(to + at, from + at, 4);
  for (; at < length; at++) to[at] = from[at];
}

static inline void put(char *record, int32_t length, int32_t type, const char *from) {
  uint32_t header[2] = {length, ((uint32_t)type & 0xffff) | WHOLE << 16};
  __builtin_memcpy(record, header, sizeof header);
  copy(record + RECORD_HEADER, from, length);
}

static inline void count(word *own, int32_t index, uint32_t *low, uint32_t amount) {
  *low += amount;
  if (*low < amount) own[index + 1]++;
  own[index] = *low;
}

/* @returns SENT; WAKE: sent, and somebody may have to be woken; REFUSED */
int32_t ring_send(int32_t slot, int32_t length, int32_t type) {
  struct path *p = &paths[slot];
  int32_t tail = p->out.tail, offset = tail & (p->out.capacity - 1), next = after(tail, length);
  if (p->out.blocked || length < 0 || length > p->out.max_payload) return REFUSED;
  if (offset + length + RECORD_HEADER > p->out.capacity || subtract(p->out.limit, next) < 0) return REFUSED;
  word *own = (word *)p->own;
  put(p->own + DATA_OFFSET + offset, length, type, p->buffer);
  STORE(p, own + TAIL, next);
  int32_t wake = LOAD(p, (word *)p->peer + DATA_WAKE, __ATOMIC_SEQ_CST);
  p->out.tail = p->out.published = next;
  count(own, COLD_BYTES, &p->out.bytes, length); /* not before: who waits for the message waits for it */
  count(own, COLD_MESSAGES, &p->out.messages, 1);
  if (wake != 0) return WAKE;
  p->out.rung = 0;
  return SENT;
}

/* Puts messages `from` ... `to - 1` of `length` bytes each that lie one after another, as many as have room before the end of
 * the ring, invisible until they are published. @returns the index of the first that was not put */
int32_t ring_put_packed(int32_t slot, int32_t length, int32_t from, int32_t to, int32_t type) {
  struct path *p = &paths[slot];
  int32_t tail = p->out.tail, index = from, capacity = p->out.capacity;
  if (length < 0 || length > p->out.max_payload) return from;
  const char *source = p->packed + (int64_t)from * length;
  for (; index < to; index++, source += length) {
    int32_t offset = tail & (capacity - 1), next = after(tail, length);
    if (offset + length + RECORD_HEADER > capacity || subtract(p->out.limit, next) < 0) break;
    put(p->own + DATA_OFFSET + offset, length, type, source);
    tail = next;
  }
  if (index == from) return from;
  p->out.tail = tail;
  count((word *)p->own, COLD_BYTES, &p->out.bytes, (uint32_t)(index - from) * length);
  count((word *)p->own, COLD_MESSAGES, &p->out.messages, index - from);
  return index;
}

/* @returns 0 when the producer may wait for room: TypeScript has to publish, and finds out */
static inline int32_t publish_head(struct path *p) {
  STORE(p, (word *)p->own + HEAD, p->in.head);
  if (LOAD(p, (word *)p->peer + SPACE_WAKE, __ATOMIC_SEQ_CST) != 0) return 0;
  p->in.published = p->in.head;
  p->in.rung = 0;
  return 1;
}

/* Looks at most `looks` times. @returns whether there is a record; *why is EMPTY or UNUSUAL else */
static inline int32_t find(struct path *p, int32_t looks, int32_t *why) {
  int32_t head = p->in.head;
  *why = UNUSUAL;
  if (p->in.state != 0) return 0;
  while (head == p->in.tail) {
    int32_t tail = LOAD(p, (word *)p->peer + TAIL, __ATOMIC_ACQUIRE);
    if (tail != head) {
      int32_t used = subtract(tail, head);
      if ((tail & 7) != 0 || used < 0 || used > p->in.capacity) return 0;
      p->in.tail = tail;
      break;
    }
    *why = EMPTY;
    if (p->in.published != head && !publish_head(p)) return 0;
    if (--looks <= 0) return 0;
    *why = UNUSUAL;
    /* The line that is read next comes along with the position: asked for only then, it takes as long once more. Its contents
     * are not looked at before the position allows it. */
    __builtin_prefetch(p->peer + DATA_OFFSET + (head & (p->in.capacity - 1)), 0, 3);
    __builtin_ia32_pause();
  }
  return 1;
}

/* The record under `head`, if it holds a whole message. @returns its length, -1 where TypeScript has to look */
static inline int32_t check(struct path *p, int32_t head, int32_t *type) {
  int32_t offset = head & (p->in.capacity - 1);
  word *record = (word *)(p->peer + DATA_OFFSET + offset);
  int32_t length = record[0];
  uint32_t kind = record[1];
  if (length < 0 || length > p->in.max_payload || kind >> 16 != WHOLE) return -1;
  if (subtract(p->in.tail, after(head, length)) < 0 || offset + length + RECORD_HEADER > p->in.capacity) return -1;
  *type = kind & 0xffff;
  return length;
}

/* Copies the next message to the target, which has `room` bytes, and releases it. @returns its length, with PUBLISH when
 * the position has to be published by TypeScript; EMPTY; UNUSUAL */
int32_t ring_receive(int32_t slot, int32_t room, int32_t looks) {
  struct path *p = &paths[slot];
  int32_t why, type;
  if (!find(p, looks, &why)) return why;
  int32_t head = p->in.head, length = check(p, head, &type);
  if (length < 0 || length > room) return UNUSUAL;
  copy(p->buffer, p->peer + DATA_OFFSET + (head & (p->in.capacity - 1)) + RECORD_HEADER, length);
  p->in.type = type;
  p->in.head = after(head, length);
  if (subtract(p->in.head, p->in.published) >= p->in.publish_every && !publish_head(p)) return length | PUBLISH;
  return length;
}

/* Copies at most `most` messages of exactly `length` bytes each that are published already one after another. @returns how
 * many; publishing is left to TypeScript */
int32_t ring_take_packed(int32_t slot, int32_t length, int32_t most) {
  struct path *p = &paths[slot];
  int32_t why, type, taken = 0;
  if (length < 0 || !find(p, 1, &why)) return 0;
  char *target = p->packed;
  int32_t head = p->in.head;
  for (; taken < most && head != p->in.tail && check(p, head, &type) == length; taken++, target += length) {
    copy(target, p->peer + DATA_OFFSET + (head & (p->in.capacity - 1)) + RECORD_HEADER, length);
    head = after(head, length);
  }
  p->in.head = head;
  return taken;
}

/* Notes where something lies: pointer `index` of a path, in the order above. */
int32_t ring_lend(int32_t slot, int32_t index, char *memory) {
  ((char **)&paths[slot])[index] = memory;
  return 0;
}
