/*
 * shmlink.h: one end of a shmlink channel, in C11 without dependencies. All functions are static inline: include it
 * where it is used, before other headers or with _GNU_SOURCE defined. The bytes it speaks are in docs/ring-layout.md.
 *
 *     struct shmlink_channel channel;
 *     shmlink_map_own(&channel, own_ring_fd, doorbell_fd);   // while it is still writable
 *     …tell the broker (mapped), which hands it on; with libwayland-client, wl_display_flush()…
 *     shmlink_map_peer(&channel, peer_ring_fd);              // checks seals, size and header before it maps
 *     shmlink_send(&channel, "hello", 5, 0, -1);
 *     char buffer[100];
 *     long length = shmlink_receive(&channel, buffer, sizeof buffer, NULL, -1);
 *     shmlink_close(&channel);
 *
 * The other side may be hostile: everything it wrote is read once, checked, and only then used; what cannot be true
 * ends the channel with SHMLINK_BROKEN, and the ring is not touched any more. A channel belongs to one thread at a time.
 * Functions return a value >= 0 or one of the negative numbers below. A timeout is in milliseconds: -1 waits as long as
 * it takes, 0 does not wait. Every descriptor stays the caller's; close both rings' once they are mapped.
 */
#ifndef SHMLINK_H
#define SHMLINK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "A ring is little-endian, and so must be the machine"
#endif

enum {
  SHMLINK_AGAIN = -1,    /* no message, no room, or the time was up: call again, with the same buffer */
  SHMLINK_END = -2,      /* everything was received, and the peer has said that no more will come */
  SHMLINK_GONE = -3,     /* the peer is not there any more; what it had published was received */
  SHMLINK_BROKEN = -4,   /* the peer broke the rules: see what and value */
  SHMLINK_TOO_LONG = -5, /* a message longer than the buffer was received and is lost, or one to send is too long */
  SHMLINK_CLOSED = -6,   /* after shmlink_close(), or to send after shmlink_end() */
  SHMLINK_REFUSED = -7,  /* the file is no ring of this channel, or not sealed: see what and value */
  SHMLINK_SYSTEM = -8,   /* a system call failed: see errno and what */
  SHMLINK_ONE_WAY = -9   /* the channel has no ring for this direction: see own_capacity and peer_capacity */
};

#define SHMLINK_HEADER_BYTES 4096u
#define SHMLINK_DATA_OFFSET 8192u
#define SHMLINK_RECORD_HEADER 8u
#define SHMLINK_MAX_MESSAGE (1u << 28)
#define SHMLINK_RECORDS_A_CALL 4096u /* of a message without an end that a call takes which does not wait */
#define SHMLINK_SPIN_US 80u /* about what falling asleep and being woken by another processor cost */

/* Places in the control page, from the start of the file. */
enum {
  SHMLINK_TAIL = 4096,
  SHMLINK_HEAD = 4224,
  SHMLINK_DATA_WAKE = 4352,
  SHMLINK_SPACE_WAKE = 4480,
  SHMLINK_STATE = 4608,
  SHMLINK_BYTES = 4864,
  SHMLINK_MESSAGES = 4872,
  SHMLINK_DATA_WAKEUPS = 4880,
  SHMLINK_SPACE_WAKEUPS = 4888,
  SHMLINK_DROPPED = 4896,
  SHMLINK_SKIPPED = 4904,
  SHMLINK_HUGE = 4912
};

enum { SHMLINK_FIRST = 1, SHMLINK_LAST = 2, SHMLINK_WHOLE = 3, SHMLINK_PAD = 4 };
enum { SHMLINK_WAKE_ARMED = 1, SHMLINK_WAKE_GONE = 2, SHMLINK_FINISHED = 1 };

/* F_SEAL_SEAL, SHRINK, GROW and FUTURE_WRITE, which old headers lack. */
#define SHMLINK_SEALS (0x1 | 0x2 | 0x4 | 0x10)
#ifndef F_GET_SEALS
#define F_GET_SEALS 1034
#endif

/* Where a test wants to stop or delay; nothing else. */
#ifndef SHMLINK_STEP
#define SHMLINK_STEP(name) ((void)0)
#endif

struct shmlink_spin {
  uint32_t max_us, budget_us, waits;
};

/* To be read, not written, except spin.max_us: 0 never looks before sleeping. */
struct shmlink_channel {
  uint32_t channel_id, side;
  uint32_t own_capacity, peer_capacity; /* 0: we only receive; we only send */
  unsigned char *own;
  const unsigned char *peer;
  int doorbell;
  const char *what; /* after an error: what was wrong */
  uint32_t value;   /* and the value as it was read */
  bool broken, closed, finished, hung_up, peer_gone;
  struct shmlink_spin spin;
  uint32_t useless_wakes, rest_ms; /* of a peer that rings for nothing */
  uint64_t progress_when_woken;

  uint32_t tail, tail_published, peer_head, data_rung; /* producing */
  uint32_t reserved_length;
  uint16_t reserved_type;
  bool reserved, space_armed;
  size_t sent; /* of a message of several records that shmlink_send() is in the midst of */

