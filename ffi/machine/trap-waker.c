/* A thread that interrupts another one, which sleeps in the seccomp listener, when something else has to be done: `others`
 * can be read. While `others` is quiet it costs nothing; where nobody sleeps there it is woken once, and rests then.
 * The signal is SIGURG, which does nothing where nobody handles it, as here; it is handled because only then it interrupts
 * a call. Ours reaches the other thread in that call, or in its wait for what was sent, which trap-path.c makes before it goes
 * on. One that somebody else sends may interrupt any call, as every signal that is handled.
 * compile-entries.ts makes machine code of this file, which is committed: no compiler is there at run time. */
#include "trap-waker.h"

#include "start-thread.h"

enum { SIGURG = 23, POLLIN = 1, EBUSY = 16 };
#define SA_RESTORER 0x4000000ul

/* System calls of x86-64. */
enum { RT_SIGACTION = 13, GETPID = 39, EXIT = 60, FUTEX = 202, GETTID = 186, TGKILL = 234, PPOLL = 271 };

struct action { void (*handler)(int); uint64_t flags; void (*restorer)(void); uint64_t mask; }; /* as the kernel has it */

static void do_nothing(int signal) { (void)signal; }

__attribute__((naked)) static void go_back(void) { __asm__ volatile("mov $15, %eax\n\tsyscall"); }

static int32_t state_of(struct waker *w) { return __atomic_load_n(&w->state, __ATOMIC_SEQ_CST); }

/* It may have looked at everything and not sleep yet: then the signal comes too soon, and another one has to follow. */
static void interrupt(struct waker *w) {
  struct { int64_t seconds, nanoseconds; } again = {0, 1000000};
  __atomic_add_fetch(&w->sent, 1, __ATOMIC_SEQ_CST);
  call(TGKILL, w->process, w->thread, SIGURG, 0, 0, 0);
  __atomic_store_n(&w->state, ASLEEP, __ATOMIC_SEQ_CST);
  call(FUTEX, (long)&w->state, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0); /* it may be awake, and wait for this */
  call(FUTEX, (long)&w->state, FUTEX_WAIT_PRIVATE, ASLEEP, (long)&again, 0, 0);
}

__attribute__((noreturn, noinline)) static void serve(void *state) {
  struct waker *w = state;
  for (int32_t now; (now = state_of(w)) < ENDING;) {
    if (now == RESTING) {
      call(FUTEX, (long)&w->state, FUTEX_WAIT_PRIVATE, RESTING, 0, 0, 0);
      continue;
    }
    struct { int32_t fd; int16_t events, revents; } others = {w->others, POLLIN, 0};
    call(PPOLL, (long)&others, 1, 0, 0, MASK_BYTES, 0);
    if (moves(w, WATCHING, RESTING)) continue;
    if (moves(w, ASLEEP, WAKING)) interrupt(w);
  }
  call(RT_SIGACTION, SIGURG, (long)w->before, 0, MASK_BYTES, 0, 0);
  __atomic_store_n(&w->state, ENDED, __ATOMIC_SEQ_CST);
  call(FUTEX, (long)&w->state, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
  for (;;) call(EXIT, 0, 0, 0, 0, 0, 0);
}

/* @param w  all but `others` zeroes; interrupts the thread that calls @returns the number of the new
 * thread, or -errno: -EBUSY where the signal is blocked */
int32_t trap_waker_start(struct waker *w) {
  struct action ours = {do_nothing, SA_RESTORER, go_back, 0};
  uint64_t blocked = 0;
  call(RT_SIGPROCMASK, SIG_SETMASK, 0, (long)&blocked, MASK_BYTES, 0, 0);
  if ((blocked >> (SIGURG - 1) & 1) != 0) return -EBUSY;
  w->process = call(GETPID, 0, 0, 0, 0, 0, 0);
  w->thread = call(GETTID, 0, 0, 0, 0, 0, 0);
  long result = call(RT_SIGACTION, SIGURG, (long)&ours, (long)w->before, MASK_BYTES, 0, 0);
  if (result < 0) return result;
  result = start_thread(serve, w, w->stack + sizeof w->stack);
  if (result < 0) call(RT_SIGACTION, SIGURG, (long)w->before, 0, MASK_BYTES, 0, 0);
  return result;
}
