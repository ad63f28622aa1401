/* Which epoll sets a thread has: looked at anew when that is not trusted any more. As #survey() of lib/wrap/holdings.ts. */
#pragma once
#include "trap-look.h"

/* No descriptor has that number. */
enum { NO_NUMBER = 0x7fffffff };
/* A look is trusted for so many times as long as it took, if that is longer than `trust_ticks`, and at most for so many times that. */
enum { TRUST_PER_LOOK = 25, MOST_TRUST = 25 };

static uint64_t ticks(void) { return __builtin_ia32_rdtsc(); }

struct entry { uint64_t inode, offset; uint16_t length; uint8_t type; char name[]; }; /* struct linux_dirent64 */

/* @param probe  any descriptor of ours @returns -1 where that cannot be said */
static int is_epoll(struct trap_path *s, struct thread *t, uint32_t number, int probe) {
  uint32_t slot[3] = {number, NO_NUMBER, 0};
  long result = CALL5(KCMP, s->self, t->tid, KCMP_EPOLL_TFD, probe, slot);
  if (result == -ENOENT) return 1;
  return result == -EINVAL || result == -EBADF ? 0 : -1; /* of another kind; closed since */
}

/* Adds those of a part of the directory. @returns 0 where that cannot be said, or they are too many */
static int add_epolls(struct trap_path *s, struct thread *t, const char *part, long length, int probe) {
  for (long at = 0; at < length; at += ((const struct entry *)(part + at))->length) {
    const char *name = ((const struct entry *)(part + at))->name;
    if (name[0] == '.') continue;
    uint32_t number = 0;
    while (*name != 0) number = number * 10 + *name++ - '0';
    int is = is_epoll(s, t, number, probe);
    if (is < 0 || (is && t->epoll_count == MAX_EPOLLS)) return 0;
    if (is) t->epolls[t->epoll_count++] = number;
  }
  return 1;
}

static void survey(struct trap_path *s, struct thread *t, int probe) {
  char path[32], part[2048] __attribute__((aligned(8)));
  int at = 6, is_good = 1;
  long length;
  __builtin_memcpy(path, "/proc/", 6);
  at += put_decimal(path + at, t->tid);
  __builtin_memcpy(path + at, "/fd", 4);
  long folder = call(OPENAT, AT_FDCWD, (long)path, O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
  t->epoll_count = -1;
  if (folder < 0) return;
  t->epoll_count = 0;
  while (is_good && (length = CALL3(GETDENTS64, folder, part, sizeof part)) != 0)
    is_good = length > 0 && add_epolls(s, t, part, length, probe);
  CALL3(CLOSE, folder, 0, 0);
  if (!is_good) t->epoll_count = -1;
}

/* TypeScript has found them first, and is the one to find them where we cannot. @param probe  as of is_epoll() */
static void renew_epolls(struct trap_path *s, struct thread *t, int probe) {
  uint64_t start = ticks(), *until = &s->until[t - s->threads], most = s->trust_ticks * MOST_TRUST;
  if (t->epoll_count < 0 || start < *until) return;
  survey(s, t, probe);
  uint64_t end = ticks(), trust = (end - start) * TRUST_PER_LOOK;
  if (trust < s->trust_ticks) trust = s->trust_ticks;
  *until = end + (trust < most ? trust : most);
}