  uint32_t head, head_published, peer_tail, space_rung; /* consuming */
  bool record_open, in_message, data_armed, discarding;
  size_t gathered;
  uint16_t message_type;
  uint32_t record_length, record_bytes; /* of the record that shmlink_peek() found */
  uint16_t record_type, record_flags;
  const unsigned char *record_data;
};

/* What the peer has published, in place. */
struct shmlink_record {
  const void *data; /* in the peer's memory: it may change while it is read. Copy, then check the copy */
  uint32_t length;
  uint16_t type;
  bool first, last; /* of its message */
};

static inline const char *shmlink_describe(int error) {
  switch (error) {
  case SHMLINK_AGAIN: return "nothing there, no room, or the time was up";
  case SHMLINK_END: return "the peer has finished";
  case SHMLINK_GONE: return "the peer has gone";
  case SHMLINK_BROKEN: return "the peer broke the rules of the ring";
  case SHMLINK_TOO_LONG: return "the message is too long";
  case SHMLINK_CLOSED: return "the channel was closed";
  case SHMLINK_REFUSED: return "the file is no sealed ring of this channel";
  case SHMLINK_SYSTEM: return "a system call failed";
  case SHMLINK_ONE_WAY: return "the channel is one-way, and this is the other way";
  default: return "no error";
  }
}

/* Memory. The peer's words are loaded, never stored: its file is mapped for reading. */

static inline uint32_t shmlink__load(const unsigned char *file, uint32_t at, memory_order order) {
  return atomic_load_explicit((const _Atomic uint32_t *)(const void *)(file + at), order);
}

static inline void shmlink__store(unsigned char *file, uint32_t at, uint32_t value) {
  atomic_store_explicit((_Atomic uint32_t *)(void *)(file + at), value, memory_order_seq_cst);
}

static inline void shmlink__put_word(unsigned char *file, uint32_t at, uint32_t value) {
  atomic_store_explicit((_Atomic uint32_t *)(void *)(file + at), value, memory_order_relaxed);
}

/* A total for listings: low word, high word, plain. */
static inline void shmlink__count(struct shmlink_channel *c, uint32_t at, uint32_t amount) {
  uint32_t before = shmlink__load(c->own, at, memory_order_relaxed);
  if (before + amount < before)
    shmlink__put_word(c->own, at + 4, shmlink__load(c->own, at + 4, memory_order_relaxed) + 1);
  shmlink__put_word(c->own, at, before + amount);
}

static inline int shmlink__fail(struct shmlink_channel *c, int error, const char *what, uint32_t value) {
  c->what = what;
  c->value = value;
  if (error == SHMLINK_BROKEN) c->broken = true;
  return error;
}

static inline int64_t shmlink__now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* -1: never */
static inline int64_t shmlink__deadline(int timeout_ms) {
  return timeout_ms < 0 ? -1 : shmlink__now_us() + (int64_t)timeout_ms * 1000;
}

