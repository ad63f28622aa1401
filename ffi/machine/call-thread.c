/* A thread that makes system calls which may take for ever, so that the one that asks for them never waits. It knows only
 * the table of calls it is given.
 * compile-entries.ts makes machine code of this file, which is committed: no compiler is there at run time. */
#include <stddef.h>
#include <stdint.h>

#include "start-thread.h"

enum { FUTEX_WAIT_PRIVATE = 128, FUTEX_WAKE_PRIVATE = 129 };
#define MAX_CALLS 64

/* System calls of x86-64. */
enum { FUTEX = 202 };

struct record { long number, args[6], result; };

struct thread {
  int32_t busy; /* 1: `count` calls wait to be made; 0: all of them have been. Who sets it to 1 wakes us */
  int32_t count;
  int64_t unused;
  struct record calls[MAX_CALLS];
  char stack[4096] __attribute__((aligned(16)));
};
_Static_assert(offsetof(struct thread, calls) == 16 && sizeof(struct record) == 64, "call-thread.ts");
_Static_assert(sizeof(struct thread) == 8208, "call-thread.ts");

__attribute__((noreturn, noinline)) static void serve(void *state) {
  struct thread *t = state;
  for (;;) {
    while (__atomic_load_n(&t->busy, __ATOMIC_ACQUIRE) == 0) call(FUTEX, (long)&t->busy, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
    for (int i = 0; i < t->count && i < MAX_CALLS; i++) {
      struct record *r = &t->calls[i];
      r->result = call(r->number, r->args[0], r->args[1], r->args[2], r->args[3], r->args[4], r->args[5]);
    }
    __atomic_store_n(&t->busy, 0, __ATOMIC_RELEASE);
    call(FUTEX, (long)&t->busy, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0); /* who waits for the end of it, if anybody */
  }
}

/* @param t  zeroes @returns the number of the thread, or -errno */
int32_t call_thread_start(struct thread *t) { return start_thread(serve, t, t->stack + sizeof t->stack); }
