/* A connect() that ends as the one before it. */
#pragma once
#include "trap-look.h"

/* Binds it to the name of a 4-tuple that nobody has. */
static long bind_name(struct trap_path *s, struct target *to, int fd) {
  char address[2 + sizeof to->head + 12 + sizeof to->tail];
  uint16_t family = AF_UNIX;
  long result = -EADDRINUSE;
  for (int try = 0; try < TRIES && result == -EADDRINUSE; try++) {
    uint32_t at = 2;
    s->next_port = (s->next_port + 1) % s->port_count;
    __builtin_memcpy(address, &family, 2);
    for (uint32_t i = 0; i < to->head_length; i++) address[at++] = to->head[i];
    at += put_decimal(address + at, s->first_port + 2 * s->next_port);
    for (uint32_t i = 0; i < to->tail_length; i++) address[at++] = to->tail[i];
    result = CALL3(BIND, fd, address, at);
  }
  return result;
}

/* @returns a socket that is connected to the target, below 0 for an error */
static long reach(struct trap_path *s, struct target *to) {
  long fd = CALL3(SOCKET, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), result;
  if (fd < 0) return fd;
  CALL5(SETSOCKOPT, fd, SOL_SOCKET, s->buffer_name, &s->buffer_bytes, 4);
  result = bind_name(s, to, fd);
  if (result == 0) do result = CALL3(CONNECT, fd, to->path, to->path_length);
    while (result == -EINTR);
  if (result == 0) return fd;
  CALL3(CLOSE, fd, 0, 0);
  return result;
}

/* ioctl(2) on the seccomp listener, again where a signal of ours came between. */
static long ask(struct trap_path *s, unsigned request, void *about) {
  long result;
  do result = CALL3(IOCTL, s->notify, request, about);
  while (result == -EINTR);
  return result;
}

static int32_t answer(struct trap_path *s, const struct notif *n, int64_t value) {
  struct response response = {n->id, value, 0, 0};
  return ask(s, SEND, &response) == 0;
}

/* Puts `to` in the place of `from`, and closes `from`. @returns LEFT_TO_YOU: neither is done */
static int32_t swap(struct trap_path *s, const struct notif *n, int from, int to, uint32_t flags) {
  struct { uint32_t events; uint64_t data; } __attribute__((packed)) event = {0, 0};
  uint32_t number = n->args[0], slot[3] = {s->epoll, from, 0};
  /* Another thread may have given the number to another file. */
  if (CALL5(KCMP, s->self, n->pid, KCMP_FILE, from, number) != 0) return LEFT_TO_YOU;
  if (CALL5(EPOLL_CTL, s->epoll, EPOLL_CTL_ADD, from, &event, 0) != 0) return LEFT_TO_YOU;
  struct addfd add = {n->id, SETFD, to, number, flags};
  if (ask(s, ADDFD, &add) < 0) {
    CALL5(EPOLL_CTL, s->epoll, EPOLL_CTL_DEL, from, &event, 0);
    return LEFT_TO_YOU;
  }
  CALL3(CLOSE, from, 0, 0);
  s->fd = to;
  /* An epoll set forgets a file with its last descriptor, in whatever process. */
  if (CALL5(KCMP, s->self, s->self, KCMP_EPOLL_TFD, s->epoll, slot) != -ENOENT) {
    s->from = from;
    return STILL_HELD;
  }
  if (!answer(s, n, 0)) return UNANSWERED;
  CALL3(CLOSE, to, 0, 0);
  return SERVED;
}

static int32_t hand_off(struct trap_path *s, const struct notif *n, struct thread *t, struct target *to, int tcp) {
  long flags, fd, on_exec;
  if (!is_plain(s, tcp, &flags) || is_touched(s, tcp) || is_watched(s, t, tcp, n->args[0])) return LEFT_TO_YOU;
  if ((on_exec = close_on_exec(s, t, n->args[0])) < 0 || (fd = reach(s, to)) < 0) return LEFT_TO_YOU;
  if (!(flags & O_NONBLOCK)) CALL3(FCNTL, fd, F_SETFL, 0);
  int32_t result = swap(s, n, tcp, fd, on_exec);
  if (result == LEFT_TO_YOU) CALL3(CLOSE, fd, 0, 0);
  return result;
}

static int32_t serve_connect(struct trap_path *s, const struct notif *n) {
  struct thread *t = find_thread(s, n->pid);
  uint32_t number = n->args[0], length = n->args[2];
  if (t == NULL || t->epoll_count < 0 || number >= MAX_NUMBERS || length < 16 || length > 128) return LEFT_TO_YOU;
  char address[16];
  struct part here = {address, sizeof address}, there = {(void *)n->args[1], sizeof address};
  if (call(PROCESS_VM_READV, n->pid, (long)&here, 1, (long)&there, 1, 0) != sizeof address) return LEFT_TO_YOU;
  struct target *to = find_target(s, address);
  if (to == NULL) return LEFT_TO_YOU;
  long tcp = CALL3(PIDFD_GETFD, t->pidfd, number, 0);
  if (tcp < 0) return LEFT_TO_YOU;
  int32_t result = hand_off(s, n, t, to, tcp);
  if (result == LEFT_TO_YOU) CALL3(CLOSE, tcp, 0, 0);
  return result;
}
