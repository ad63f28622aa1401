/* A connect() that ends as the one before it. */
#pragma once
#include "trap-reach.h"
#include "trap-survey.h"

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

/* @param file  what says of the number what it means now @returns its flags, O_CLOEXEC among them; -1 where it means
 * another file than `socket`: another thread may have given it to one. Two files that are there at a time have different
 * inodes, as long as one of them is a socket. */
static long read_flags(int file, int socket) {
  struct status status;
  struct info info = {0, 0};
  if (CALL3(FSTAT, socket, &status, 0) != 0 || !read_info(file, &info)) return -1;
  return info.inode == status.inode ? info.flags : -1;
}

/* Puts `to` in the place of `from`, and closes `from`. @returns LEFT_TO_YOU: neither is done */
static int32_t swap(struct trap_path *s, const struct notif *n, int from, int to, uint32_t flags) {
  struct event event = {0, 0};
  uint32_t number = n->args[0];
  if (CALL5(EPOLL_CTL, s->epoll, EPOLL_CTL_ADD, from, &event, 0) != 0) return LEFT_TO_YOU;
  struct addfd add = {n->id, SETFD, to, number, flags};
  if (ask(s, ADDFD, &add) < 0) {
    CALL5(EPOLL_CTL, s->epoll, EPOLL_CTL_DEL, from, &event, 0);
    return LEFT_TO_YOU;
  }
  CALL3(CLOSE, from, 0, 0);
  s->fd = to;
  /* An epoll set forgets a file with its last descriptor, in whatever process. Until then a TCP socket that is not
   * connected has EPOLLHUP, asked for or not, and nothing else is in that set. */
  if (CALL5(EPOLL_WAIT, s->epoll, &event, 1, 0, 0) != 0) {
    s->from = from;
    return STILL_HELD;
  }
  if (!answer(s, n, 0)) return UNANSWERED;
  CALL3(CLOSE, to, 0, 0);
  return SERVED;
}

/* @param file  of read_flags(); is `*is_read` when that could be used, or was not needed */
static int32_t exchange(struct trap_path *s, const struct notif *n, struct target *to, int tcp, int file, int *is_read) {
  long flags, fd;
  if (!is_plain(s, tcp) || (fd = reach(s, to)) < 0) return LEFT_TO_YOU;
  *is_read = (flags = read_flags(file, tcp)) >= 0; /* as late as can be */
  if (*is_read && (flags & SET_FLAGS) != O_NONBLOCK) CALL3(FCNTL, fd, F_SETFL, flags);
  int32_t result = *is_read ? swap(s, n, tcp, fd, flags & O_CLOEXEC) : LEFT_TO_YOU;
  if (result == LEFT_TO_YOU) CALL3(CLOSE, fd, 0, 0);
  return result;
}

static int32_t hand_off(struct trap_path *s, const struct notif *n, struct thread *t, struct target *to, int tcp) {
  uint32_t number = n->args[0];
  int is_read = 1;
  if (is_touched(s, tcp)) return LEFT_TO_YOU;
  renew_epolls(s, t, tcp);
  if (is_watched(s, t, tcp, number)) return LEFT_TO_YOU;
  long file = hold_info(t, number); /* first: who has no descriptor left for it has not connected in vain */
  if (file < 0) return LEFT_TO_YOU;
  int32_t result = exchange(s, n, to, tcp, file, &is_read);
  keep_info(s, t, number, file, is_read);
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
