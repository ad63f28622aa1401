/* A setsockopt() of what programs set seldom, and the kernel does: that it was set is remembered. */
#pragma once
#include "trap-accept.h"

static int is_connected(int fd) {
  char name[128];
  uint32_t room = sizeof name;
  return CALL3(GETPEERNAME, fd, name, &room) == 0;
}

/* @returns 0 where there is no room */
static int touch(struct trap_path *s, int fd) {
  uint64_t cookie, *place;
  uint32_t length = sizeof cookie;
  if (CALL5(GETSOCKOPT, fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) return 0;
  if (*(place = place_of(s, cookie)) == cookie) return 1;
  if (s->noted_count == MAX_NOTED || s->touched_count >= MOST_COOKIES) return 0;
  *place = s->noted[s->noted_count++] = cookie;
  s->touched_count++;
  return 1;
}

/* Remembers a socket that may still connect. What is connected may not, unless connect() with AF_UNSPEC comes first, which
 * TypeScript sees. @returns 0 where TypeScript has to: a Unix socket that is not connected may be a listener of ours */
static int note_option(struct trap_path *s, int fd) {
  int32_t protocol;
  uint32_t length = sizeof protocol;
  if (is_connected(fd) || CALL5(GETSOCKOPT, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) != 0) return 1;
  return protocol == IPPROTO_TCP ? touch(s, fd) : protocol != 0;
}

static int is_noted(struct trap_path *s, uint32_t level, uint32_t name) {
  return level == SOL_SOCKET && name < 64 && (s->noted_options >> name & 1);
}

static int32_t serve_option(struct trap_path *s, const struct notif *n) {
  struct thread *t = find_thread(s, n->pid);
  if (t == NULL || !is_noted(s, n->args[1], n->args[2])) return LEFT_TO_YOU;
  long fd = CALL3(PIDFD_GETFD, t->pidfd, (int32_t)n->args[0], 0);
  if (fd < 0) return LEFT_TO_YOU;
  int is_done = note_option(s, fd);
  CALL3(CLOSE, fd, 0, 0);
  struct response response = {n->id, 0, 0, LET_THROUGH};
  if (!is_done || ask(s, SEND, &response) != 0) return LEFT_TO_YOU;
  s->target = -1;
  return SERVED;
}
