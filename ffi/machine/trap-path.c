/* The common case of a trapped call in machine code: a connect() that ends as the one before it did, at a listener that
 * TypeScript has found and for a thread that it has looked at; an accept() that finds such a connection; and the names of
 * both ends. The same steps in the same order as lib/wrap/handlers/ and lib/wrap/swap.ts. Whatever is unusual (an option that was set, a socket that is bound, an epoll
 * set that holds it, a refusal) is left before anything of the program has changed, and TypeScript does it from the
 * beginning. One call from TypeScript does the thirty system calls of a connect; for x86-64 alone.
 * compile-entries.ts makes machine code of this file, which is committed: no compiler is there at run time.
 *
 * Nothing here confirms by itself that a call still waits: each answer is given under its id, ids are never used twice,
 * and the kernel refuses one (ENOENT) whose thread went on. What that id waited for is therefore what was looked at. */
#include "trap-accept.h"

/* Takes the next call, which has to be there, and answers it. @returns LEFT_TO_YOU: it is in `notif`; an error below 0 */
int32_t trap_serve(struct trap_path *s) {
  struct notif *n = s->notif;
  for (uint32_t at = 0; at < sizeof *n; at++) ((char *)n)[at] = 0; /* anything else is EINVAL */
  long result = CALL3(IOCTL, s->notify, RECV, n);
  if (result == -ENOENT || result == -EINTR) return GONE;
  if (result < 0) return result;
  if (n->arch != AUDIT_ARCH_X86_64) return LEFT_TO_YOU;
  if (n->nr == CONNECT) return serve_connect(s, n);
  if (n->nr == ACCEPT4) return serve_accept(s, n, n->args[3]);
  if (n->nr == ACCEPT) return serve_accept(s, n, 0);
  return n->nr == GETSOCKNAME || n->nr == GETPEERNAME ? serve_name(s, n, n->nr == GETPEERNAME) : LEFT_TO_YOU;
}
