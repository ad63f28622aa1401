/* What is known of a trapped call's thread and socket, and what is looked up. */
#pragma once
#include "trap-state.h"

static inline int same(const char *a, const char *b, uint32_t length) {
  for (uint32_t at = 0; at < length; at++)
    if (a[at] != b[at]) return 0;
  return 1;
}

static struct thread *find_thread(struct trap_path *s, int32_t tid) {
  for (int i = 0; tid != 0 && i < MAX_THREADS; i++)
    if (s->threads[i].tid == tid) return &s->threads[i];
  return NULL;
}

static struct target *find_target(struct trap_path *s, const char *address) {
  for (int i = 0; i < MAX_TARGETS; i++)
    if (s->targets[i].used && same(s->targets[i].key, address, 8)) return s->target = i, &s->targets[i];
  return NULL;
}

/* @returns where a cookie is in the table, or would be */
static uint64_t *place_of(struct trap_path *s, uint64_t cookie) {
  uint64_t at = cookie * 0x9e3779b97f4a7c15 >> (64 - COOKIE_BITS);
  while (s->touched[at] != 0 && s->touched[at] != cookie) at = (at + 1) % (1 << COOKIE_BITS);
  return &s->touched[at];
}

/* Whether an option was set on it that connect() need not look for otherwise. */
static int is_touched(struct trap_path *s, int fd) {
  uint64_t cookie;
  uint32_t length = sizeof cookie;
  if (s->touched_count == 0) return 0;
  return CALL5(GETSOCKOPT, fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0 || *place_of(s, cookie) != 0;
}

/* Whether it is a TCP socket of IPv4 that is bound to nothing, has those options as it was born, and signals nobody. */
static int is_plain(struct trap_path *s, int fd) {
  char value[16];
  for (int i = 0; i < s->check_count; i++) {
    struct check *c = &s->checks[i];
    uint32_t length = c->length; /* SO_NETNS_COOKIE takes no more */
    if (CALL5(GETSOCKOPT, fd, c->level, c->name, value, &length) != 0) return 0;
    if (length != c->length || !same(value, c->value, length)) return 0;
  }
  char name[28] = {0};
  uint32_t length = sizeof name;
  if (CALL3(GETSOCKNAME, fd, name, &length) != 0 || length != 16) return 0;
  for (int i = 0; i < 8; i++)
    if (name[i] != (i == 0 ? AF_INET : 0)) return 0;
  int32_t owner[2];
  return CALL3(FCNTL, fd, F_GETOWN_EX, owner) == 0 && (owner[0] | owner[1]) == 0 && CALL3(FCNTL, fd, F_GETSIG, 0) == 0;
}

/* Whether an epoll set of the thread has it; 1 also where that cannot be said (any more). */
static int is_watched(struct trap_path *s, struct thread *t, int fd, uint32_t number) {
  if (t->epoll_count < 0) return 1;
  for (int i = 0; i < t->epoll_count; i++) {
    uint32_t slot[3] = {t->epolls[i], number, 0};
    if (CALL5(KCMP, s->self, t->tid, KCMP_EPOLL_TFD, fd, slot) != -ENOENT) return 1;
  }
  return 0;
}

static long open_fdinfo(int32_t tid, uint32_t number) {
  char path[48];
  int at = 6;
  __builtin_memcpy(path, "/proc/", 6);
  at += put_decimal(path + at, tid);
  __builtin_memcpy(path + at, "/fdinfo/", 8);
  at += 8;
  at += put_decimal(path + at, number);
  path[at] = 0;
  return call(OPENAT, AT_FDCWD, (long)path, O_CLOEXEC, 0, 0, 0);
}

struct info { long flags; uint64_t inode; };

/* Reads "flags:\t02000002" of the second line and "ino:\t4711" of the fourth. @returns 0 where they are not there: the
 * number is closed, or the kernel is older than 5.14 */
static int read_info(int file, struct info *info) {
  char text[128];
  long length = call(PREAD, file, (long)text, sizeof text, 0, 0, 0), at = 0;
  for (int line = 1; line <= 4; line++) {
    uint64_t value = 0;
    while (at < length && text[at] != '\t') at++;
    for (at++; at < length && text[at] >= '0' && text[at] <= '9'; at++)
      value = line == 2 ? value * 8 + text[at] - '0' : value * 10 + text[at] - '0';
    if (at >= length || text[at] != '\n') return 0;
    if (line == 2) info->flags = value;
    else if (line == 4) info->inode = value;
  }
  return 1;
}

/* @returns the file that says what the number means, each time that it is read; below 0 where there is none. To be kept */
static long hold_info(struct thread *t, uint32_t number) {
  return t->fdinfo[number] != 0 ? t->fdinfo[number] : open_fdinfo(t->tid, number);
}

/* @param is_good  whether it could be read: one of a thread that is dead cannot */
static void keep_info(struct trap_path *s, struct thread *t, uint32_t number, int file, int is_good) {
  int is_known = t->fdinfo[number] == file;
  if (is_known && is_good) return;
  if (is_good && file > 0 && s->kept < s->most_kept) { /* 0, where our input was closed, means none here */
    t->fdinfo[number] = file;
    s->kept++;
    return;
  }
  CALL3(CLOSE, file, 0, 0);
  if (!is_known) return;
  t->fdinfo[number] = 0;
  s->kept--;
}
