/* The common case of a trapped call in machine code: a connect() that ends as the one before it did, at a listener that
 * TypeScript has found and for a thread that it has looked at. The same steps in the same order as
 * lib/wrap/handlers/connect.ts and lib/wrap/swap.ts. Whatever is unusual (an option that was set, a socket that is bound, an epoll
 * set that holds it, a refusal) is left before anything of the program has changed, and TypeScript does it from the
 * beginning. One call from TypeScript does the thirty system calls of a connect; for x86-64 alone.
 * compile-trap-path.ts makes machine code of this file, which is committed: no compiler is there at run time.
 *
 * Nothing here confirms by itself that a call still waits: each answer is given under its id, ids are never used twice,
 * and the kernel refuses one (ENOENT) whose thread went on. What that id waited for is therefore what was looked at. */
#include <stddef.h>
#include <stdint.h>

/* What trap_serve() returns; ffi/trap-path.ts repeats it. */
enum { SERVED = 0, GONE = 1, LEFT_TO_YOU = 2, STILL_HELD = 3, UNANSWERED = 4 };

enum { MAX_CHECKS = 12, MAX_TARGETS = 8, MAX_THREADS = 16, MAX_EPOLLS = 4, MAX_NUMBERS = 256, MAX_TOUCHED = 16 };
enum { TRIES = 64 };

enum { ENOENT = 2, EINTR = 4, EADDRINUSE = 98 };
enum { AF_UNIX = 1, AF_INET = 2, SOCK_STREAM = 1, SOCK_NONBLOCK = 04000, SOCK_CLOEXEC = 02000000, SOL_SOCKET = 1, SO_COOKIE = 57 };
enum { F_GETFL = 3, F_SETFL = 4, F_GETSIG = 11, F_GETOWN_EX = 16, O_NONBLOCK = 04000, O_ASYNC = 020000 };
enum { O_CLOEXEC = 02000000, EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2, KCMP_EPOLL_TFD = 7, SETFD = 1, AT_FDCWD = -100 };
#define RECV 0xc0502100u
#define SEND 0xc0182101u
#define ADDFD 0x40182103u
#define AUDIT_ARCH_X86_64 0xc000003eu

/* System calls of x86-64. */
enum { CLOSE = 3, IOCTL = 16, PREAD = 17, SOCKET = 41, CONNECT = 42, BIND = 49, GETSOCKNAME = 51, SETSOCKOPT = 54 };
enum { GETSOCKOPT = 55, FCNTL = 72, EPOLL_CTL = 233, OPENAT = 257, PROCESS_VM_READV = 310, KCMP = 312, PIDFD_GETFD = 438 };

struct notif { uint64_t id; uint32_t pid, flags; int32_t nr; uint32_t arch; uint64_t ip; uint64_t args[6]; };
struct response { uint64_t id; int64_t value; int32_t error; uint32_t flags; };
struct addfd { uint64_t id; uint32_t flags, from, to, to_flags; };
struct part { void *address; uint64_t length; };

/* An option that has to have this value. */
struct check { int32_t level, name; uint32_t length, unused; char value[16]; };

/* Where a listener is, by the first bytes of the sockaddr_in that leads there: family, port, address. */
struct target {
  char key[8];
  uint32_t used, path_length, head_length, tail_length;
  char path[112];          /* its sockaddr_un */
  char head[64], tail[64]; /* of a client's name, before and after its port */
};

struct thread {
  int32_t tid, pidfd, epoll_count, epolls[MAX_EPOLLS], unused;
  int32_t fdinfo[MAX_NUMBERS]; /* /proc/TID/fdinfo/NUMBER, kept open; 0 for none. One that belongs to a dead thread says so */
};

/* TypeScript writes all of it but what says otherwise. Descriptors in it are lent. */
struct trap_path {
  struct notif *notif;                          /* 0: the call that was received last */
  int32_t notify, epoll, self, check_count;     /* 8 */
  int32_t buffer_name, buffer_bytes;            /* 24: of the socket's room for sending */
  int32_t first_port, port_count;               /* 32: ephemeral ports, every second one */
  int32_t next_port;                            /* 40: ours */
  int32_t kept, most_kept;                      /* 44: how many fdinfo files are open: we add, who closes them subtracts */
  int32_t target;                               /* 52: ours: which one was reached */
  int32_t fd, from;                             /* 56: ours: of STILL_HELD and UNANSWERED: the socket that is in place, to be
                                                   closed, and the number that the old one had */
  int32_t touched_count, unused[3];             /* 64 */
  struct check checks[MAX_CHECKS];              /* 80 */
  struct target targets[MAX_TARGETS];
  struct thread threads[MAX_THREADS];
  uint64_t touched[MAX_TOUCHED]; /* cookies of sockets on which an option was set that only TCP has */
};
_Static_assert(sizeof(struct check) == 32 && sizeof(struct target) == 264 && sizeof(struct thread) == 1056, "trap-path.ts");
_Static_assert(offsetof(struct trap_path, fd) == 56 && offsetof(struct trap_path, checks) == 80, "trap-path.ts");
_Static_assert(offsetof(struct trap_path, touched) == 19472 && sizeof(struct trap_path) == 19600, "trap-path.ts");

