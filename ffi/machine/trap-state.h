/* What trap-path.c and TypeScript share, and the kernel's numbers. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "system-call.h"
#include "trap-maker.h"
#include "trap-waker.h"

/* What trap_serve() returns; ffi/trap/path.ts repeats it. */
enum { SERVED = 0, GONE = 1, LEFT_TO_YOU = 2, STILL_HELD = 3, UNANSWERED = 4, TAKEN = 5, LATE = 6 };

enum { MAX_CHECKS = 12, MAX_TARGETS = 8, MAX_THREADS = 16, MAX_EPOLLS = 5, MAX_NUMBERS = 256, MAX_LISTENERS = 8, MAX_OPTIONS = 4 };
enum { TRIES = 64 };
/* Of the table of cookies; so many of its places may be taken, and so many cookies may be new to TypeScript. */
enum { COOKIE_BITS = 17, MOST_COOKIES = 98304, MAX_NOTED = 13 };
enum { SIG_BLOCK = 0, SIG_SETMASK = 2 };

/* So many calls are answered one after the other without a return to TypeScript. */
enum { MOST_AT_ONCE = 256 };
/* So many calls in a row, between which nothing else was to be done, let the waker watch: it costs as much as one of them. */
enum { CALM = 16 };
/* So often who was asleep leaves the processor to the waker, which has a signal to send, before it sleeps until that is done. */
enum { MOST_YIELDS = 8 };
/* What is counted apart: connect, accept4, accept, getsockname, getpeername, setsockopt. */
enum { KINDS = 6 };
/* Of a listener's counters (lib/wrap/counters.ts). */
enum { UNIX = 0, TRAPS = 2, TRAP_NS = 3 };

enum { ENOENT = 2, EINTR = 4, EBADF = 9, EINVAL = 22, EADDRINUSE = 98 };
enum { AF_UNIX = 1, AF_INET = 2, SOCK_STREAM = 1, SOCK_NONBLOCK = 04000, SOCK_CLOEXEC = 02000000, SOL_SOCKET = 1, SO_PROTOCOL = 38, SO_COOKIE = 57, IPPROTO_TCP = 6, POLLIN = 1, POLLRDHUP = 020000 };
enum { F_SETFL = 4, F_GETSIG = 11, F_GETOWN_EX = 16, O_NONBLOCK = 04000, O_CLOEXEC = 02000000 };
/* What F_SETFL sets: O_APPEND, O_NONBLOCK, O_ASYNC, O_DIRECT, O_NOATIME. */
enum { SET_FLAGS = 02000 | O_NONBLOCK | 020000 | 040000 | 01000000 };
enum { O_DIRECTORY = 0200000, EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2, KCMP_EPOLL_TFD = 7, SETFD = 1, ADDFD_SEND = 2, LET_THROUGH = 1, AT_FDCWD = -100 };
#define RECV 0xc0502100u
#define SEND 0xc0182101u
#define ADDFD 0x40182103u
#define ID_VALID 0x40082102u
#define AUDIT_ARCH_X86_64 0xc000003eu

/* System calls of x86-64. */
enum { CLOSE = 3, FSTAT = 5, RT_SIGPROCMASK = 14, IOCTL = 16, PREAD = 17, SCHED_YIELD = 24, GETPID = 39, SOCKET = 41, CONNECT = 42, BIND = 49, GETSOCKNAME = 51, SETSOCKOPT = 54, ACCEPT = 43 };
enum { GETPEERNAME = 52, FUTEX = 202, GETDENTS64 = 217, PPOLL = 271, ACCEPT4 = 288, PROCESS_VM_WRITEV = 311 };
enum { GETSOCKOPT = 55, FCNTL = 72, EPOLL_WAIT = 232, EPOLL_CTL = 233, OPENAT = 257, PROCESS_VM_READV = 310, GETCPU = 309, KCMP = 312, PIDFD_GETFD = 438 };

struct notif { uint64_t id; uint32_t pid, flags; int32_t nr; uint32_t arch; uint64_t ip; uint64_t args[6]; };
struct response { uint64_t id; int64_t value; int32_t error; uint32_t flags; };
struct addfd { uint64_t id; uint32_t flags, from, to, to_flags; };
struct part { void *address; uint64_t length; };
struct status { uint64_t device, inode, others[16]; }; /* struct stat */
struct event { uint32_t events; uint64_t data; } __attribute__((packed));

