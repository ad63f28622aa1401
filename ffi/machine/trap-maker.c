/* A thread that makes sockets for those who connect, so many at a time, while the last ones are used. It runs on any processor
 * but theirs, where nothing would be won; who finds none made makes one himself.
 * compile-entries.ts makes machine code of this file, which is committed: no compiler is there at run time. */
#include "trap-maker.h"

#include "start-thread.h"

enum { AF_UNIX = 1, SOCK_STREAM = 1, SOCK_NONBLOCK = 04000, SOCK_CLOEXEC = 02000000, SOL_SOCKET = 1 };
enum { FUTEX_WAIT_PRIVATE = 128, FUTEX_WAKE_PRIVATE = 129 };

/* System calls of x86-64. */
enum { CLOSE = 3, SOCKET = 41, BIND = 49, SETSOCKOPT = 54, EXIT = 60, FUTEX = 202, SCHED_SETAFFINITY = 203, SCHED_GETAFFINITY = 204 };

/* @returns below 0 for an error: somebody has that name, or there is no room */
static long make(struct maker *m, uint32_t port) {
  char address[NAME_ROOM];
  long fd = call(SOCKET, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, 0, 0, 0);
  if (fd < 0) return fd;
  call(SETSOCKOPT, fd, SOL_SOCKET, m->buffer_name, (long)&m->buffer_bytes, 4, 0);
  long result = call(BIND, fd, (long)address, put_name(address, &m->parts, port), 0, 0, 0);
  if (result == 0) return fd;
  call(CLOSE, fd, 0, 0, 0, 0, 0);
  return result;
}

/* The scheduler would have it where it was woken. Where there is no other processor it stays. */
static void keep_off(struct maker *m) {
  uint64_t others[ALLOWED_BYTES / 8];
  if (m->avoided == m->processor) return;
  m->avoided = m->processor;
  for (uint32_t i = 0; i < ALLOWED_BYTES / 8; i++) others[i] = m->allowed[i];
  if (m->avoided < 8 * ALLOWED_BYTES) others[m->avoided / 64] &= ~(1ul << m->avoided % 64);
  call(SCHED_SETAFFINITY, 0, sizeof others, (long)others, 0, 0, 0);
}

static void move(struct maker *m, int32_t from, int32_t to) {
  __atomic_compare_exchange_n(&m->state, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  call(FUTEX, (long)&m->state, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

__attribute__((noreturn, noinline)) static void serve(void *state) {
  struct maker *m = state;
  m->avoided = -1;
  call(SCHED_GETAFFINITY, 0, sizeof m->allowed, (long)m->allowed, 0, 0, 0);
  for (int32_t now; (now = __atomic_load_n(&m->state, __ATOMIC_SEQ_CST)) != MAKER_ENDING;) {
    if (now == AT_REST) {
      call(FUTEX, (long)&m->state, FUTEX_WAIT_PRIVATE, AT_REST, 0, 0, 0);
      continue;
    }
    keep_off(m);
    for (m->made_count = 0; m->made_count < EACH_TIME; m->made_count++)
      m->made[m->made_count] = make(m, m->ports[m->made_count]);
    move(m, WORKING, AT_REST);
  }
  move(m, MAKER_ENDING, MAKER_ENDED);
  for (;;) call(EXIT, 0, 0, 0, 0, 0, 0);
}

/* @param m  zeroes @returns the number of the thread, or -errno */
int32_t trap_maker_start(struct maker *m) { return start_thread(serve, m, m->stack + sizeof m->stack); }
