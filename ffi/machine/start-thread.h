/* A thread that shares memory and descriptors with the process and nothing with its runtime or its C library: it has a stack
 * of its own, no thread-local storage, and every signal blocked. For x86-64. */
#pragma once
#include <stdint.h>

#include "system-call.h"

enum { SIG_SETMASK = 2, MASK_BYTES = 8 };
/* CLONE_VM, FS, FILES, SIGHAND, THREAD and SYSVSEM */
#define FLAGS 0x50f00l

/* System calls of x86-64. */
enum { RT_SIGPROCMASK = 14, CLONE = 56 };

/* The new thread begins on its own stack, with our signal mask, and never comes back from serve(). */
static long clone_into(void (*serve)(void *), void *state, char *stack_end) {
  long result;
  register long r10 __asm__("r10") = 0;
  register long r8 __asm__("r8") = 0;
  __asm__ volatile("syscall\n\t"
                   "test %%rax, %%rax\n\t"
                   "jnz 1f\n\t"
                   "mov %[state], %%rdi\n\t"
                   "call *%[serve]\n\t"
                   "ud2\n"
                   "1:"
                   : "=a"(result)
                   : "a"(CLONE), "D"(FLAGS), "S"(stack_end), "d"(0), "r"(r10), "r"(r8), [state] "r"(state), [serve] "r"(serve)
                   : "rcx", "r11", "memory");
  return result;
}

/* @returns the number of the thread, or -errno */
static int32_t start_thread(void (*serve)(void *), void *state, char *stack_end) {
  uint64_t all = ~0ul, before = 0;
  long result = call(RT_SIGPROCMASK, SIG_SETMASK, (long)&all, (long)&before, MASK_BYTES, 0, 0);
  if (result < 0) return (int32_t)result;
  result = clone_into(serve, state, stack_end);
  call(RT_SIGPROCMASK, SIG_SETMASK, (long)&before, 0, MASK_BYTES, 0, 0);
  return (int32_t)result;
}