/* An option that has to have this value. */
struct check { int32_t level, name; uint32_t length, unused; char value[16]; };

/* Where a listener is, by the first bytes of the sockaddr_in that leads there: family, port, address. */
struct target {
  char key[8];
  uint32_t used, path_length;
  char path[112];          /* its sockaddr_un */
  struct name_parts parts; /* of a client's name */
};

struct thread {
  int32_t tid, pidfd, epoll_count, epolls[MAX_EPOLLS];
  int32_t fdinfo[MAX_NUMBERS]; /* /proc/TID/fdinfo/NUMBER, kept open; 0 for none. One that belongs to a dead thread says so */
};

struct listener {
  uint64_t cookie; /* 0 for none */
  uint32_t used, option_count, address_length, path_length;
  char address[32]; /* what a client on 127.0.0.1 looks like, its port missing */
  char path[112];   /* the sockaddr_un that it and its connections have */
  struct check options[MAX_OPTIONS]; /* that its connections inherit */
};

/* How often, and how long that took by the processor's clock. */
struct count { uint64_t times, ticks, longest; };

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
  int32_t touched_count;                        /* 64: places that are taken in `touched`; ours too */
  int32_t is_received;                          /* 68: ours: whether the next call is in `notif` already */
  struct waker *waker;                          /* 72: NULL: nobody could wake us in the listener */
  struct check checks[MAX_CHECKS];              /* 80 */
  struct target targets[MAX_TARGETS];
  struct thread threads[MAX_THREADS];
  uint64_t *touched;             /* cookies of sockets whose options are not as they were born, each at or after the place
                                    that its hash says, with no gap before it; 0 for a place that is free */
  uint64_t noted_options;        /* of SOL_SOCKET, a bit each: which are remembered when they are set, and not looked for */
  uint32_t noted_count, unused_here;
  uint64_t noted[MAX_NOTED];     /* ours: those of them that TypeScript does not know of */
  struct listener listeners[MAX_LISTENERS];
  char name[128];      /* ours: of TAKEN: the peer's address */
  uint32_t name_length, ends_length;
  char ends[2][32];    /* what stands before the client's port and before the server's, between 127.0.0.1s */
  int32_t others, unused_too;                   /* 22168: has something to be read when somebody else has work for our thread */
  uint64_t most_ticks;                          /* 22176: for so long calls may be answered */
  uint64_t passed, since;                       /* 22184: ours: ticks since we were called, and since the last call came */
  struct count kinds[KINDS];                    /* 22200: ours, until TypeScript takes it */
  uint64_t reached[MAX_TARGETS];                /* ours too: connections to each target */
  uint64_t ns_each_tick;                        /* times 2^32; 0: not known yet */
  uint64_t *counters[MAX_LISTENERS];            /* 22416: what others may look at while nobody of us does; 0 for none */
  uint64_t until[MAX_THREADS];                  /* 22480: when the epoll sets of each are to be looked at again; 0: at once */
  uint64_t trust_ticks;                         /* 22608: for so long, at least, that is trusted; 0: not known yet */
  struct maker *maker;                          /* 22616: NULL: sockets are made when they are needed */
};
_Static_assert(sizeof(struct check) == 32 && sizeof(struct target) == 264 && sizeof(struct thread) == 1056, "ffi/trap");
_Static_assert(offsetof(struct trap_path, fd) == 56 && offsetof(struct trap_path, waker) == 72 && offsetof(struct trap_path, checks) == 80, "ffi/trap");
_Static_assert(offsetof(struct trap_path, touched) == 19472 && offsetof(struct trap_path, noted) == 19496 && sizeof(struct listener) == 296, "ffi/trap");
_Static_assert(offsetof(struct trap_path, listeners) == 19600 && offsetof(struct trap_path, name) == 21968, "ffi/trap");
_Static_assert(offsetof(struct trap_path, ends) == 22104 && offsetof(struct trap_path, others) == 22168, "ffi/trap");
_Static_assert(offsetof(struct trap_path, kinds) == 22200 && sizeof(struct count) == 24, "ffi/trap");
_Static_assert(offsetof(struct trap_path, counters) == 22416 && offsetof(struct trap_path, trust_ticks) == 22608 && offsetof(struct trap_path, maker) == 22616 && sizeof(struct trap_path) == 22624, "ffi/trap");

#define CALL3(n, a, b, c) call(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define CALL5(n, a, b, c, d, e) call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