static inline long call(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#define CALL3(n, a, b, c) call(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define CALL5(n, a, b, c, d, e) call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

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

static int is_touched(struct trap_path *s, int fd) {
  uint64_t cookie;
  uint32_t length = sizeof cookie;
  if (s->touched_count == 0) return 0;
  if (CALL5(GETSOCKOPT, fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) return 1;
  for (int i = 0; i < s->touched_count; i++)
    if (s->touched[i] == cookie) return 1;
  return 0;
}

/* Whether it is a TCP socket of IPv4 that is bound to nothing, has its options as it was born, and signals nobody. */
static int is_plain(struct trap_path *s, int fd, long *flags) {
  char value[16];
  for (int i = 0; i < s->check_count; i++) {
    struct check *c = &s->checks[i];
    uint32_t length = sizeof value;
    if (CALL5(GETSOCKOPT, fd, c->level, c->name, value, &length) != 0) return 0;
    if (length != c->length || !same(value, c->value, length)) return 0;
  }
  char name[28] = {0};
  uint32_t length = sizeof name;
  if (CALL3(GETSOCKNAME, fd, name, &length) != 0 || length != 16) return 0;
  for (int i = 0; i < 8; i++)
    if (name[i] != (i == 0 ? AF_INET : 0)) return 0;
  int32_t owner[2];
  *flags = CALL3(FCNTL, fd, F_GETFL, 0);
  if (*flags < 0 || (*flags & O_ASYNC)) return 0;
  return CALL3(FCNTL, fd, F_GETOWN_EX, owner) == 0 && owner[1] == 0 && CALL3(FCNTL, fd, F_GETSIG, 0) == 0;
}

/* Whether an epoll set of the thread has it; 1 also where that cannot be said any more. */
static int is_watched(struct trap_path *s, struct thread *t, int fd, uint32_t number) {
  for (int i = 0; i < t->epoll_count; i++) {
    uint32_t slot[3] = {t->epolls[i], number, 0};
    if (CALL5(KCMP, s->self, t->tid, KCMP_EPOLL_TFD, fd, slot) != -ENOENT) return 1;
  }
  return 0;
}

static int put_decimal(char *to, uint32_t value) {
  char digits[12];
  int count = 0, at = 0;
  do digits[count++] = '0' + value % 10;
  while (value /= 10);
  while (count > 0) to[at++] = digits[--count];
  return at;
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

/* The octal number of the second line, "flags:\t02000002". @returns -1 where there is none */
static long read_flags(int file) {
  char text[128];
  long length = call(PREAD, file, (long)text, sizeof text, 0, 0, 0), at = 0, flags = 0;
  while (at < length && text[at] != '\n') at++;
  while (at < length && text[at] != '\t') at++;
  for (at++; at < length && text[at] >= '0' && text[at] <= '7'; at++) flags = flags * 8 + text[at] - '0';
  return at < length && text[at] == '\n' ? flags : -1;
}

/* @returns O_CLOEXEC or 0; -1 where it cannot be said */
static long close_on_exec(struct trap_path *s, struct thread *t, uint32_t number) {
  long file = t->fdinfo[number], flags;
  if (file != 0) {
    if ((flags = read_flags(file)) >= 0) return flags & O_CLOEXEC;
    CALL3(CLOSE, file, 0, 0);
    t->fdinfo[number] = 0;
    s->kept--;
    return -1;
  }
  if ((file = open_fdinfo(t->tid, number)) < 0) return -1;
  flags = read_flags(file);
  if (flags >= 0 && s->kept < s->most_kept) {
    t->fdinfo[number] = file;
    s->kept++;
  } else CALL3(CLOSE, file, 0, 0);
  return flags < 0 ? -1 : flags & O_CLOEXEC;
}

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

static int32_t answer(struct trap_path *s, const struct notif *n, int64_t value) {
  struct response response = {n->id, value, 0, 0};
  return CALL3(IOCTL, s->notify, SEND, &response) == 0;
}

/* Puts `to` in the place of `from`, and closes `from`. @returns LEFT_TO_YOU: neither is done */
static int32_t swap(struct trap_path *s, const struct notif *n, int from, int to, uint32_t flags) {
  struct { uint32_t events; uint64_t data; } __attribute__((packed)) event = {0, 0};
  uint32_t number = n->args[0], slot[3] = {s->epoll, from, 0};
  if (CALL5(EPOLL_CTL, s->epoll, EPOLL_CTL_ADD, from, &event, 0) != 0) return LEFT_TO_YOU;
  struct addfd add = {n->id, SETFD, to, number, flags};
  if (CALL3(IOCTL, s->notify, ADDFD, &add) < 0) {
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
  if (t == NULL || number >= MAX_NUMBERS || length < 16 || length > 128) return LEFT_TO_YOU;
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

/* Takes the next call, which has to be there, and answers it. @returns LEFT_TO_YOU: it is in `notif`; an error below 0 */
int32_t trap_serve(struct trap_path *s) {
  struct notif *n = s->notif;
  for (uint32_t at = 0; at < sizeof *n; at++) ((char *)n)[at] = 0; /* anything else is EINVAL */
  long result = CALL3(IOCTL, s->notify, RECV, n);
  if (result == -ENOENT || result == -EINTR) return GONE;
  if (result < 0) return result;
  if (n->arch != AUDIT_ARCH_X86_64 || n->nr != CONNECT) return LEFT_TO_YOU;
  return serve_connect(s, n);
}
