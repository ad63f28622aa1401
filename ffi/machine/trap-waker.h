/* What a thread that may sleep in the seccomp listener shares with the one that interrupts it (trap-waker.c). */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* WATCHING and ASLEEP: the waker sleeps until `others` can be read. It goes from WATCHING to RESTING when that was so, and
 * from ASLEEP to WAKING and back while it sends its signal, which the other thread may wait for; all else is done by that
 * thread. ffi/trap/waker.ts repeats it. */
enum { RESTING = 0, WATCHING = 1, ASLEEP = 2, WAKING = 3, ENDING = 4, ENDED = 5 };
enum { FUTEX_WAIT_PRIVATE = 128, FUTEX_WAKE_PRIVATE = 129 };

struct waker {
  int32_t state;
  uint32_t sent;           /* how often the signal was sent */
  int32_t process, thread; /* 8: whom it interrupts */
  int32_t others, calm;    /* 16; the other thread's: so many calls in a row found nothing else to do */
  uint64_t unused;
  char before[32]; /* what the signal did */
  char stack[4096] __attribute__((aligned(16)));
};
_Static_assert(offsetof(struct waker, others) == 16 && sizeof(struct waker) == 4160, "ffi/trap/waker.ts");

static inline int moves(struct waker *w, int32_t from, int32_t to) {
  return __atomic_compare_exchange_n(&w->state, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
