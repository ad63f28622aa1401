/**
 * The one table of native entry points. A row is the C prototype, the argument and result types, the kernel's number
 * on each architecture and the man page; backends read the row and nothing else.
 *
 * Every entry is the *raw* system call and returns `-errno` in its own result, because a global errno read afterwards
 * may belong to what the runtime did in between. `code-page.ts` turns a row into a function pointer.
 */

/** `view`: a typed array or null, lent for the call. `address`: a number, memory that shmlink itself mapped. */
export type ArgKind = "i32" | "u32" | "i64" | "address" | "view";
export type ResultKind = "i32" | "i64";

export type SymbolRow = {
  readonly c: string;
  readonly args: readonly ArgKind[];
  readonly result: ResultKind;
  readonly nr: { readonly x64: number; readonly arm64: number };
  readonly man: string;
};

function row<const A extends readonly ArgKind[], const R extends ResultKind>(
  c: string,
  args: A,
  result: R,
  x64: number,
  arm64: number,
  man: string,
): { c: string; args: A; result: R; nr: { x64: number; arm64: number }; man: string } {
  return { c, args, result, nr: { x64, arm64 }, man };
}

// biome-ignore format: a table reads best one row a line
export const SYMBOLS = {
  read:              row("ssize_t read(int fd, void *buf, size_t n)", ["i32", "view", "i64"], "i32", 0, 63, "read(2)"),
  write:             row("ssize_t write(int fd, const void *buf, size_t n)", ["i32", "view", "i64"], "i32", 1, 64, "write(2)"),
  close:             row("int close(int fd)", ["i32"], "i32", 3, 57, "close(2)"),
  openat:            row("int openat(int dirfd, const char *path, int flags, mode_t mode)", ["i32", "view", "i32", "u32"], "i32", 257, 56, "openat(2)"),
  fcntl:             row("int fcntl(int fd, int cmd, long arg)", ["i32", "i32", "i64"], "i32", 72, 25, "fcntl(2)"),
  dup3:              row("int dup3(int old, int new, int flags)", ["i32", "i32", "i32"], "i32", 292, 24, "dup(2)"),
  ftruncate:         row("int ftruncate(int fd, off_t length)", ["i32", "i64"], "i32", 77, 46, "ftruncate(2)"),
  fchmod:            row("int fchmod(int fd, mode_t mode)", ["i32", "u32"], "i32", 91, 52, "fchmod(2)"),
  flock:             row("int flock(int fd, int operation)", ["i32", "i32"], "i32", 73, 32, "flock(2)"),
  statx:             row("int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *buf)", ["i32", "view", "i32", "u32", "view"], "i32", 332, 291, "statx(2)"),
  pipe2:             row("int pipe2(int fds[2], int flags)", ["address", "i32"], "i32", 293, 59, "pipe(2)"),
  ioctl:             row("int ioctl(int fd, unsigned long request, void *arg)", ["i32", "i64", "address"], "i32", 16, 29, "ioctl(2)"),
  memfdCreate:       row("int memfd_create(const char *name, unsigned flags)", ["view", "u32"], "i32", 319, 279, "memfd_create(2)"),
  mmap:              row("void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)", ["address", "i64", "i32", "i32", "i32", "i64"], "i64", 9, 222, "mmap(2)"),
  mprotect:          row("int mprotect(void *addr, size_t length, int prot)", ["address", "i64", "i32"], "i32", 10, 226, "mprotect(2)"),
  munmap:            row("int munmap(void *addr, size_t length)", ["address", "i64"], "i32", 11, 215, "munmap(2)"),
  socket:            row("int socket(int domain, int type, int protocol)", ["i32", "i32", "i32"], "i32", 41, 198, "socket(2)"),
  socketpair:        row("int socketpair(int domain, int type, int protocol, int fds[2])", ["i32", "i32", "i32", "address"], "i32", 53, 199, "socketpair(2)"),
  bind:              row("int bind(int fd, const struct sockaddr *addr, socklen_t len)", ["i32", "view", "u32"], "i32", 49, 200, "bind(2)"),
  listen:            row("int listen(int fd, int backlog)", ["i32", "i32"], "i32", 50, 201, "listen(2)"),
  accept4:           row("int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)", ["i32", "address", "address", "i32"], "i32", 288, 242, "accept(2)"),
  connect:           row("int connect(int fd, const struct sockaddr *addr, socklen_t len)", ["i32", "view", "u32"], "i32", 42, 203, "connect(2)"),
  getsockname:       row("int getsockname(int fd, struct sockaddr *addr, socklen_t *len)", ["i32", "address", "address"], "i32", 51, 204, "getsockname(2)"),
  getpeername:       row("int getpeername(int fd, struct sockaddr *addr, socklen_t *len)", ["i32", "address", "address"], "i32", 52, 205, "getpeername(2)"),
  setsockopt:        row("int setsockopt(int fd, int level, int name, const void *value, socklen_t len)", ["i32", "i32", "i32", "view", "u32"], "i32", 54, 208, "setsockopt(2)"),
  getsockopt:        row("int getsockopt(int fd, int level, int name, void *value, socklen_t *len)", ["i32", "i32", "i32", "address", "address"], "i32", 55, 209, "getsockopt(2)"),
  shutdown:          row("int shutdown(int fd, int how)", ["i32", "i32"], "i32", 48, 210, "shutdown(2)"),
  sendto:            row("ssize_t sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr, socklen_t len)", ["i32", "view", "i64", "i32", "view", "u32"], "i32", 44, 206, "sendto(2)"),
  recvfrom:          row("ssize_t recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *addr, socklen_t *len)", ["i32", "view", "i64", "i32", "address", "address"], "i32", 45, 207, "recvfrom(2)"),
  sendmsg:           row("ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)", ["i32", "address", "i32"], "i32", 46, 211, "sendmsg(2)"),
  recvmsg:           row("ssize_t recvmsg(int fd, struct msghdr *msg, int flags)", ["i32", "address", "i32"], "i32", 47, 212, "recvmsg(2)"),
  epollCreate1:      row("int epoll_create1(int flags)", ["i32"], "i32", 291, 20, "epoll_create(2)"),
  epollCtl:          row("int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)", ["i32", "i32", "i32", "address"], "i32", 233, 21, "epoll_ctl(2)"),
  epollPwait:        row("int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout, const sigset_t *mask, size_t size)", ["i32", "address", "i32", "i32", "address", "i64"], "i32", 281, 22, "epoll_wait(2)"),
  ppoll:             row("int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t size)", ["address", "i64", "address", "address", "i64"], "i32", 271, 73, "poll(2)"),
  pidfdOpen:         row("int pidfd_open(pid_t pid, unsigned flags)", ["i32", "u32"], "i32", 434, 434, "pidfd_open(2)"),
  pidfdGetfd:        row("int pidfd_getfd(int pidfd, int target, unsigned flags)", ["i32", "i32", "u32"], "i32", 438, 438, "pidfd_getfd(2)"),
  pidfdSendSignal:   row("int pidfd_send_signal(int pidfd, int sig, siginfo_t *info, unsigned flags)", ["i32", "i32", "address", "u32"], "i32", 424, 424, "pidfd_send_signal(2)"),
  waitid:            row("int waitid(int type, id_t id, siginfo_t *info, int options, struct rusage *usage)", ["i32", "i32", "address", "i32", "address"], "i32", 247, 95, "waitid(2)"),
  kill:              row("int kill(pid_t pid, int sig)", ["i32", "i32"], "i32", 62, 129, "kill(2)"),
  prctl:             row("int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)", ["i32", "i64", "i64", "i64", "i64"], "i32", 157, 167, "prctl(2)"),
  prlimit64:         row("int prlimit64(pid_t pid, int resource, const struct rlimit *new, struct rlimit *old)", ["i32", "i32", "address", "address"], "i32", 302, 261, "prlimit(2)"),
  rtSigaction:       row("int rt_sigaction(int sig, const struct sigaction *new, struct sigaction *old, size_t size)", ["i32", "address", "address", "i64"], "i32", 13, 134, "sigaction(2)"),
  rtSigprocmask:     row("int rt_sigprocmask(int how, const sigset_t *new, sigset_t *old, size_t size)", ["i32", "address", "address", "i64"], "i32", 14, 135, "sigprocmask(2)"),
  execve:            row("int execve(const char *path, char *const argv[], char *const envp[])", ["address", "address", "address"], "i32", 59, 221, "execve(2)"),
  seccomp:           row("int seccomp(unsigned op, unsigned flags, void *args)", ["u32", "u32", "address"], "i32", 317, 277, "seccomp(2)"),
  processVmReadv:    row("ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long n, const struct iovec *remote, unsigned long m, unsigned long flags)", ["i32", "address", "i64", "address", "i64", "i64"], "i32", 310, 270, "process_vm_readv(2)"),
  processVmWritev:   row("ssize_t process_vm_writev(pid_t pid, const struct iovec *local, unsigned long n, const struct iovec *remote, unsigned long m, unsigned long flags)", ["i32", "address", "i64", "address", "i64", "i64"], "i32", 311, 271, "process_vm_readv(2)"),
  schedSetaffinity:  row("int sched_setaffinity(pid_t pid, size_t size, const unsigned long *mask)", ["i32", "i64", "view"], "i32", 203, 122, "sched_setaffinity(2)"),
  umask:             row("mode_t umask(mode_t mask)", ["u32"], "i32", 95, 166, "umask(2)"),
} as const satisfies Record<string, SymbolRow>;

export type SymbolName = keyof typeof SYMBOLS;

type ArgType<K extends ArgKind> = K extends "view" ? ArrayBufferView | null : number;
type ArgTypes<A extends readonly ArgKind[]> = { -readonly [I in keyof A]: ArgType<A[I]> };

/** What a row becomes when bound: addresses and integers are numbers, the result is a value >= 0 or -errno. */
export type BoundSymbol<N extends SymbolName> = (...args: ArgTypes<(typeof SYMBOLS)[N]["args"]>) => number;
