/* The common case of a trapped call in machine code: a connect() that ends as the one before it did, at a listener that
 * TypeScript has found and for a thread that it has looked at, and that is looked at again here; an accept() that finds such a connection; the names of
 * both ends; and a setsockopt() that only has to be remembered. The same steps in the same order as lib/wrap/handlers/ and lib/wrap/swap.ts. Whatever is unusual (an option that was set, a socket that is bound, an epoll
 * set that holds it, a refusal) is left before anything of the program has changed, and TypeScript does it from the
 * beginning. One call from TypeScript answers one or many; for x86-64 alone.
 * compile-entries.ts makes machine code of this file, which is committed: no compiler is there at run time.
 *
 * Nothing here confirms by itself that a call still waits: each answer is given under its id, ids are never used twice,
 * and the kernel refuses one (ENOENT) whose thread went on. What that id waited for is therefore what was looked at. */
#include "trap-option.h"

/* @returns KINDS for a call that is none of ours */
static int kind_of(const struct notif *n) {
  switch (n->nr) {
    case CONNECT: return 0;
    case ACCEPT4: return 1;
    case ACCEPT: return 2;
    case GETSOCKNAME: return 3;
    case GETPEERNAME: return 4;
    case SETSOCKOPT: return 5;
    default: return KINDS;
  }
}

/* Takes the next call into `notif`: sleeps until there is one.
 * @returns SERVED, GONE where there is none, or an error below 0 */
static int32_t receive(struct trap_path *s) {
  for (uint32_t at = 0; at < sizeof *s->notif; at++) ((char *)s->notif)[at] = 0; /* anything else is EINVAL */
  long result = CALL3(IOCTL, s->notify, RECV, s->notif);
  if (result == -ENOENT || result == -EINTR) return GONE;
  return result < 0 ? result : SERVED;
}

/* Answers the call in `notif`. */
static int32_t serve_received(struct trap_path *s) {
  struct notif *n = s->notif;
  if (n->arch != AUDIT_ARCH_X86_64) return LEFT_TO_YOU;
  int kind = kind_of(n);
  if (kind == 0) return serve_connect(s, n);
  if (kind == 1) return serve_accept(s, n, n->args[3]);
  if (kind == 2) return serve_accept(s, n, 0);
  if (kind == 5) return serve_option(s, n);
  return kind < KINDS ? serve_name(s, n, kind == 4) : LEFT_TO_YOU;
}

static void note(struct trap_path *s, uint64_t took) {
  int kind = kind_of(s->notif);
  struct count *c = &s->kinds[kind];
  c->times++;
  c->ticks += took;
  if (took > c->longest) c->longest = took;
  if (s->target < 0) return;
  if (kind == 0) {
    s->reached[s->target]++;
    return;
  }
  uint64_t *counters = s->counters[s->target];
  if (counters == NULL) return;
  counters[UNIX]++;
  counters[TRAPS]++;
  counters[TRAP_NS] += took * s->ns_each_tick >> 32;
}

/* Sleeps in poll(2). Without a time limit: a timer that is set for each call costs as much as ten other calls do.
 * @returns whether another call is there, and nothing else is to be done */
static int is_called(struct trap_path *s) {
  struct { int32_t fd; int16_t events, revents; } both[2] = {{s->notify, 1, 0}, {s->others, 1, 0}};
  return CALL5(PPOLL, both, 2, 0, 0, 8) > 0 && both[0].revents == 1 && both[1].revents == 0;
}

static uint32_t sent_by(struct waker *w) { return __atomic_load_n(&w->sent, __ATOMIC_SEQ_CST); }

/* After a sleep in the listener: the waker's signals are behind us when this is over. @returns whether it sent one */
static int was_woken(struct waker *w, uint32_t sent) {
  for (int times = 0; !moves(w, ASLEEP, WATCHING); times++) { /* it sends one now */
    if (times < MOST_YIELDS) CALL3(SCHED_YIELD, 0, 0, 0);
    else CALL3(FUTEX, &w->state, FUTEX_WAIT_PRIVATE, WAKING); /* it may have to wait for us: we have another priority */
  }
  if (sent_by(w) == sent) return 0;
  CALL3(GETPID, 0, 0, 0); /* a signal that is pending is delivered at the end of this, at the latest */
  moves(w, WATCHING, RESTING);
  w->calm = 0;
  return 1;
}

/* Sleeps until another call is there, in the listener itself if the waker watches: that is one system call less, and the cheaper
 * sleep. It is told to when there was nothing else to do for a while.
 * @returns SERVED: it is in `notif`; GONE: something else is to be done, or may be; or an error below 0 */
static int32_t sleep_for_next(struct trap_path *s, int *is_last) {
  struct waker *w = s->waker;
  uint32_t sent = w == NULL ? 0 : sent_by(w); /* it sends nothing before we are ASLEEP */
  if (w != NULL && moves(w, WATCHING, ASLEEP)) {
    int32_t result = receive(s);
    *is_last = was_woken(w, sent);
    return result;
  }
  if (!is_called(s)) {
    if (w != NULL) w->calm = 0;
    return GONE;
  }
  if (w != NULL && ++w->calm >= CALM) {
    w->calm = 0;
    if (moves(w, RESTING, WATCHING)) CALL3(FUTEX, &w->state, FUTEX_WAKE_PRIVATE, 1);
  }
  return receive(s);
}

/* Takes the next call, which has to be there unless `is_received`, and answers it; then those that come while nothing else
 * is to be done.
 * @returns LEFT_TO_YOU and so on: of the last one, which is in `notif` and not counted; SERVED: all; LATE: all but one, which
 * came too late, and is_received; an error below 0 */
int32_t trap_serve(struct trap_path *s) {
  uint64_t first = ticks(), start = first;
  int is_last = 0;
  int32_t result = s->is_received ? SERVED : receive(s);
  s->is_received = 0;
  for (int times = 1; result == SERVED; times++) {
    result = serve_received(s);
    s->since = ticks() - start;
    if (result != SERVED) break;
    note(s, s->since);
    if (is_last || times == MOST_AT_ONCE || s->most_ticks == 0) break;
    result = sleep_for_next(s, &is_last);
    if (result != SERVED) {
      if (result == GONE) result = SERVED;
      break;
    }
    start = ticks();
    if (start - first >= s->most_ticks) {
      s->is_received = 1;
      result = LATE;
    }
  }
  s->passed = ticks() - first;
  return result;
}
