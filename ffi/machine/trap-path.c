/* The common case of a trapped call in machine code: a connect() that ends as the one before it did, at a listener that
 * TypeScript has found and for a thread that it has looked at; an accept() that finds such a connection; and the names of
 * both ends. The same steps in the same order as lib/wrap/handlers/ and lib/wrap/swap.ts. Whatever is unusual (an option that was set, a socket that is bound, an epoll
 * set that holds it, a refusal) is left before anything of the program has changed, and TypeScript does it from the
 * beginning. One call from TypeScript does the thirty system calls of a connect; for x86-64 alone.
 * compile-entries.ts makes machine code of this file, which is committed: no compiler is there at run time.
 *
 * Nothing here confirms by itself that a call still waits: each answer is given under its id, ids are never used twice,
 * and the kernel refuses one (ENOENT) whose thread went on. What that id waited for is therefore what was looked at. */
#include <stddef.h>
#include <stdint.h>

#include "system-call.h"

/* What trap_serve() returns; ffi/trap-path.ts repeats it. */
enum { SERVED = 0, GONE = 1, LEFT_TO_YOU = 2, STILL_HELD = 3, UNANSWERED = 4, TAKEN = 5 };

enum { MAX_CHECKS = 12, MAX_TARGETS = 8, MAX_THREADS = 16, MAX_EPOLLS = 4, MAX_NUMBERS = 256, MAX_TOUCHED = 16, MAX_LISTENERS = 8, MAX_OPTIONS = 4 };
enum { TRIES = 64 };

enum { ENOENT = 2, EINTR = 4, EADDRINUSE = 98 };
enum { AF_UNIX = 1, AF_INET = 2, SOCK_STREAM = 1, SOCK_NONBLOCK = 04000, SOCK_CLOEXEC = 02000000, SOL_SOCKET = 1, SO_COOKIE = 57 };
enum { F_GETFL = 3, F_SETFL = 4, F_GETSIG = 11, F_GETOWN_EX = 16, O_NONBLOCK = 04000, O_ASYNC = 020000 };
enum { O_CLOEXEC = 02000000, EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2, KCMP_FILE = 0, KCMP_EPOLL_TFD = 7, SETFD = 1, ADDFD_SEND = 2, AT_FDCWD = -100 };
#define RECV 0xc0502100u
#define SEND 0xc0182101u
#define ADDFD 0x40182103u
#define ID_VALID 0x40082102u
#define AUDIT_ARCH_X86_64 0xc000003eu

/* System calls of x86-64. */
enum { CLOSE = 3, IOCTL = 16, PREAD = 17, SOCKET = 41, CONNECT = 42, BIND = 49, GETSOCKNAME = 51, SETSOCKOPT = 54, ACCEPT = 43 };
enum { GETPEERNAME = 52, PPOLL = 271, ACCEPT4 = 288, PROCESS_VM_WRITEV = 311 };
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