static inline int shmlink__left_ms(int64_t deadline) {
  if (deadline < 0) return -1;
  int64_t left = (deadline - shmlink__now_us() + 999) / 1000;
  return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

/* Doorbell */

static inline void shmlink__ring(struct shmlink_channel *c) {
  if (c->hung_up) return;
  ssize_t sent;
  do {
    sent = send(c->doorbell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  /* A full socket is a bell that rings already. */
  if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) c->hung_up = true;
}

/* After a few wake-ups in a row that led to nothing the doorbell is left alone for a while, longer each time, so that a
   peer that floods it costs some sixty turns a second and not a processor. */
static inline void shmlink__note_wake(struct shmlink_channel *c) {
  uint64_t progress = ((uint64_t)c->head << 32) + c->tail + c->peer_head;
  c->useless_wakes = progress == c->progress_when_woken ? c->useless_wakes + 1 : 0;
  c->progress_when_woken = progress;
  c->rest_ms = c->useless_wakes <= 16 ? 0 : c->useless_wakes > 20 ? 16 : 1u << (c->useless_wakes - 17);
}

/* For an event loop, after shmlink_drain(): milliseconds for which not to watch the doorbell, except for its hang-up, because
   the peer rings and rings for nothing; 0 for every honest one. */
static inline int shmlink_rest_ms(const struct shmlink_channel *c) { return (int)c->rest_ms; }

/* Takes the bytes that rang, for an event loop that watches the doorbell; a bounded number of reads. What does not wait
   (timeout 0) learns only here that the peer has gone. */
static inline void shmlink_drain(struct shmlink_channel *c) {
  char sink[4096];
  shmlink__note_wake(c);
  for (int reads = 0; reads < 4 && !c->closed && !c->hung_up; reads++) {
    ssize_t got = recv(c->doorbell, sink, sizeof sink, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno == ECONNRESET)) c->hung_up = true;
    if (got < (ssize_t)sizeof sink) break;
  }
}

/* 1: it rang or hung up; SHMLINK_AGAIN: the time was up, or a signal came; SHMLINK_SYSTEM */
static inline int shmlink__sleep(struct shmlink_channel *c, int timeout_ms) {
  struct pollfd bell = {c->doorbell, POLLIN | 0x2000 /* POLLRDHUP */, 0};
  int ready = poll(&bell, 1, timeout_ms);
  if (ready < 0 && errno != EINTR) return shmlink__fail(c, SHMLINK_SYSTEM, "poll", (uint32_t)errno);
  if (ready <= 0) return SHMLINK_AGAIN;
  if (bell.revents & POLLNVAL) return shmlink__fail(c, SHMLINK_SYSTEM, "the doorbell is closed", EBADF);
  shmlink_drain(c);
  if (c->rest_ms > 0 && !c->hung_up) {
    bell.events = 0x2000; /* deaf to what rings */
    poll(&bell, 1, timeout_ms >= 0 && (uint32_t)timeout_ms < c->rest_ms ? timeout_ms : (int)c->rest_ms);
  }
  return 1;
}

/* Looking before sleeping: the budget grows while it pays and shrinks while it does not. */

static inline void shmlink__pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static inline bool shmlink__spin(struct shmlink_channel *c, bool (*ready)(struct shmlink_channel *, uint32_t),
                                 uint32_t argument) {
  struct shmlink_spin *spin = &c->spin;
  if (spin->max_us == 0) return ready(c, argument);
  for (int check = 0; check < 64; check++)
    if (ready(c, argument)) return true;
  uint32_t budget = ++spin->waits % 8 == 0 ? spin->max_us : spin->budget_us; /* every eighth time it tries for long */
  int64_t end = shmlink__now_us() + budget;
  do {
    for (int check = 0; check < 64; check++) {
      if (ready(c, argument)) {
        spin->budget_us = spin->budget_us * 4 > spin->max_us ? spin->max_us : spin->budget_us * 4;
        return true;
      }
      shmlink__pause();
    }
  } while (shmlink__now_us() < end);
  spin->budget_us = spin->budget_us / 2 < spin->max_us / 16 ? spin->max_us / 16 : spin->budget_us / 2;
  return false;
}

/* Mapping */

/* Reads the header of a file whose size is checked first; one copy of it, with read(2), so that nothing can SIGBUS. A
   capacity of 0 is that of a side which only receives: its file ends after the control page. */
static inline int shmlink__header(struct shmlink_channel *c, int fd, uint32_t words[8]) {
  struct stat file;
  if (fstat(fd, &file) != 0) return shmlink__fail(c, SHMLINK_SYSTEM, "fstat", (uint32_t)errno);
  if (!S_ISREG(file.st_mode)) return shmlink__fail(c, SHMLINK_REFUSED, "file type", file.st_mode);
  if (file.st_size < (off_t)SHMLINK_DATA_OFFSET)
    return shmlink__fail(c, SHMLINK_REFUSED, "file size", (uint32_t)file.st_size);
  if (pread(fd, words, 32, 0) != 32) return shmlink__fail(c, SHMLINK_SYSTEM, "pread", (uint32_t)errno);
  if (words[0] != 0x4b4c4853u) return shmlink__fail(c, SHMLINK_REFUSED, "magic", words[0]);
  if (words[1] != 1) return shmlink__fail(c, SHMLINK_REFUSED, "layout version", words[1]);
  if (words[3] > 1) return shmlink__fail(c, SHMLINK_REFUSED, "side", words[3]);
  uint32_t capacity = words[4];
  if (capacity != 0 && (capacity < 4096 || capacity > 1u << 30 || (capacity & (capacity - 1)) != 0))
    return shmlink__fail(c, SHMLINK_REFUSED, "capacity", capacity);
  if (words[5] != SHMLINK_HEADER_BYTES) return shmlink__fail(c, SHMLINK_REFUSED, "control offset", words[5]);
  if (words[6] != SHMLINK_DATA_OFFSET) return shmlink__fail(c, SHMLINK_REFUSED, "data offset", words[6]);
  if (words[7] != 0) return shmlink__fail(c, SHMLINK_REFUSED, "doorbell kind", words[7]);
  if (file.st_size != (off_t)SHMLINK_DATA_OFFSET + capacity)
    return shmlink__fail(c, SHMLINK_REFUSED, "file size", (uint32_t)file.st_size);
  return 0;
}

/* Maps our own ring, which must not be sealed against writing yet, and seals it. @return 0, SHMLINK_REFUSED, SHMLINK_SYSTEM */
static inline int shmlink_map_own(struct shmlink_channel *c, int own_fd, int doorbell_fd) {
  memset(c, 0, sizeof *c);
  c->doorbell = doorbell_fd;
  uint32_t words[8];
  int error = shmlink__header(c, own_fd, words);
  if (error < 0) return error;
  void *own = mmap(NULL, SHMLINK_DATA_OFFSET + (size_t)words[4], PROT_READ | PROT_WRITE, MAP_SHARED, own_fd, 0);
  if (own == MAP_FAILED) return shmlink__fail(c, SHMLINK_SYSTEM, "mmap", (uint32_t)errno);
  c->own = own;
  c->own_capacity = words[4]; /* shmlink_close() unmaps as much, also when there is no more than this */
  if (fcntl(own_fd, F_ADD_SEALS, SHMLINK_SEALS) < 0) return shmlink__fail(c, SHMLINK_SYSTEM, "seals", (uint32_t)errno);
  c->channel_id = words[2];
  c->side = words[3];
  c->spin.max_us = c->spin.budget_us = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? SHMLINK_SPIN_US : 0;
  c->tail = c->tail_published = c->peer_head = shmlink__load(c->own, SHMLINK_TAIL, memory_order_relaxed);
  c->head = c->head_published = c->peer_tail = shmlink__load(c->own, SHMLINK_HEAD, memory_order_relaxed);
  return 0;
}

/* Checks the seals, the size and the header of the other side's ring, then maps it for reading: the channel is
   complete. @return 0, SHMLINK_REFUSED, SHMLINK_SYSTEM */
static inline int shmlink_map_peer(struct shmlink_channel *c, int peer_fd) {
  int seals = fcntl(peer_fd, F_GET_SEALS);
  if (seals < 0) return shmlink__fail(c, SHMLINK_REFUSED, "file carries no seals", (uint32_t)errno);
  if ((seals & SHMLINK_SEALS) != SHMLINK_SEALS) return shmlink__fail(c, SHMLINK_REFUSED, "seals", (uint32_t)seals);
  uint32_t words[8];
  int error = shmlink__header(c, peer_fd, words);
  if (error < 0) return error;
  /* 0: made before its channel was known */
  if (words[2] != 0 && words[2] != c->channel_id) return shmlink__fail(c, SHMLINK_REFUSED, "channel id", words[2]);
  if (words[2] != 0 && words[3] == c->side) return shmlink__fail(c, SHMLINK_REFUSED, "side", words[3]);
  if (words[4] == 0 && c->own_capacity == 0) return shmlink__fail(c, SHMLINK_REFUSED, "capacity of both sides", 0);
  void *peer = mmap(NULL, SHMLINK_DATA_OFFSET + (size_t)words[4], PROT_READ, MAP_SHARED, peer_fd, 0);
  if (peer == MAP_FAILED) return shmlink__fail(c, SHMLINK_SYSTEM, "mmap", (uint32_t)errno);
  c->peer = peer;
  c->peer_capacity = words[4];
  return 0;
}

static inline int shmlink__usable(const struct shmlink_channel *c) {
  if (c->closed || c->peer == NULL) return SHMLINK_CLOSED;
  return c->broken ? SHMLINK_BROKEN : 0;
}

/* Producing */

static inline uint32_t shmlink_max_record(const struct shmlink_channel *c) {
  return c->own_capacity == 0 ? 0 : c->own_capacity / 2 - 8;
}

/* As shmlink__usable(), for what puts something into our ring. */
static inline int shmlink__sendable(const struct shmlink_channel *c) {
  int error = shmlink__usable(c);
  return error == 0 && c->own_capacity == 0 ? SHMLINK_ONE_WAY : error;
}

static inline int shmlink__receivable(const struct shmlink_channel *c) {
  int error = shmlink__usable(c);
  return error == 0 && c->peer_capacity == 0 ? SHMLINK_ONE_WAY : error;
}

static inline uint32_t shmlink__record_bytes(uint32_t length) { return (length + 15) & ~7u; }

/* Reads the consumer's position once and believes it only if it can be true. */
static inline int shmlink__read_head(struct shmlink_channel *c) {
  uint32_t head = shmlink__load(c->peer, SHMLINK_HEAD, memory_order_seq_cst);
  bool forward = head - c->peer_head <= c->tail_published - c->peer_head;
  if ((head & 7) != 0 || !forward) return shmlink__fail(c, SHMLINK_BROKEN, "head", head);
  if (c->space_armed && head != c->peer_head) {
    c->space_armed = false;
    shmlink__store(c->own, SHMLINK_SPACE_WAKE, 0);
  }
  c->peer_head = head;
  return 0;
}

/* Bytes of the ring that a record takes now, with the pad record before it. */
static inline uint32_t shmlink__need(const struct shmlink_channel *c, uint32_t length) {
  uint32_t record = shmlink__record_bytes(length);
  uint32_t to_end = c->own_capacity - (c->tail & (c->own_capacity - 1));
  return record > to_end ? record + to_end : record;
}

static inline bool shmlink__fits(const struct shmlink_channel *c, uint32_t length) {
  return shmlink__need(c, length) <= c->own_capacity - (c->tail - c->peer_head);
}

static inline bool shmlink__space_ready(struct shmlink_channel *c, uint32_t length) {
  return shmlink__fits(c, length) || shmlink__read_head(c) < 0 || shmlink__fits(c, length);
}

static inline void shmlink__put_header(struct shmlink_channel *c, uint32_t length, uint32_t type, uint32_t flags) {
  uint32_t at = SHMLINK_DATA_OFFSET + (c->tail & (c->own_capacity - 1));
  shmlink__put_word(c->own, at, length);
  shmlink__put_word(c->own, at + 4, (type & 0xffff) | flags << 16);
}

static inline void *shmlink__reserve(struct shmlink_channel *c, uint32_t length, uint16_t type) {
  if (shmlink__sendable(c) < 0 || c->finished || length > shmlink_max_record(c)) return NULL;
  c->reserved = false; /* an earlier one was never visible, and is given up */
  if (!shmlink__space_ready(c, length) || c->broken) return NULL;
  uint32_t to_end = c->own_capacity - (c->tail & (c->own_capacity - 1));
  if (shmlink__record_bytes(length) > to_end) {
    shmlink__put_header(c, to_end - SHMLINK_RECORD_HEADER, 0, SHMLINK_PAD);
    c->tail += to_end;
  }
  c->reserved = true;
  c->reserved_length = length;
  c->reserved_type = type;
  return c->own + SHMLINK_DATA_OFFSET + (c->tail & (c->own_capacity - 1)) + SHMLINK_RECORD_HEADER;
}

/* Room for a payload of exactly `length` bytes, at most shmlink_max_record(), to be filled in place, then
   shmlink_commit(). NULL when there is none now; shmlink_wait_space() waits. NULL, too, while shmlink_send() has to be
   called again: nothing comes between the records of a message. */
static inline void *shmlink_reserve(struct shmlink_channel *c, uint32_t length, uint16_t type) {
  return c->sent > 0 ? NULL : shmlink__reserve(c, length, type);
}

static inline void shmlink__advance(struct shmlink_channel *c, uint32_t length, uint32_t flags) {
  shmlink__put_header(c, length, c->reserved_type, flags);
  c->reserved = false;
  c->tail += shmlink__record_bytes(length);
  shmlink__count(c, SHMLINK_BYTES, length);
  if (flags & SHMLINK_LAST) shmlink__count(c, SHMLINK_MESSAGES, 1);
}

/* Makes all that was put visible, and rings if the consumer asks for it. @return 0, or why nobody will read it */
static inline int shmlink_publish(struct shmlink_channel *c) {
  int error = shmlink__usable(c);
  if (error < 0) return error;
  if (c->tail != c->tail_published) {
    c->tail_published = c->tail;
    SHMLINK_STEP("before-tail");
    shmlink__store(c->own, SHMLINK_TAIL, c->tail);
    SHMLINK_STEP("after-tail");
    uint32_t wake = shmlink__load(c->peer, SHMLINK_DATA_WAKE, memory_order_seq_cst);
    if (wake & SHMLINK_WAKE_GONE) c->peer_gone = true;
    else if (wake == 0) c->data_rung = 0;
    else if (wake != c->data_rung && (int32_t)(c->tail - (wake & ~7u)) >= 0) {
      c->data_rung = wake;
      shmlink__count(c, SHMLINK_DATA_WAKEUPS, 1);
      shmlink__ring(c);
      SHMLINK_STEP("after-ring");
    }
  }
  return c->peer_gone || c->hung_up ? SHMLINK_GONE : 0;
}

/* Sends the first `length` bytes of what was reserved. @return 0, SHMLINK_GONE, … */
static inline int shmlink_commit(struct shmlink_channel *c, uint32_t length) {
  int error = shmlink__sendable(c);
  if (error < 0) return error;
  if (c->finished) return SHMLINK_CLOSED;
  if (!c->reserved || length > c->reserved_length) return shmlink__fail(c, SHMLINK_TOO_LONG, "commit", length);
  shmlink__advance(c, length, SHMLINK_WHOLE);
  return shmlink_publish(c);
}

/* For an event loop: asks for the doorbell when a payload of `length` bytes has room. @return 1: sleep; 0: try now */
static inline int shmlink_arm_space(struct shmlink_channel *c, uint32_t length) {
  int error = shmlink__sendable(c);
  if (error < 0) return error;
  if ((error = shmlink_publish(c)) < 0) return error;
  if (length > shmlink_max_record(c)) return shmlink__fail(c, SHMLINK_TOO_LONG, "length", length);
  uint32_t wanted = shmlink__need(c, length);
  if (wanted < c->own_capacity / 4) wanted = c->own_capacity / 4; /* not for every few bytes */
  uint32_t threshold = c->tail + wanted - c->own_capacity;
  do {
    if (shmlink__read_head(c) < 0) return SHMLINK_BROKEN;
    c->space_armed = true;
    shmlink__store(c->own, SHMLINK_SPACE_WAKE, (threshold & ~7u) | SHMLINK_WAKE_ARMED);
    SHMLINK_STEP("space-armed");
    if (shmlink__read_head(c) < 0) return SHMLINK_BROKEN;
    bool gone = shmlink__load(c->peer, SHMLINK_DATA_WAKE, memory_order_seq_cst) & SHMLINK_WAKE_GONE;
    if (gone) c->peer_gone = true;
    if (gone || shmlink__fits(c, length)) {
      c->space_armed = false;
      shmlink__store(c->own, SHMLINK_SPACE_WAKE, 0);
      return gone ? SHMLINK_GONE : 0;
    }
  } while (!c->space_armed); /* the head moved, not far enough */
  return 1;
}

static inline int shmlink__wait_space(struct shmlink_channel *c, uint32_t length, int64_t deadline) {
  shmlink_publish(c); /* room comes only from what is seen */
  for (;;) {
    if (shmlink__left_ms(deadline) != 0 && shmlink__spin(c, shmlink__space_ready, length))
      return c->broken ? SHMLINK_BROKEN : 0;
    int armed = shmlink_arm_space(c, length);
    if (armed <= 0) return armed;
    int rung = shmlink__sleep(c, shmlink__left_ms(deadline));
    c->space_armed = false;
    shmlink__store(c->own, SHMLINK_SPACE_WAKE, 0);
    if (rung == SHMLINK_SYSTEM) return rung;
    if (shmlink__space_ready(c, length)) return c->broken ? SHMLINK_BROKEN : 0;
    if (c->hung_up) return SHMLINK_GONE;
    if (shmlink__left_ms(deadline) == 0) return SHMLINK_AGAIN;
  }
}

/* Waits until a payload of `length` bytes has room. @return 0, SHMLINK_AGAIN, SHMLINK_GONE, SHMLINK_BROKEN, … */
static inline int shmlink_wait_space(struct shmlink_channel *c, uint32_t length, int timeout_ms) {
  int error = shmlink__sendable(c);
  if (error < 0) return error;
  if (length > shmlink_max_record(c)) return shmlink__fail(c, SHMLINK_TOO_LONG, "length", length);
  return shmlink__space_ready(c, length) ? (c->broken ? SHMLINK_BROKEN : 0)
                                         : shmlink__wait_space(c, length, shmlink__deadline(timeout_ms));
}

/* Puts one record behind the tail, invisible until shmlink_publish(). @return 0, SHMLINK_AGAIN without room, … */
static inline int shmlink__put(struct shmlink_channel *c, const void *data, uint32_t length, uint16_t type,
                               uint32_t flags) {
  void *place = shmlink__reserve(c, length, type);
  if (place == NULL) return c->broken ? SHMLINK_BROKEN : SHMLINK_AGAIN;
  SHMLINK_STEP("reserved");
  if (length > 0) memcpy(place, data, length);
  SHMLINK_STEP("copied");
  shmlink__advance(c, length, flags);
  return 0;
}

/* The same for a whole message of at most shmlink_max_record() bytes: several, then one shmlink_publish(). */
static inline int shmlink_put(struct shmlink_channel *c, const void *data, uint32_t length, uint16_t type) {
  int error = shmlink__sendable(c);
  if (error < 0) return error;
  if (c->finished) return SHMLINK_CLOSED;
  if (c->sent > 0) return SHMLINK_AGAIN; /* nothing comes between the records of a message */
  if (length > shmlink_max_record(c)) return shmlink__fail(c, SHMLINK_TOO_LONG, "length", length);
  return shmlink__put(c, data, length, type, SHMLINK_WHOLE);
}

/* Bytes of a long message that go into one record: small enough that both sides work at the same time. */
static inline uint32_t shmlink__piece(const struct shmlink_channel *c) {
  uint32_t piece = c->own_capacity / 8 > 2040 ? c->own_capacity / 8 : 2040;
  if (piece > 1u << 18) piece = 1u << 18;
  return piece < shmlink_max_record(c) ? piece : shmlink_max_record(c);
}

/* Sends one message of at most 2^28 bytes. @return 0; SHMLINK_AGAIN when the time was up: call again with the same
   message, part of a long one may be in the ring; SHMLINK_GONE, _BROKEN, _CLOSED, _TOO_LONG, _SYSTEM */
static inline int shmlink_send(struct shmlink_channel *c, const void *data, size_t length, uint16_t type,
                               int timeout_ms) {
  int error = shmlink__sendable(c);
  if (error < 0) return error;
  if (c->finished) return SHMLINK_CLOSED;
  if (c->hung_up || c->peer_gone) return SHMLINK_GONE;
  if (length > SHMLINK_MAX_MESSAGE || c->sent > length)
    return shmlink__fail(c, SHMLINK_TOO_LONG, "length", (uint32_t)length);
  size_t piece = length <= shmlink_max_record(c) ? length : shmlink__piece(c);
  int64_t deadline = timeout_ms > 0 ? shmlink__deadline(timeout_ms) : timeout_ms;
  do {
    size_t left = length - c->sent;
    uint32_t part = (uint32_t)(left < piece ? left : piece);
    uint32_t flags = (c->sent == 0 ? SHMLINK_FIRST : 0) | (part == left ? SHMLINK_LAST : 0);
    while ((error = shmlink__put(c, (const char *)data + c->sent, part, type, flags)) == SHMLINK_AGAIN) {
      if (timeout_ms == 0) return SHMLINK_AGAIN;
      if ((error = shmlink__wait_space(c, part, deadline)) < 0) return error;
    }
    if (error < 0 || (error = shmlink_publish(c)) < 0) return error;
    c->sent += part;
  } while (c->sent < length);
  c->sent = 0;
  return 0;
}

/* Says that nothing more will be sent: the peer receives what is there, then the end. Safe to call twice. */
static inline int shmlink_end(struct shmlink_channel *c) {
  int error = shmlink__usable(c);
  if (error < 0 || c->finished) return error;
  shmlink_publish(c);
  c->finished = true;
  SHMLINK_STEP("before-state");
  shmlink__store(c->own, SHMLINK_STATE, SHMLINK_FINISHED);
  SHMLINK_STEP("after-state");
  if (shmlink__load(c->peer, SHMLINK_DATA_WAKE, memory_order_seq_cst) != 0) shmlink__ring(c);
  return 0;
}

/* Consuming */

static inline void shmlink__publish_head(struct shmlink_channel *c) {
  if (c->head == c->head_published) return;
  c->head_published = c->head;
  SHMLINK_STEP("before-head");
  shmlink__store(c->own, SHMLINK_HEAD, c->head);
  SHMLINK_STEP("after-head");
  uint32_t wake = shmlink__load(c->peer, SHMLINK_SPACE_WAKE, memory_order_seq_cst);
  if (wake == 0) c->space_rung = 0;
  else if ((wake & SHMLINK_WAKE_ARMED) && wake != c->space_rung && (int32_t)(c->head - (wake & ~7u)) >= 0) {
    c->space_rung = wake;
    shmlink__count(c, SHMLINK_SPACE_WAKEUPS, 1);
    shmlink__ring(c);
  }
}

/* @return 1: there are records; 0: none; SHMLINK_BROKEN */
static inline int shmlink__read_tail(struct shmlink_channel *c) {
  uint32_t tail = shmlink__load(c->peer, SHMLINK_TAIL, memory_order_seq_cst);
  if (tail == c->peer_tail) return 0;
  uint32_t used = tail - c->head;
  if ((tail & 7) != 0 || used > c->peer_capacity || used < c->peer_tail - c->head)
    return shmlink__fail(c, SHMLINK_BROKEN, "tail", tail);
  c->peer_tail = tail;
  if (c->data_armed) {
    c->data_armed = false;
    shmlink__store(c->own, SHMLINK_DATA_WAKE, 0);
  }
  return 1;
}

/* Checks a copy of the next record's header. @return 1: open; 0: it was a pad, look on; SHMLINK_BROKEN */
static inline int shmlink__open_record(struct shmlink_channel *c) {
  uint32_t offset = c->head & (c->peer_capacity - 1);
  uint32_t length = shmlink__load(c->peer, SHMLINK_DATA_OFFSET + offset, memory_order_relaxed);
  uint32_t kind = shmlink__load(c->peer, SHMLINK_DATA_OFFSET + offset + 4, memory_order_relaxed);
  uint32_t published = c->peer_tail - c->head, to_end = c->peer_capacity - offset;
  uint32_t room = (published < to_end ? published : to_end) - SHMLINK_RECORD_HEADER;
  /* Compared before any arithmetic that it could overflow. */
  if (length > c->peer_capacity / 2 - 8 || length > room) return shmlink__fail(c, SHMLINK_BROKEN, "length", length);
  uint32_t flags = kind >> 16, bytes = shmlink__record_bytes(length);
  if (flags == SHMLINK_PAD) {
    if (offset + bytes != c->peer_capacity) return shmlink__fail(c, SHMLINK_BROKEN, "length", length);
    c->head += bytes;
    return 0;
  }
  bool first = flags & SHMLINK_FIRST;
  if ((flags & ~(uint32_t)SHMLINK_WHOLE) != 0 || first == c->in_message)
    return shmlink__fail(c, SHMLINK_BROKEN, "flags", flags);
  /* Parts that bring nothing forward could follow one another for ever. */
  if (length == 0 && flags != SHMLINK_WHOLE) return shmlink__fail(c, SHMLINK_BROKEN, "length", length);
  c->record_data = c->peer + SHMLINK_DATA_OFFSET + offset + SHMLINK_RECORD_HEADER;
  c->record_length = length;
  c->record_bytes = bytes;
  c->record_type = kind & 0xffff;
  c->record_flags = (uint16_t)flags;
  c->record_open = true;
  return 1;
}

/* @return 1: a record is open; 0: none now; SHMLINK_END, SHMLINK_BROKEN */
static inline int shmlink__next(struct shmlink_channel *c) {
  if (c->broken) return SHMLINK_BROKEN;
  while (!c->record_open) {
    if (c->head == c->peer_tail) {
      int more = shmlink__read_tail(c);
      if (more == 0) {
        shmlink__publish_head(c);
        if (shmlink__load(c->peer, SHMLINK_STATE, memory_order_seq_cst) != SHMLINK_FINISHED) return 0;
        more = shmlink__read_tail(c); /* published before it finished, after we looked */
        if (more == 0) return c->in_message ? SHMLINK_GONE : SHMLINK_END; /* a part of a message is none */
      }
      if (more < 0) return more;
    }
    if (shmlink__open_record(c) < 0) return SHMLINK_BROKEN;
  }
  return 1;
}

static inline bool shmlink__data_ready(struct shmlink_channel *c, uint32_t unused) {
  (void)unused;
  return shmlink__next(c) != 0;
}

/* For an event loop: asks for the doorbell when there is data. @return 1: sleep; 0: there is some, or the end; < 0 */
static inline int shmlink_arm_data(struct shmlink_channel *c) {
  int error = shmlink__receivable(c);
  if (error < 0) return error;
  shmlink__publish_head(c);
  c->data_armed = true;
  SHMLINK_STEP("before-data-armed");
  shmlink__store(c->own, SHMLINK_DATA_WAKE, (c->head + 8) | SHMLINK_WAKE_ARMED);
  SHMLINK_STEP("data-armed");
  if (shmlink__next(c) == 0) return 1;
  c->data_armed = false;
  shmlink__store(c->own, SHMLINK_DATA_WAKE, 0);
  return c->broken ? SHMLINK_BROKEN : 0;
}

/* @return 1: a record is open; SHMLINK_AGAIN, SHMLINK_END, SHMLINK_GONE, SHMLINK_BROKEN, SHMLINK_SYSTEM */
static inline int shmlink__wait_data(struct shmlink_channel *c, int timeout_ms, int64_t deadline) {
  for (;;) {
    bool was_hung_up = c->hung_up;
    int found = shmlink__next(c);
    if (found != 0) return found;
    if (was_hung_up) return SHMLINK_GONE; /* what it published before it went is visible by now */
    if (timeout_ms == 0) return SHMLINK_AGAIN;
    if (shmlink__spin(c, shmlink__data_ready, 0)) continue;
    int armed = shmlink_arm_data(c);
    if (armed < 0) return armed;
    if (armed == 0 || c->hung_up) continue;
    int left = shmlink__left_ms(deadline);
    int rung = left == 0 ? SHMLINK_AGAIN : shmlink__sleep(c, left);
    c->data_armed = false;
    shmlink__store(c->own, SHMLINK_DATA_WAKE, 0);
    if (rung == SHMLINK_SYSTEM) return rung;
    if (left == 0) return SHMLINK_AGAIN;
  }
}

/* Waits for a record and shows it in place, until shmlink_release(). @return its length, or why there is none */
static inline long shmlink_peek(struct shmlink_channel *c, struct shmlink_record *record, int timeout_ms) {
  int found = shmlink__receivable(c);
  if (found == 0) found = shmlink__wait_data(c, timeout_ms, timeout_ms > 0 ? shmlink__deadline(timeout_ms) : -1);
  if (found < 0) return found;
  record->data = c->record_data;
  record->length = c->record_length;
  record->type = c->record_type;
  record->first = c->record_flags & SHMLINK_FIRST;
  record->last = c->record_flags & SHMLINK_LAST;
  return (long)c->record_length;
}

/* Done with the record. */
static inline void shmlink_release(struct shmlink_channel *c) {
  if (!c->record_open || shmlink__usable(c) < 0) return;
  c->record_open = false;
  c->in_message = !(c->record_flags & SHMLINK_LAST);
  c->head += c->record_bytes;
  SHMLINK_STEP("released");
  if (c->head - c->head_published >= c->peer_capacity / 8) shmlink__publish_head(c);
}

/* Waits for a message and copies it to `buffer`. @param type  may be NULL
   @return its length; SHMLINK_AGAIN when the time was up: call again with the same buffer, part of a long message may be
   in it; SHMLINK_END, _GONE, _BROKEN, _TOO_LONG, _CLOSED, _SYSTEM */
static inline long shmlink_receive(struct shmlink_channel *c, void *buffer, size_t size, uint16_t *type,
                                   int timeout_ms) {
  int found = shmlink__receivable(c);
  if (found < 0) return found;
  int64_t deadline = timeout_ms > 0 ? shmlink__deadline(timeout_ms) : -1;
  for (uint32_t records = 1;; records++) {
    found = shmlink__wait_data(c, timeout_ms, deadline);
    if (found < 0) return found;
    if (c->record_flags & SHMLINK_FIRST) {
      c->gathered = 0;
      c->discarding = false;
      c->message_type = c->record_type;
    }
    size_t total = c->gathered + c->record_length;
    if (total > SHMLINK_MAX_MESSAGE) return shmlink__fail(c, SHMLINK_BROKEN, "message-size", (uint32_t)total);
    if (total > size) c->discarding = true;
    else if (c->record_length > 0) memcpy((char *)buffer + c->gathered, c->record_data, c->record_length);
    c->gathered = total;
    bool last = c->record_flags & SHMLINK_LAST;
    shmlink_release(c);
    if (!last) { /* a peer may send parts for as long as we take them */
      if (timeout_ms == 0 && records >= SHMLINK_RECORDS_A_CALL) return SHMLINK_AGAIN;
      if (timeout_ms > 0 && records % 64 == 0 && shmlink__left_ms(deadline) == 0) return SHMLINK_AGAIN;
      continue;
    }
    if (type != NULL) *type = c->message_type;
    return c->discarding ? shmlink__fail(c, SHMLINK_TOO_LONG, "message", (uint32_t)total) : (long)total;
  }
}

/* Ends our direction, says that nothing will be read any more, hangs up, unmaps. Safe to call twice. The doorbell's
   descriptor has to be closed by the caller. */
static inline void shmlink_close(struct shmlink_channel *c) {
  if (c->closed) return;
  if (c->own != NULL && c->peer != NULL) {
    if (!c->broken) shmlink_end(c);
    shmlink__store(c->own, SHMLINK_DATA_WAKE, SHMLINK_WAKE_GONE);
  }
  c->closed = true;
  shutdown(c->doorbell, SHUT_RDWR);
  if (c->own != NULL) munmap(c->own, SHMLINK_DATA_OFFSET + (size_t)c->own_capacity);
  if (c->peer != NULL) munmap((void *)(uintptr_t)c->peer, SHMLINK_DATA_OFFSET + (size_t)c->peer_capacity);
  c->own = NULL;
  c->peer = NULL;
}

#endif
