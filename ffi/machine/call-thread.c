/* A thread that makes system calls which may take for ever, so that the one that asks for them never waits. It shares
 * memory and descriptors with the process and nothing with its runtime or its C library: it has a stack of its own, no
 * thread-local storage, every signal blocked, and knows only the table of calls it is given.
 * compile-entries.ts makes machine code of this file, which is committed: no compiler is there at run time. */
#include <stddef.h>
#include <stdint.h>

#include "system-call.h"

enum { FUTEX_WAIT_PRIVATE = 128, FUTEX_WAKE_PRIVATE = 129 };
enum { SIG_SETMASK = 2, MASK_BYTES = 8 };
/* CLONE_VM, FS, FILES, SIGHAND, THREAD and SYSVSEM */
#define FLAGS 0x50f00l
#define MAX_CALLS 64

/* System calls of x86-64. */
enum { RT_SIGPROCMASK = 14, CLONE = 56, FUTEX = 202 };

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

__attribute__((noreturn, noinline)) static void serve(struct thread *t) {
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

/* The new thread begins on its own stack, with our signal mask, and never comes back from serve(). */
static long start(struct thread *t) {
  long result;
  register long r10 __asm__("r10") = 0;
  register long r8 __asm__("r8") = 0;
  __asm__ volatile("syscall\n\t"
                   "test %%rax, %%rax\n\t"
                   "jnz 1f\n\t"
                   "mov %[thread], %%rdi\n\t"
                   "call *%[serve]\n\t"
                   "ud2\n"
                   "1:"
                   : "=a"(result)
                   : "a"(CLONE), "D"(FLAGS), "S"(t->stack + sizeof t->stack), "d"(0), "r"(r10), "r"(r8),
                     [thread] "r"(t), [serve] "r"(serve)
                   : "rcx", "r11", "memory");
  return result;
}

/* @param t  zeroes @returns the number of the thread, or -errno */
int32_t call_thread_start(struct thread *t) {
  uint64_t all = ~0ul, before = 0;
  long result = call(RT_SIGPROCMASK, SIG_SETMASK, (long)&all, (long)&before, MASK_BYTES, 0, 0);
  if (result < 0) return (int32_t)result;
  result = start(t);
  call(RT_SIGPROCMASK, SIG_SETMASK, (long)&before, 0, MASK_BYTES, 0, 0);
  return (int32_t)result;
}