struct listener {
  uint64_t cookie; /* 0 for none */
  uint32_t used, option_count, address_length, path_length;
  char address[32]; /* what a client on 127.0.0.1 looks like, its port missing */
  char path[112];   /* the sockaddr_un that it and its connections have */
  struct check options[MAX_OPTIONS]; /* that its connections inherit */
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
  struct listener listeners[MAX_LISTENERS];
  char name[128];      /* ours: of TAKEN: the peer's address */
  uint32_t name_length, ends_length;
  char ends[2][32];    /* what stands before the client's port and before the server's, between 127.0.0.1s */
};
_Static_assert(sizeof(struct check) == 32 && sizeof(struct target) == 264 && sizeof(struct thread) == 1056, "trap-path.ts");
_Static_assert(offsetof(struct trap_path, fd) == 56 && offsetof(struct trap_path, checks) == 80, "trap-path.ts");
_Static_assert(offsetof(struct trap_path, touched) == 19472 && sizeof(struct listener) == 296, "trap-path.ts");
_Static_assert(offsetof(struct trap_path, listeners) == 19600 && offsetof(struct trap_path, name) == 21968, "trap-path.ts");
_Static_assert(offsetof(struct trap_path, ends) == 22104 && sizeof(struct trap_path) == 22168, "trap-path.ts");

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
  *flags = CALL3(FCNTL, fd, F_GETFL, 0);
  if (*flags < 0 || (*flags & O_ASYNC)) return 0;
  return CALL3(FCNTL, fd, F_GETOWN_EX, owner) == 0 && owner[1] == 0 && CALL3(FCNTL, fd, F_GETSIG, 0) == 0;
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
  if (flags >= 0 && file > 0 && s->kept < s->most_kept) { /* 0, where our input was closed, means none here */
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

/* Reads the two ports off the name of a client's end between IPv4's loopback addresses. */
static int read_ports(struct trap_path *s, const char *name, uint32_t length, uint16_t *ports) {
  uint32_t at = 0;
  for (int end = 0; end < 2; end++) {
    uint32_t value = 0, start, head = end == 0 ? s->ends_length & 0xffff : s->ends_length >> 16;
    if (at + head >= length || !same(name + at, s->ends[end], head)) return 0;
    for (start = at += head; at < length && at < start + 5 && name[at] >= '0' && name[at] <= '9'; at++)
      value = value * 10 + name[at] - '0';
    if (at == start || value > 65535) return 0;
    ports[end] = value << 8 | value >> 8;
  }
  return at == length;
}

/* @returns the room that a caller's length says, -1 where it cannot be used */
static int32_t read_room(const struct notif *n, uint64_t where) {
  int32_t room;
  struct part here = {&room, sizeof room}, there = {(void *)where, sizeof room};
  long result = where == 0 ? 0 : call(PROCESS_VM_READV, n->pid, (long)&here, 1, (long)&there, 1, 0);
  return result == sizeof room ? room : -1;
}

/* Writes an address and its length into the program's memory, if the call waits still. */
static int write_address(struct trap_path *s, const struct notif *n, char *address, uint32_t length, uint32_t room) {
  struct part here[2] = {{address, length < room ? length : room}, {&length, sizeof length}};
  struct part there[2] = {{(void *)n->args[1], here[0].length}, {(void *)n->args[2], sizeof length}};
  if (ask(s, ID_VALID, (void *)&n->id) != 0) return 0;
  return call(PROCESS_VM_WRITEV, n->pid, (long)here, 2, (long)there, 2, 0) == (long)(here[0].length + sizeof length);
}

static void write_ipv4(char *address, uint16_t port) {
  uint32_t words[4] = {AF_INET | (uint32_t)port << 16, 0x0100007f, 0, 0};
  __builtin_memcpy(address, words, sizeof words);
}

static struct listener *find_listener(struct trap_path *s, int fd) {
  uint64_t cookie;
  uint32_t length = sizeof cookie;
  if (CALL5(GETSOCKOPT, fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) return NULL;
  for (int i = 0; i < MAX_LISTENERS; i++)
    if (s->listeners[i].used && s->listeners[i].cookie == cookie) return s->target = i, &s->listeners[i];
  return NULL;
}

/* Gives a connection that was accepted to the call. @returns TAKEN where TypeScript has to look */
static int32_t give(struct trap_path *s, const struct notif *n, struct listener *l, int fd, uint32_t flags, int32_t room) {
  uint16_t ports[2];
  char address[32];
  if (!read_ports(s, s->name, s->name_length, ports)) return TAKEN; /* a marker, a probe, a stranger */
  CALL5(SETSOCKOPT, fd, SOL_SOCKET, s->buffer_name, &s->buffer_bytes, 4);
  for (uint32_t i = 0; i < l->option_count; i++)
    CALL5(SETSOCKOPT, fd, l->options[i].level, l->options[i].name, l->options[i].value, l->options[i].length);
  for (uint32_t at = 0; at < sizeof address; at++) address[at] = l->address[at];
  __builtin_memcpy(address + 2, ports, 2);
  if (n->args[1] != 0 && !write_address(s, n, address, l->address_length, room)) return TAKEN;
  struct addfd add = {n->id, ADDFD_SEND, fd, 0, flags & SOCK_CLOEXEC};
  if (ask(s, ADDFD, &add) < 0) return TAKEN;
  CALL3(CLOSE, fd, 0, 0);
  return SERVED;
}

static int32_t take(struct trap_path *s, const struct notif *n, int listener, uint32_t flags, int32_t room) {
  struct listener *l = find_listener(s, listener);
  struct { int32_t fd; int16_t events, revents; } ready = {listener, 1, 0};
  uint64_t at_once[2] = {0, 0};
  /* All accept() calls come to us: what poll(2) sees is there still, and accept(2) cannot block, whatever O_NONBLOCK says. */
  if (l == NULL || CALL5(PPOLL, &ready, 1, at_once, 0, 8) != 1 || ready.revents != 1) return LEFT_TO_YOU;
  s->name_length = sizeof s->name;
  uint32_t how = (flags & SOCK_NONBLOCK) | SOCK_CLOEXEC;
  long fd = call(ACCEPT4, listener, (long)s->name, (long)&s->name_length, how, 0, 0);
  if (fd < 0) return LEFT_TO_YOU;
  s->fd = fd;
  return give(s, n, l, fd, flags, room);
}

static int32_t serve_accept(struct trap_path *s, const struct notif *n, uint32_t flags) {
  struct thread *t = find_thread(s, n->pid);
  if (t == NULL || (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))) return LEFT_TO_YOU;
  int32_t room = n->args[1] == 0 ? 0 : read_room(n, n->args[2]);
  long fd = room < 0 ? -1 : CALL3(PIDFD_GETFD, t->pidfd, (int32_t)n->args[0], 0);
  if (fd < 0) return LEFT_TO_YOU;
  int32_t result = take(s, n, fd, flags, room);
  CALL3(CLOSE, fd, 0, 0);
  return result;
}

/* Makes the address that an end of a connection is to show. @returns its length; 0 where TypeScript has to look */
static uint32_t name_end(struct trap_path *s, int fd, int is_peer, char *address) {
  char own[128], peer[128];
  uint32_t own_length = sizeof own, peer_length = sizeof peer;
  uint16_t ports[2];
  if (CALL3(GETSOCKNAME, fd, own, &own_length) != 0 || own[0] != AF_UNIX) return 0;
  if (read_ports(s, own, own_length, ports)) return write_ipv4(address, ports[is_peer]), 16;
  for (int i = 0; i < MAX_LISTENERS; i++) {
    struct listener *l = &s->listeners[i];
    if (!l->used || l->path_length != own_length || !same(l->path, own, own_length)) continue;
    if (CALL3(GETPEERNAME, fd, peer, &peer_length) != 0 || !read_ports(s, peer, peer_length, ports)) return 0;
    for (int at = 0; at < 32; at++) address[at] = l->address[at];
    __builtin_memcpy(address + 2, &ports[!is_peer], 2);
    return l->address_length;
  }
  return 0;
}

static int32_t serve_name(struct trap_path *s, const struct notif *n, int is_peer) {
  struct thread *t = find_thread(s, n->pid);
  char address[32];
  long fd = t == NULL || n->args[1] == 0 ? -1 : CALL3(PIDFD_GETFD, t->pidfd, (int32_t)n->args[0], 0);
  if (fd < 0) return LEFT_TO_YOU;
  uint32_t length = name_end(s, fd, is_peer, address);
  CALL3(CLOSE, fd, 0, 0);
  int32_t room = length == 0 ? -1 : read_room(n, n->args[2]);
  if (room < 0 || !write_address(s, n, address, length, room) || !answer(s, n, 0)) return LEFT_TO_YOU;
  s->target = -1;
  return SERVED;
}

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
